"""The build's own objects executed on processors that have their instructions, emulated by Bochs."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from sabotage import MISTAKES, Mistake

EMULATOR = Path(__file__).parents[2] / "kernels" / "emulator"
KERNELS = EMULATOR.parent
SECONDS = 240  # how long a machine that should be off by then is waited for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("emulate", EMULATOR / "emulate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


emulate = _loaded()


@dataclass(frozen=True)
class Image:
    """What an image is made of."""

    commands: dict[str, list[str]]
    parts: dict[str, Path]

    def run(self, folder: Path, model: str = "corei7_icelake_u") -> list[str]:
        return emulate.run(emulate.link_image(self.parts, folder / "image.rom"), model, SECONDS).splitlines()

    def mistaken(self, mistake: Mistake, folder: Path) -> Image:
        """The same with one kernel made of changed sources."""
        name = mistake.level
        target = emulate.compile_file(self.commands[name], mistake.write(folder), folder / f"{name}.o")
        return Image(self.commands, self.parts | {name: target})

    def rebuilt(self, name: str, folder: Path, *flags: str) -> Image:
        """The same with one part of the test program compiled with more flags."""
        (source,) = EMULATOR.glob(f"{name}.[cS]*")
        target = emulate.compile_file([*self.commands["scalar"], *flags], source, folder / f"{name}.o")
        return Image(self.commands, self.parts | {name: target})


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    if sys.platform != "linux":
        pytest.skip("the image is linked with GNU binutils")
    missing = [tool for tool in ("bochs", "cmake", "g++", "ld", "objcopy") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: apt install bochs cmake g++")
    folder = tmp_path_factory.mktemp("image")
    commands = emulate.compile_commands(folder / "build")
    return Image(commands, emulate.compile_parts(commands, folder, seed=1, rounds=60))


def test_kernels_agree_with_the_scalar_ones(image: Image, tmp_path: Path) -> None:
    thorough = image.rebuilt("machine", tmp_path, *emulate.FREESTANDING, "-DSEED=20u", "-DROUNDS=500")
    assert thorough.run(tmp_path) == [
        "usable: scalar avx2 avx512 avx512vnni",
        "selected: avx512vnni",
        "avx2: 17500 checks, 0 differences",
        "avx512: 17500 checks, 0 differences",
        "avx512vnni: 17500 checks, 0 differences",
        "complete",
    ]


@pytest.mark.parametrize(
    ("model", "usable"),
    [
        ("core2_penryn_t9600", ["scalar"]),
        ("corei7_sandy_bridge_2600k", ["scalar"]),
        ("corei7_haswell_4770", ["scalar", "avx2"]),
        ("ryzen", ["scalar", "avx2"]),
        ("corei7_skylake_x", ["scalar", "avx2", "avx512"]),
        ("tigerlake", ["scalar", "avx2", "avx512", "avx512vnni"]),
    ],
)
def test_the_highest_level_of_a_processor_is_selected(
    image: Image, tmp_path: Path, model: str, usable: list[str]
) -> None:
    said = image.run(tmp_path, model)
    assert said[:2] == [f"usable: {' '.join(usable)}", f"selected: {usable[-1]}"]
    assert said[2:] == [*(f"{level}: 2100 checks, 0 differences" for level in usable[1:]), "complete"]


@pytest.mark.parametrize(("saved", "usable"), [("0x07", "scalar avx2"), ("0x03", "scalar")])
def test_registers_that_the_system_does_not_save_are_left_alone(
    image: Image, tmp_path: Path, saved: str, usable: str
) -> None:
    said = image.rebuilt("boot", tmp_path, f"-DSAVED={saved}").run(tmp_path)
    assert said[0] == f"usable: {usable}"
    assert said[-1] == "complete"


# Bochs 2.7 has no processor with AVX-VNNI, but some with AVX-512's form of the one instruction that is new in it: the same
# operation on the same registers, encoded otherwise.
@pytest.mark.parametrize("wrong", [False, True])
def test_avx_vnni_code_agrees_where_its_instruction_is_encoded_for_avx_512(
    image: Image, tmp_path: Path, *, wrong: bool
) -> None:
    listing = emulate.compile_file([*image.commands["avxvnni"], "-S"], KERNELS / "avxvnni.cpp", tmp_path / "avxvnni.s")
    before = "{vex} vpdpbusd\t"
    text = listing.read_text(encoding="utf-8")
    assert text.count(before) > 10
    assert text.count("vpdpbusd") == text.count(before)
    text = text.replace(before, "{evex} vpdpbusd\t")
    listing.write_text(text.replace("vpsrlw\t$4", "vpsrlw\t$3") if wrong else text, encoding="utf-8")
    target = emulate.compile_file(image.commands["scalar"], listing, tmp_path / "avxvnni.o")
    also = image.rebuilt("machine", tmp_path, *emulate.FREESTANDING, "-DSEED=3u", "-DROUNDS=100", "-DALSO=kAvxVnni")
    said = Image(also.commands, also.parts | {"avxvnni": target}).run(tmp_path)
    assert said[-1] == "complete"
    assert (said[-2] == "avxvnni: 3500 checks, 0 differences") is not wrong
    assert re.fullmatch(r"avxvnni: 3500 checks, \d+ differences", said[-2])


@pytest.mark.parametrize(
    "mistake",
    [pytest.param(each, id=each.label) for each in MISTAKES if each.level in {"avx2", "avx512", "avx512vnni"}],
)
def test_a_kernel_that_is_wrong_is_found_out(image: Image, tmp_path: Path, mistake: Mistake) -> None:
    name = mistake.level
    said = image.mistaken(mistake, tmp_path).run(tmp_path)
    noticed = {found[1] for line in said if (found := re.match(rf"{name}: (\w+): .* differs with dimensions ", line))}
    assert noticed == set(mistake.functions)
    counted = {line.partition(":")[0]: line for line in said if " checks, " in line}
    assert re.fullmatch(rf"{name}: 2100 checks, [1-9]\d* differences", counted.pop(name))
    assert len(counted) == 2
    assert all(line.endswith(": 2100 checks, 0 differences") for line in counted.values())


def test_code_for_another_processor_is_found_out(image: Image, tmp_path: Path) -> None:
    target = emulate.compile_file(image.commands["avx512"], KERNELS / "avx2.cpp", tmp_path / "avx2.o")
    with pytest.raises(RuntimeError, match=r"(?s)the program did not finish.*usable: scalar avx2"):
        Image(image.commands, image.parts | {"avx2": target}).run(tmp_path, "corei7_haswell_4770")
