"""Which instruction set runs, who may choose, and that no code of one leaks into another."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest
from compiled import ROOT, SOURCES, compile_object, level_flags
from hypothesis import given
from hypothesis import strategies as st

from aifw.errors import UsageError
from aifw.search import kernel

# Flags as /proc/cpuinfo names them, and where CPUID has them.
LEAF1_ECX = {"fma": 12, "popcnt": 23, "osxsave": 27, "avx": 28}
LEAF7_EBX = {"avx2": 5, "avx512f": 16, "avx512dq": 17, "avx512bw": 30, "avx512vl": 31}
LEAF7_ECX = {"avx512_vnni": 11}
LEAF7_1_EAX = {"avx_vnni": 4}
YMM, ZMM = 0x07, 0xE7

HASWELL = {"popcnt", "osxsave", "avx", "avx2", "fma"}
AVX512 = HASWELL | {"avx512f", "avx512dq", "avx512bw", "avx512vl"}


def registers(flags: set[str], xcr0: int) -> dict[str, int]:
    """What CPUID and XGETBV say on a machine with these flags."""

    def bits(places: Mapping[str, int]) -> int:
        return sum(1 << place for flag, place in places.items() if flag in flags)

    return {
        "leaf1_ecx": bits(LEAF1_ECX),
        "leaf7_ebx": bits(LEAF7_EBX),
        "leaf7_ecx": bits(LEAF7_ECX),
        "leaf7_1_eax": bits(LEAF7_1_EAX),
        "xcr0": xcr0,
    }


@pytest.fixture(scope="module")
def extension() -> ModuleType:
    """The kernel. It may only be missing where it was left out on purpose."""
    if os.environ.get("AIFW_NO_KERNEL"):
        return pytest.importorskip("aifw.search._kernel", reason="left out", exc_type=ModuleNotFoundError)
    return importlib.import_module("aifw.search._kernel")


@pytest.mark.parametrize(
    ("flags", "xcr0", "levels"),
    [
        pytest.param(HASWELL | {"avx_vnni"}, YMM, "scalar avx2 avxvnni", id="Core Ultra: AVX-VNNI, no AVX-512"),
        pytest.param(AVX512 | {"avx512_vnni"}, ZMM, "scalar avx2 avx512 avx512vnni", id="Ice Lake"),
        pytest.param(AVX512, ZMM, "scalar avx2 avx512", id="Skylake-X"),
        pytest.param(
            AVX512 | {"avx512_vnni", "avx_vnni"}, ZMM, "scalar avx2 avxvnni avx512 avx512vnni", id="Sapphire Rapids"
        ),
        pytest.param(HASWELL, YMM, "scalar avx2", id="Zen 2"),
        pytest.param({"popcnt", "osxsave", "avx"}, YMM, "scalar", id="Sandy Bridge: AVX without AVX2"),
        pytest.param({"popcnt"}, 0, "scalar", id="Westmere"),
        pytest.param(AVX512 | {"avx512_vnni"}, YMM, "scalar avx2", id="the system does not save zmm"),
        pytest.param(
            AVX512 | {"avx512_vnni"}, ZMM & ~0x20, "scalar avx2", id="the system does not save the mask registers"
        ),
        pytest.param(AVX512 | {"avx512_vnni", "avx_vnni"}, 0x03, "scalar", id="the system does not save ymm"),
        pytest.param(AVX512 - {"osxsave"}, 0, "scalar", id="the system does not use XSAVE"),
        pytest.param(HASWELL - {"avx2"} | {"avx_vnni"}, YMM, "scalar", id="a virtual machine hides AVX2"),
        pytest.param(AVX512 - {"avx2"}, ZMM, "scalar", id="a virtual machine hides AVX2 but not AVX-512"),
        pytest.param(HASWELL - {"avx"}, YMM, "scalar", id="a virtual machine hides AVX but not AVX2"),
        pytest.param(AVX512 - {"avx512vl"} | {"avx512_vnni"}, ZMM, "scalar avx2", id="Knights Mill: no AVX-512 VL"),
        pytest.param(HASWELL | {"avx512_vnni"}, ZMM, "scalar avx2", id="AVX-512 VNNI without AVX-512"),
    ],
)
def test_levels_follow_from_the_registers(extension: ModuleType, flags: set[str], xcr0: int, levels: str) -> None:
    assert extension.usable_for(**registers(flags, xcr0)) == tuple(levels.split())


# Machines that have everything but a few bits: of bits drawn evenly too few would have any level.
LACKING = st.sets(st.integers(0, 31), max_size=3).map(lambda places: 0xFFFFFFFF - sum(1 << place for place in places))


@given(
    st.fixed_dictionaries(dict.fromkeys(registers(set(), 0), LACKING)),
    st.sampled_from(sorted(registers(set(), 0))),
    st.integers(0, 31),
)
def test_more_bits_never_mean_fewer_levels(
    extension: ModuleType, values: dict[str, int], name: str, place: int
) -> None:
    fewer = set(extension.usable_for(**values))
    more = set(extension.usable_for(**values | {name: values[name] | 1 << place}))
    assert fewer <= more
    for level, below in {"avx2": "scalar", "avxvnni": "avx2", "avx512": "avx2", "avx512vnni": "avx512"}.items():
        assert level not in more or below in more


def test_a_captured_machine(extension: ModuleType) -> None:
    zen2 = {"leaf1_ecx": 0xFFF83203, "leaf7_ebx": 0x219C01AB, "leaf7_ecx": 0x400004, "leaf7_1_eax": 0, "xcr0": 7}
    assert extension.usable_for(**zen2) == ("scalar", "avx2")


def test_every_level_is_known_here_too(extension: ModuleType) -> None:
    everything = dict.fromkeys(registers(set(), 0), 0xFFFFFFFF)
    assert extension.usable_for(**everything) == kernel.LEVELS
    assert set(extension.built()) <= set(kernel.LEVELS)


def test_what_is_usable_agrees_with_the_system(extension: ModuleType) -> None:
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    found = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    if not found:
        pytest.skip("not an x86 processor")
    # The system leaves out of this list what it does not save the registers for.
    flags = {"osxsave", *found[1].split()}
    expected = extension.usable_for(**registers(flags, ZMM))
    assert extension.usable() == tuple(level for level in extension.built() if level in expected)


def test_levels_can_be_selected(extension: ModuleType) -> None:
    before = extension.level()
    try:
        for level in extension.usable():
            extension.select(level)
            assert extension.level() == level
        for level in ["avx3", "", *(level for level in kernel.LEVELS if level not in extension.usable())]:
            with pytest.raises(ValueError, match="scalar"):
                extension.select(level)
        assert extension.level() == extension.usable()[-1]
    finally:
        extension.select(before)


def test_a_choice_is_one_of_the_usable() -> None:
    built, usable = ("scalar", "avx2", "avx512"), ("scalar", "avx2")
    assert kernel.choose("", built, usable) is None
    assert kernel.choose("scalar", built, usable) == "scalar"
    assert kernel.choose("numpy", (), ()) == "numpy"
    for wanted, why in {
        "avx512": "this processor or its operating system does not support it",
        "avxvnni": "this build of the kernel does not have it",
        "avx3": "no such instruction set",
    }.items():
        with pytest.raises(UsageError, match=f"^AIFW_SIMD={wanted}: {why}") as refused:
            kernel.choose(wanted, built, usable)
        assert refused.value.hint is not None
        assert "numpy, scalar, avx2;" in refused.value.hint
    with pytest.raises(UsageError, match=r"^AIFW_SIMD=avx2: installed without$"):
        kernel.choose("avx2", (), (), "installed without")


@pytest.mark.parametrize("name", ["Index", "Selection", "kernel_info()"])
def test_without_numpy_it_is_said_what_to_install(extension: ModuleType, name: str) -> None:
    script = (
        "import sys\n"
        "class NoNumpy:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'numpy': raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, NoNumpy())\n"
        "import aifw.search\n"
        "from aifw.errors import DependencyMissing\n"
        f"try: aifw.search.{name}\n"
        "except DependencyMissing as error: print(error, error.hint)"
    )
    environment = {each: value for each, value in os.environ.items() if each not in {kernel.VARIABLE, kernel.NO_KERNEL}}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "numpy" in done.stdout
    assert "pip install 'aifw[search]'" in done.stdout


def _info(wanted: str | None, before: str = "", left_out: str = "") -> str:
    """What a new process says of its kernel, or of its refusal."""
    script = (
        f"{before}\n"
        "from aifw.errors import UsageError\n"
        "from aifw.search import kernel, kernel_info\n"
        "try: info = kernel_info()\n"
        "except UsageError as error: print('refused:', error)\n"
        "else: print(info.level, kernel.loaded() is not None, info.compiler, info.reason, sep='|')"
    )
    environment = {name: value for name, value in os.environ.items() if name != kernel.VARIABLE}
    environment[kernel.NO_KERNEL] = left_out
    if wanted is not None:
        environment[kernel.VARIABLE] = wanted
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_best_level_runs_unless_another_is_named(extension: ModuleType) -> None:
    assert _info(None).split("|")[:2] == [extension.usable()[-1], "True"]
    assert _info("").split("|")[:2] == [extension.usable()[-1], "True"]
    for level in extension.usable():
        assert _info(level.upper()) == f"{level}|True|{extension.compiler()}|None"
    assert re.match(r"(gcc|clang) \d+\.\d+", extension.compiler())


def test_a_level_that_is_not_possible_is_refused(extension: ModuleType) -> None:
    for level in set(kernel.LEVELS) - set(extension.usable()):
        assert _info(level).startswith(f"refused: AIFW_SIMD={level}: this ")
    assert _info("sse9") == "refused: AIFW_SIMD=sse9: no such instruction set"


def test_numpy_may_be_chosen() -> None:
    assert _info("numpy").startswith("numpy|False|None|")


def test_a_kernel_that_is_left_out_is_not_said_to_run() -> None:
    assert _info("avx2", left_out="1") == "numpy|False|None|AIFW_NO_KERNEL=1"
    assert _info(None, left_out="0") == _info(None, left_out="False") == _info(None)


def test_an_installation_without_the_kernel_says_so() -> None:
    hide = "import sys; sys.modules['aifw.search._kernel'] = None"
    assert _info(None, hide) == "numpy|False|None|aifw was installed without its compiled kernel"
    assert _info("avx2", hide) == "refused: AIFW_SIMD=avx2: aifw was installed without its compiled kernel"


def test_an_extension_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    (tmp_path / f"_kernel{sysconfig.get_config_var('EXT_SUFFIX')}").write_bytes(b"not an extension")
    elsewhere = f"import aifw.search; aifw.search.__path__.insert(0, {str(tmp_path)!r})"
    assert _info(None, elsewhere).startswith("numpy|False|None|the compiled kernel cannot be loaded: ")


def test_the_room_is_entered_without_numpy_or_the_kernel() -> None:
    script = "import sys; import aifw.search, aifw.search.kernel; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"numpy", "aifw.search._kernel"} & set(done.stdout.split())


def test_threads_are_those_this_process_may_use() -> None:
    assert 1 <= kernel.default_threads() <= len(os.sched_getaffinity(0))


def test_every_level_has_its_file_andlevel_flags() -> None:
    assert tuple(level_flags()) == kernel.LEVELS
    assert all((SOURCES / f"{level}.cpp").exists() for level in kernel.LEVELS)


def _included(path: Path) -> set[str]:
    """What a source includes, headers of the kernel followed."""
    found: set[str] = set()
    for name in re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)', path.read_text(encoding="utf-8"), re.MULTILINE):
        own = path.parent / name
        found |= _included(own) if own.exists() else {name}
    return found


@pytest.mark.parametrize("level", kernel.LEVELS)
def test_instruction_sets_include_no_code_of_others(level: str) -> None:
    # Inline functions of a library, compiled here for more than every processor has, could be the ones the linker keeps.
    assert _included(SOURCES / f"{level}.cpp") <= {"cstdint", "cstddef", "immintrin.h"}


def _symbols(source: Path, flags: list[str], folder: Path) -> tuple[set[str], set[str]]:
    """Names that the object of a source defines for others, and those that it needs from them."""
    lister = shutil.which("nm")
    if lister is None:
        pytest.skip("no nm (Debian, Ubuntu: apt install binutils)")
    target = compile_object(source, folder / f"{source.stem}.o", "-O3", *flags)
    listed = subprocess.run([lister, "--format=posix", str(target)], capture_output=True, text=True, check=True)
    symbols = [line.split()[:2] for line in listed.stdout.splitlines()]
    # Capitals are seen from outside; u, v, V, w and W are unique or weak: the linker keeps one of several, whoever compiled it.
    defined = {name for name, kind in symbols if kind in "uvVwW" or (kind.isupper() and kind != "U")}
    return defined, {name for name, kind in symbols if kind == "U"}


@pytest.mark.parametrize("level", kernel.LEVELS)
def test_an_instruction_set_shows_its_table_only(level: str, tmp_path: Path) -> None:
    defined, needed = _symbols(SOURCES / f"{level}.cpp", level_flags()[level], tmp_path)
    assert len(defined) == 1
    assert re.fullmatch(rf"_ZN4aifw\d+k{level}E", defined.pop(), re.IGNORECASE)
    assert needed <= {"memcpy", "memset", "memmove", "_GLOBAL_OFFSET_TABLE_"}


def test_code_that_leaks_would_be_seen(tmp_path: Path) -> None:
    leaking = tmp_path / "leaking.cpp"
    leaking.write_text("inline int twice(int x) { return 2 * x; }\nint (*volatile used)(int) = twice;\n")
    defined, _ = _symbols(leaking, ["-mavx2"], tmp_path)
    assert "_Z5twicei" in defined
