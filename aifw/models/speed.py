"""Seconds that computing with a model takes, from what it has to do and what the device was measured to do.

Four speeds: of products of matrices, of reading memory, of writing tensors, of calling operators. The first two are measured by
`aifw hardware --measure`. How fast a machine is in all of them alike, one earlier run tells
(`aifw.plan.forecast`); what one run cannot tell is how they differ, so that is what has to be right here.
"""

from __future__ import annotations

from aifw.hardware.machine import Machine
from aifw.models.work import Work

SHARE = 0.9
"""Of the speed of a square product of matrices, what those of a model reach, which are thin in one direction. Measured."""
_CORE = 7.0e10
"""Multiplications and additions a second of one core in fp32, each counted, where nothing was measured: a server core with AVX2."""
_INT8 = 1.5
"""Of a core's speed in fp32, that of OpenVINO with weights in INT8, where nothing was measured. Fitted to three runs."""
_ACCELERATOR = 2.0e12
"""The same of a device that is no processor; a small integrated GPU."""
_CORE_BANDWIDTH = 1.0e10
"""Bytes a second that one core reads from memory, where nothing was measured."""
_ACCELERATOR_BANDWIDTH = 5.0e10
_PAGES_OF_CORE = 2.5e9
"""Bytes a second of new tensors that one core writes: most of that time the system takes to find pages and fill them with zeros, since
`aifw.run.launch.MAPPINGS` gives tensors mappings of their own. Into memory that is there already it writes five times as fast. Measured
on a virtual machine."""
_REUSED_OF_CORE = 8.0e9
"""The same where workers get an allocator that hands freed tensors out again."""
_WRITTEN = 0.4
"""Of the speed of reading, that of writing tensors on other devices, which keep their memory: what they are made from is read first."""
_SECONDS_OF_CALL = 8e-6
"""Of calling one operator from Python with the modules of transformers around it. Assumed: a bare addition was measured to take 2 µs."""


def seconds_for(
    work: Work, machine: Machine, precision: str = "fp32", *, reuses_memory: bool = False
) -> tuple[float, bool]:
    """Seconds at the place a machine is seen from, and whether its speed was measured.

    Args:
        work: To be done.
        machine: `devices[0]` computes; of a processor `cpu.cores` do.
        precision: Format of the arithmetic.
        reuses_memory: The worker gets an allocator that hands freed tensors out again, where the machine has one.
    """
    device = machine.devices[0]
    processor = device.partition(":")[0] == "cpu"
    measured = machine.measured.get(device)
    speed = measured.throughput.get(precision) if measured is not None else None
    bandwidth = measured.bandwidth if measured is not None else None
    known = speed is not None and speed > 0
    if speed is None or speed <= 0:
        speed = _CORE * machine.cpu.cores if processor else _ACCELERATOR
        speed *= _INT8 if precision == "int8" else 1.0
    if bandwidth is None or bandwidth <= 0:
        bandwidth = _CORE_BANDWIDTH * machine.cpu.cores if processor else _ACCELERATOR_BANDWIDTH
    of_core = _REUSED_OF_CORE if reuses_memory and machine.reuses_memory else _PAGES_OF_CORE
    writing = of_core * machine.cpu.cores if processor else _WRITTEN * bandwidth
    memory = work.read / bandwidth + work.made / writing
    return work.operations / (SHARE * speed) + memory + _SECONDS_OF_CALL * work.calls, known
