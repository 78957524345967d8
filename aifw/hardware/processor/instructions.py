"""Instruction sets that matter to numerical work, grouped by what they are for.

Two sources: the flags of /proc/cpuinfo, which tell what the processor has and the kernel lets programs use, and CPUID leaf 7,
subleaf 1, through `/dev/cpu/N/cpuid` where that may be read. The second is asked about the few instruction sets the kernel does not
list; without it they are unknown, not missing.

Sources: the kernel's cpufeatures.h, arch/x86/cpuinfo.rst and arm64/elf_hwcaps.rst; Intel's Software Developer's Manual, volume 2, CPUID.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aifw.hardware.tree import LARGEST, Reasons, Tree, fields, read_bytes

_X86: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("AVX2", "vectors of 256 bits", ("avx", "avx2", "fma", "f16c")),
    (
        "AVX-512",
        "vectors of 512 bits",
        (
            "avx512f",
            "avx512bw",
            "avx512dq",
            "avx512vl",
            "avx512cd",
            "avx512_vbmi",
            "avx512_vbmi2",
            "avx512_vpopcntdq",
            "avx512_bitalg",
            "avx512ifma",
        ),
    ),
    ("VNNI", "int8 products added up in int32", ("avx_vnni", "avx512_vnni", "avx_vnni_int8")),
    ("BF16", "bf16 products added up in fp32", ("avx512_bf16", "avx_ne_convert")),
    ("FP16", "arithmetic in fp16", ("avx512_fp16",)),
    ("AMX", "matrix products in tiles", ("amx_tile", "amx_int8", "amx_bf16", "amx_fp16")),
)
_ARM: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("NEON", "vectors of 128 bits", ("asimd",)),
    ("SVE", "vectors of a length the processor chooses", ("sve", "sve2")),
    ("int8", "int8 products added up in int32", ("asimddp", "i8mm")),
    ("BF16", "bf16 products added up in fp32", ("bf16",)),
    ("FP16", "arithmetic in fp16", ("fphp", "asimdhp")),
    ("SME", "matrix products in tiles", ("sme", "sme2")),
)
_SPELLINGS = {"avx512vbmi": "avx512_vbmi"}
"""Names /proc/cpuinfo uses, where those here differ so that one group reads alike."""
_NOT_LISTED = {"avx_vnni_int8": (3, 4), "avx_ne_convert": (3, 5), "amx_fp16": (0, 21)}
"""Register (EAX, EBX, ECX, EDX) and bit in CPUID leaf 7, subleaf 1, of what kernels do not list, or only some versions."""
_SUBLEAF = (1 << 32) + 7
"""Position in /dev/cpu/N/cpuid: leaf in the lower half, subleaf in the upper."""
_NEEDS_TILES = frozenset({"amx_fp16"})


@dataclass(frozen=True, slots=True)
class InstructionGroup:
    """Instruction sets for one purpose.

    Attributes:
        name: As people call it.
        purpose: What they do.
        present: Those programs can use here.
        missing: Those they cannot.
        unknown: Those neither the kernel nor the processor could be asked about.
    """

    name: str
    purpose: str
    present: tuple[str, ...]
    missing: tuple[str, ...]
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InstructionsFound:
    """The instruction sets all processors have.

    Attributes:
        groups: By purpose; empty where nothing is known.
        unknown: What could not be found out, and why.
    """

    groups: tuple[InstructionGroup, ...]
    unknown: tuple[str, ...] = ()


def find_instructions(tree: Tree) -> InstructionsFound:
    """Read what there is."""
    reasons = Reasons()
    found = tree.look("proc/cpuinfo", LARGEST)
    names = [name for name, _ in fields(found.text, ("flags", "Features"))]
    sets = [frozenset(value.split()) for _, value in fields(found.text, ("flags", "Features"))]
    if not sets or not any(sets):
        reasons.add(f"the instruction sets are unknown: /proc/cpuinfo {found.problem or 'lists none'}")
        return InstructionsFound((), reasons.all())
    common = frozenset.intersection(*sets)
    if differ := sorted({flag for each in sets for flag in each - common}):
        reasons.add(f"not every processor has {', '.join(differ[:8])}, so they do not count")
    has = common | {_SPELLINGS[flag] for flag in common if flag in _SPELLINGS}
    if names[0] == "Features":
        return InstructionsFound(tuple(_group(*each, has, frozenset()) for each in _ARM), reasons.all())
    registers = _subleaf(tree)
    unclear = frozenset[str]()
    if registers is None:
        unclear = frozenset(_NOT_LISTED) - has
        # What works on tiles is not there where tiles are not.
        unclear -= _NEEDS_TILES if "amx_tile" not in has else frozenset()
        if unclear:
            reasons.add(
                f"whether the processor has {', '.join(sorted(unclear))} is unknown: the kernel does not list them, and "
                f"/dev/cpu/0/cpuid, where the processor could be asked, cannot be read"
            )
    else:
        told = {flag for flag, (register, bit) in _NOT_LISTED.items() if registers[register] >> bit & 1}
        # CPUID tells what the processor has; that the kernel enables tiles and 256-bit vectors is what its flags tell.
        has |= {flag for flag in told if ("amx_tile" if flag in _NEEDS_TILES else "avx2") in has}
    return InstructionsFound(tuple(_group(*each, has, unclear) for each in _X86), reasons.all())


def _group(
    name: str, purpose: str, flags: tuple[str, ...], has: frozenset[str], unclear: frozenset[str]
) -> InstructionGroup:
    return InstructionGroup(
        name=name,
        purpose=purpose,
        present=tuple(flag for flag in flags if flag in has),
        missing=tuple(flag for flag in flags if flag not in has | unclear),
        unknown=tuple(flag for flag in flags if flag in unclear),
    )


def _subleaf(tree: Tree) -> tuple[int, ...] | None:
    """The four registers of CPUID leaf 7, subleaf 1; None where they cannot be had."""
    path = f"{tree.root}/dev/cpu/0/cpuid"
    try:
        highest, leaf = read_bytes(path, 16, 0), read_bytes(path, 16, 7)
        # A processor without the subleaf may repeat another one.
        if len(highest) != 16 or int.from_bytes(highest[:4], "little") < 7 or len(leaf) != 16:
            return None
        if int.from_bytes(leaf[:4], "little") < 1:
            return 0, 0, 0, 0
        return tuple(_words(read_bytes(path, 16, _SUBLEAF))) or None
    except (OSError, ValueError):
        return None


def _words(registers: bytes) -> Iterator[int]:
    if len(registers) == 16:
        yield from (int.from_bytes(registers[start : start + 4], "little") for start in range(0, 16, 4))
