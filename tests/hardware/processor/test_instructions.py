"""Instruction sets, from the flags of the kernel and from CPUID."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aifw.hardware.processor.instructions import InstructionsFound, find_instructions
from aifw.hardware.tree import Tree

Own = Callable[..., Path]


def _sets(found: InstructionsFound) -> dict[str, tuple[str, str, str]]:
    return {
        each.name: (" ".join(each.present), " ".join(each.missing), " ".join(each.unknown)) for each in found.groups
    }


def _cpuid(root: Path, eax: int = 0, edx: int = 0, highest: int = 0x23, subleaves: int = 2) -> Tree:
    """A device of a processor: position is leaf, and subleaf in the upper half."""
    device = root / "dev/cpu/0/cpuid"
    device.parent.mkdir(parents=True)
    with device.open("wb") as file:
        for position, registers in (
            (0, (highest, 0, 0, 0)),
            (7, (subleaves, 0, 0, 0)),
            ((1 << 32) + 7, (eax, 0, 0, edx)),
        ):
            file.seek(position)
            file.write(b"".join(register.to_bytes(4, "little") for register in registers))
    return Tree(root)


def test_meteor_lake(captured: Callable[[str], Path]) -> None:
    found = find_instructions(Tree(captured("core-ultra-7-155h")))
    sets = _sets(found)
    assert sets["AVX2"] == ("avx avx2 fma f16c", "", "")
    assert sets["AVX-512"][0] == ""
    assert sets["VNNI"] == ("avx_vnni", "avx512_vnni", "avx_vnni_int8")
    assert sets["AMX"] == ("", "amx_tile amx_int8 amx_bf16 amx_fp16", ""), "without tiles nothing works on them"
    assert "/dev/cpu/0/cpuid" in found.unknown[0]


def test_xeon_has_everything_of_its_time(captured: Callable[[str], Path]) -> None:
    sets = _sets(find_instructions(Tree(captured("xeon-silver-4410y"))))
    assert sets["AVX-512"][1] == ""
    assert sets["BF16"][0] == "avx512_bf16"
    assert sets["FP16"] == ("avx512_fp16", "", "")
    assert sets["AMX"] == ("amx_tile amx_int8 amx_bf16", "", "amx_fp16")


def test_zen_4(captured: Callable[[str], Path]) -> None:
    sets = _sets(find_instructions(Tree(captured("ryzen-9-7950x"))))
    assert sets["VNNI"][0] == "avx512_vnni"
    assert sets["BF16"][0] == "avx512_bf16"
    assert sets["FP16"] == ("", "avx512_fp16", "")
    assert sets["AMX"][0] == ""


def test_the_processor_is_asked_for_what_the_kernel_does_not_list(own_tree: Own) -> None:
    tree = _cpuid(own_tree("core-ultra-7-258v"), edx=1 << 4 | 1 << 5)
    found = find_instructions(tree)
    assert _sets(found)["VNNI"] == ("avx_vnni avx_vnni_int8", "avx512_vnni", "")
    assert _sets(found)["BF16"] == ("avx_ne_convert", "avx512_bf16", "")
    assert found.unknown == ()


def test_the_processor_says_no(own_tree: Own) -> None:
    tree = _cpuid(own_tree("xeon-silver-4410y"))
    assert _sets(find_instructions(tree))["AMX"] == ("amx_tile amx_int8 amx_bf16", "amx_fp16", "")


@pytest.mark.parametrize("device", [{"highest": 6}, {"subleaves": 0}])
def test_a_leaf_that_is_not_there_is_not_believed(own_tree: Own, device: dict[str, int]) -> None:
    tree = _cpuid(own_tree("core-ultra-7-258v"), edx=0xFFFFFFFF, **device)
    assert "avx_vnni_int8" not in _sets(find_instructions(tree))["VNNI"][0]


def test_tiles_the_kernel_does_not_enable_do_not_count(own_tree: Own) -> None:
    tree = _cpuid(own_tree("core-ultra-7-258v"), eax=1 << 21)
    assert _sets(find_instructions(tree))["AMX"] == ("", "amx_tile amx_int8 amx_bf16 amx_fp16", "")


def test_only_what_every_processor_has_counts(own_tree: Own) -> None:
    root = own_tree(
        files={"proc/cpuinfo": "processor : 0\nflags : avx avx2 avx512f\n\nprocessor : 1\nflags : avx avx2"}
    )
    found = find_instructions(Tree(root))
    assert "avx512f" in _sets(found)["AVX-512"][1]
    assert "not every processor has avx512f, so they do not count" in found.unknown


def test_arm(own_tree: Own) -> None:
    root = own_tree(files={"proc/cpuinfo": "processor : 0\nFeatures : fp asimd asimddp fphp asimdhp i8mm bf16 sve"})
    found = find_instructions(Tree(root))
    assert _sets(found) == {
        "NEON": ("asimd", "", ""),
        "SVE": ("sve", "sve2", ""),
        "int8": ("asimddp i8mm", "", ""),
        "BF16": ("bf16", "", ""),
        "FP16": ("fphp asimdhp", "", ""),
        "SME": ("", "sme sme2", ""),
    }
    assert found.unknown == ()


@pytest.mark.parametrize("text", ["", "processor : 0\n", "flags :\n", "\0\0\0", "flags"])
def test_without_flags_nothing_is_known(own_tree: Own, text: str) -> None:
    found = find_instructions(Tree(own_tree(files={"proc/cpuinfo": text})))
    assert found.groups == ()
    assert found.unknown == ("the instruction sets are unknown: /proc/cpuinfo lists none",)
