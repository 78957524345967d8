"""What the probe found, as values. Planning looks at nothing else of a machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from aifw.hardware.processor.cores import Cores

DeviceKind = Literal["integrated_gpu", "discrete_gpu", "npu", "ncs2"]


@dataclass(frozen=True, slots=True)
class Cpu:
    """Processor as /proc/cpuinfo and the scheduler report it.

    Attributes:
        model: Name, or `unknown`.
        cores: Processors this process may run on (affinity and cgroup quota), at least 1.
        flags: Instruction set flags.
        layout: Which processors these are, their kinds and which share a core; None where nobody looked.
    """

    model: str
    cores: int
    flags: frozenset[str] = frozenset()
    layout: Cores | None = None


@dataclass(frozen=True, slots=True)
class Pressure:
    """Share of time, in percent, in which at least one task (`some`) or every task (`full`) waited for memory, as PSI reports it.

    Source: Documentation/accounting/psi.rst of the kernel.
    """

    some_10s: float
    some_60s: float
    full_10s: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes.

    Attributes:
        total: Of the machine.
        available: What can be had without swapping (MemAvailable).
        limit: The smallest cgroup limit above this process, or None.
        swap_total: Swap space, or None if unknown.
        swap_free: Of it, unused, or None if unknown.
    """

    total: int
    available: int
    limit: int | None = None
    swap_total: int | None = None
    swap_free: int | None = None

    @property
    def pool(self) -> int:
        """The most that jobs could ever use here."""
        return min(self.total, self.limit) if self.limit is not None else self.total


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A device the kernel knows of. Whether the installed libraries can compute on it is what `Machine.devices` says.

    Attributes:
        name: As a spec would name it: `xpu:0`, `npu`, `cuda:0`, `ncs2`.
        what: For people: `Intel GPU 8086:7D55`.
        driver: The kernel's driver (`xe`, `i915`, `intel_vpu`), or `unknown`.
        kind: What sort of device it is; decides its column in the placement matrix.
        memory: Its own bytes, or None if it has none of its own or that is unknown. One that computes in the machine's memory
            has none: what it uses is counted in the pool, once.
        unusable: Why the installed libraries cannot compute on it, `not asked yet` before anybody asked them, or empty.
    """

    name: str
    what: str
    driver: str = "unknown"
    kind: DeviceKind = "integrated_gpu"
    memory: int | None = None
    unusable: str = "not asked yet"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a device was measured to do here; None where that was not measured.

    Attributes:
        bandwidth: Bytes per second, reading memory.
        throughput: Multiplications and additions per second, each counted, by number format (`fp32`, `bf16`, `int8`) of a matrix product.
    """

    bandwidth: float | None = None
    throughput: Mapping[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine.

    Attributes:
        name: Host name.
        devices: Where jobs can compute, best first.
        detected: Accelerators that are there, usable or not.
        measured: By name of a device (`cpu`, `xpu:0`, `npu`), from the machine profile; empty before `aifw hardware --measure`.
        unknown: What could not be found out, and why, in a sentence each.
        reuses_memory: There is an allocator that hands freed tensors out again, for workers that gain by it; see `aifw.run.launch.allocation`.
    """

    name: str
    cpu: Cpu
    memory: Memory
    devices: tuple[str, ...] = ("cpu",)
    detected: tuple[Accelerator, ...] = ()
    measured: Mapping[str, Measured] = field(default_factory=dict, hash=False)
    unknown: tuple[str, ...] = ()
    reuses_memory: bool = False
