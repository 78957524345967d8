"""Seconds that computing with a model takes, from the operations it needs and what the device was measured to do."""

from __future__ import annotations

from aifw.hardware.machine import Machine

SHARE = 0.6
"""Of the speed of a matrix product, what a whole model reaches: norms, attention, small products and padding are in it."""
_CORE = 7.0e10
"""Multiplications and additions a second of one core in fp32, each counted, where nothing was measured: a server core with AVX2."""
_ACCELERATOR = 2.0e12
"""The same of a device that is no processor; a small integrated GPU."""


def seconds_for(operations: float, machine: Machine, precision: str = "fp32") -> tuple[float, bool]:
    """Seconds at the place a machine is seen from, and whether its speed was measured.

    Args:
        operations: Multiplications and additions, each counted.
        machine: `devices[0]` computes; of a processor `cpu.cores` do.
        precision: Format of the arithmetic.
    """
    device = machine.devices[0]
    measured = machine.measured.get(device)
    speed = measured.throughput.get(precision) if measured is not None else None
    if speed is None or speed <= 0:
        default = _CORE * machine.cpu.cores if device.partition(":")[0] == "cpu" else _ACCELERATOR
        return operations / (SHARE * default), False
    return operations / (SHARE * speed), True
