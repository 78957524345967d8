"""Which number format a device should compute in, as far as that can be told without asking a library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from aifw.hardware.machine import Machine, Measured

Precision = Literal["fp32", "bf16"]

_ENOUGH_FOR_BF16 = (frozenset({"avx512bw", "avx512vl", "avx512dq"}), frozenset({"avx_ne_convert"}), frozenset({"bf16"}))
"""Flags of processors for which oneDNN, which torch computes with, has bf16 of its own (x86 twice, ARM)."""


def bf16_is_faster(device: str, measured: Mapping[str, Measured]) -> bool | None:
    """Whether a device multiplied faster in bf16 than in fp32, or None unless both were measured."""
    throughput = measured[device].throughput if device in measured else {}
    if "bf16" not in throughput or "fp32" not in throughput:
        return None
    return throughput["bf16"] > throughput["fp32"]


def expected_precision(wanted: Literal["auto", "fp32", "bf16"], device: str, machine: Machine) -> Precision:
    """What `aifw.hardware.libraries.backend` will probably choose for torch, for forecasts: it asks torch, this goes by flags."""
    if wanted != "auto":
        return wanted
    if device.partition(":")[0] != "cpu":
        return "bf16"
    able = any(flags <= machine.cpu.flags for flags in _ENOUGH_FOR_BF16)
    return "bf16" if able and bf16_is_faster(device, machine.measured) is not False else "fp32"
