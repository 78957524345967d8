"""Vector kernels on machines that lack the instructions: emulated by SIMDe, and read as machine code."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from compiled import SOURCES, compile_object, compiler, level_flags
from sabotage import FUSED, MISTAKES, NARROW, OTHER_ORDER, Mistake

EMULATOR = SOURCES / "emulator"
SCALAR, COMPARE = SOURCES / "scalar.cpp", EMULATOR / "compare.cpp"
TABLES = {"avx2": "kAvx2", "avxvnni": "kAvxVnni", "avx512": "kAvx512", "avx512vnni": "kAvx512Vnni"}
PLAIN = ("-O0",)
# The others take as long to compile.
QUICK = [("avx2", NARROW[1]), ("avxvnni", OTHER_ORDER)]
SANITIZED = ("-Og", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="session")
def simde() -> Path:
    """Where SIMDe's headers are. Releases before 0.8 lack operations that the kernels use."""
    folders = [Path("/usr/include"), Path("/usr/local/include")]
    if importlib.util.find_spec("simde_py"):
        folders.insert(0, Path(importlib.import_module("simde_py").get_include()))
    for folder in folders:
        common = folder / "simde" / "simde-common.h"
        found = common.exists() and re.search(r"define SIMDE_VERSION_MINOR (\d+)", common.read_text(encoding="utf-8"))
        if found and int(found[1]) >= 8:
            return folder
    pytest.skip("the emulated kernels need SIMDe 0.8 or newer: pip install simde-py")


def emulated(source: Path, simde: Path, folder: Path, flags: tuple[str, ...]) -> Path:
    """A program that compares one file's kernels, which SIMDe emulates, with the scalar ones."""
    headers = ("-I", str(EMULATOR / "simde"), "-isystem", str(simde), "-Wno-psabi")
    table = f"-DTESTED={TABLES[source.stem]}"
    objects = [
        compile_object(source, folder / f"{source.stem}.o", *flags, *headers),
        compile_object(EMULATOR / "process.cpp", folder / "process.o", table, *flags),
        *(compile_object(each, folder / f"{each.stem}.o", *flags) for each in (SCALAR, COMPARE)),
    ]
    program = folder / source.stem
    subprocess.run([compiler(), *flags, *objects, "-o", program], check=True)
    return program


def compared(program: Path, *, seed: int, rounds: int) -> tuple[int, str]:
    """Exit status and text of a comparison."""
    done = subprocess.run([program, str(seed), str(rounds)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("level", TABLES)
def test_emulated_kernels_agree_with_the_scalar_ones(level: str, simde: Path, tmp_path: Path) -> None:
    program = emulated(SOURCES / f"{level}.cpp", simde, tmp_path, PLAIN)
    for seed in range(1, 6):
        assert compared(program, seed=seed, rounds=60) == (0, f"{level}: 2100 checks, 0 differences\n")


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(each, id=each.label, marks=[] if (each.level, each.after) in QUICK else [pytest.mark.slow])
        for each in MISTAKES
        if each.after != FUSED  # SIMDe computes it in two steps
    ],
)
def test_a_kernel_that_is_wrong_is_noticed(mistake: Mistake, simde: Path, tmp_path: Path) -> None:
    source = mistake.write(tmp_path)
    status, said = compared(emulated(source, simde, tmp_path, PLAIN), seed=1, rounds=60)
    assert status == 1
    level = mistake.level
    noticed = set(re.findall(rf"^{level}: (\w+): .+ differs with dimensions \d+, queries", said, re.MULTILINE))
    assert noticed == set(mistake.functions)
    assert re.search(rf"^{level}: 2100 checks, [1-9]\d* differences$", said, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("level", TABLES)
def test_emulated_kernels_agree_in_many_cases(
    level: str, simde: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0")  # nothing is allocated; looking for leaks needs ptrace
    program = emulated(SOURCES / f"{level}.cpp", simde, tmp_path, SANITIZED)
    for seed in range(1000, 1010):
        assert compared(program, seed=seed, rounds=1000) == (0, f"{level}: 35000 checks, 0 differences\n")


# Instructions that no file but those named in `excess` may hold, by the feature that they need.
BEYOND = {
    "vnni": r"vpdp\w+",
    "vbmi": r"vperm(b|i2b|t2b)|vpmultishiftqb",
    "vbmi2": r"vp(compress|expand)[bw]|vpsh[lr]dv?[wdq]",
    "bitalg, vpopcntdq": r"vpopcnt[bwdq]|vpshufbitqmb",
    "ifma": r"vpmadd52\w+",
    "bf16, fp16": r"vcvtne\w+|vdpbf16ps|v\w+[ps]h",
    "conflict detection": r"vpconflict\w+|vplzcnt\w+|vpbroadcastm\w+",
    "aes, gfni, clmul": r"vaes\w+|vgf2\w+|vpclmul\w+",
    "bmi": r"andn|bextr|bls(i|r|msk)|bzhi|pdep|pext|mulx|rorx|sarx|shlx|shrx|lzcnt",
}
# GCC writes `rep bsf` for counting zeros below a bit that is set, which older processors read as `bsf`.
OTHER_VEX = re.compile(r"v\w+|k\w+")


def instructions(listed: str) -> Counter[tuple[str, str]]:
    """Encoding (vex, evex or legacy) and name of each instruction that objdump lists."""
    found: Counter[tuple[str, str]] = Counter()
    for line in listed.splitlines():
        parts = line.split("\t")
        if len(parts) < 3:
            continue
        codes = [code for code in parts[1].split() if code not in {"2e", "36", "3e", "26", "64", "65", "67"}]
        # In 64-bit code these bytes begin nothing else.
        encoding = {"62": "evex", "c4": "vex", "c5": "vex"}.get(codes[0] if codes else "", "legacy")
        name = re.sub(r"^(\{\w+\}|data16|rep\w*|lock|cs|ds) ", "", parts[2].strip()).split()
        found[encoding, name[0] if name else ""] += 1
    return found


def excess(level: str, found: Counter[tuple[str, str]]) -> set[str]:
    """Instructions that a file of this level must not hold."""
    allowed = {"vnni"} if level in {"avxvnni", "avx512vnni"} else set()
    forbidden = "|".join(pattern for feature, pattern in BEYOND.items() if feature not in allowed)
    bad = set()
    for encoding, name in found:
        fused = re.fullmatch(r"vf(n?m(add|sub)|maddsub|msubadd)\w+", name)
        if (
            re.fullmatch(forbidden, name)
            or (encoding == "evex" and not level.startswith("avx512"))
            or (encoding == "vex" and (level == "scalar" or not OTHER_VEX.fullmatch(name)))
            or (encoding == "vex" and level == "avx512vnni" and name.startswith("vpdp"))
            # FMA is a feature of its own unless it is part of AVX-512, and would change the bound.
            or (fused and (encoding == "vex" or name.endswith(("ps", "ss"))))
        ):
            bad.add(f"{encoding} {name}")
    return bad


def disassembled(level: str, folder: Path, *flags: str) -> Counter[tuple[str, str]]:
    lister = shutil.which("objdump")
    if lister is None:
        pytest.skip("no objdump: apt install binutils")
    compiled = compile_object(SOURCES / f"{level}.cpp", folder / f"{level}.o", "-O3", *level_flags()[level], *flags)
    command = [lister, "-d", "--insn-width=16", str(compiled)]
    return instructions(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Counter[tuple[str, str]]]:
    """Instructions of each file, compiled as the build does."""
    folder = tmp_path_factory.mktemp("files")
    return {level: disassembled(level, folder) for level in ["scalar", "avx2", *TABLES]}


def test_files_hold_the_instructions_of_their_level(files: dict[str, Counter[tuple[str, str]]]) -> None:
    assert {level: excess(level, found) for level, found in files.items()} == {level: set() for level in files}
    assert {encoding for encoding, _ in files["scalar"]} == {"legacy"}
    assert files["scalar"].total() > 100
    assert files["avx2"]["vex", "vpmaddubsw"] > 10
    assert files["avxvnni"]["vex", "vpdpbusd"] > 10
    assert files["avx512"]["evex", "vpmaddubsw"] > 10
    assert files["avx512vnni"]["evex", "vpdpbusd"] > 10


def test_instructions_of_a_higher_level_would_be_seen(
    files: dict[str, Counter[tuple[str, str]]], tmp_path: Path
) -> None:
    assert excess("avx2", files["avxvnni"]) == {"vex vpdpbusd"}
    assert "evex vpdpbusd" in excess("avxvnni", files["avx512vnni"])
    assert excess("avx512", files["avx512vnni"]) == {"evex vpdpbusd"}
    assert "vex vpaddd" in excess("scalar", files["avxvnni"])
    more = disassembled("avx2", tmp_path, "-mfma", "-mbmi", "-mbmi2", "-ffp-contract=fast")
    assert any(name.startswith("vex vfmadd") for name in excess("avx2", more))
    assert excess("avx2", more) & {"vex blsr", "vex shlx", "vex andn"}
