"""All that /proc, /sys and the processor itself tell of a machine, for `aifw hardware`: nothing is started and no library asked.

What planning needs of it is `aifw.hardware.probe`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aifw.hardware.devices.accelerators import DeviceDetail, describe_accelerators
from aifw.hardware.devices.pci import unidentified
from aifw.hardware.limits import LimitsFound, find_limits
from aifw.hardware.memory import MemoryFound, find_memory
from aifw.hardware.pressure import PressureFound, find_pressure
from aifw.hardware.processor.caches import CachesFound, find_caches
from aifw.hardware.processor.frequency import FrequenciesFound, find_frequencies
from aifw.hardware.processor.instructions import InstructionsFound, find_instructions
from aifw.hardware.processor.numa import NodesFound, find_nodes
from aifw.hardware.processor.power import PowerFound, find_power
from aifw.hardware.processor.present import ProcessorFound, find_processor
from aifw.hardware.processor.thermal import ThermalFound, find_thermal
from aifw.hardware.tree import Tree, plain


@dataclass(frozen=True, slots=True)
class Survey:
    """One machine. Each part lists what of it is unknown, and why; what is unknown is None there.

    Attributes:
        name: Host name.
        kernel: Its release.
        processor: Which processors there are, and their kinds.
        instructions: Instruction sets by purpose.
        caches: Caches, and who shares them.
        nodes: NUMA nodes.
        memory: Memory and swap space.
        pressure: How much work waits for memory, processors, input and output.
        limits: Of the control groups above this process.
        frequencies: At which the processors may run.
        thermal: Temperatures and trip points.
        power: Power limits and energy.
        accelerators: GPUs, NPUs and sticks, with all that is known of each.
        unidentified: A sentence for each node of a GPU or NPU that does not say what it is.
    """

    name: str | None
    kernel: str | None
    processor: ProcessorFound
    instructions: InstructionsFound
    caches: CachesFound
    nodes: NodesFound
    memory: MemoryFound
    pressure: PressureFound
    limits: LimitsFound
    frequencies: FrequenciesFound
    thermal: ThermalFound
    power: PowerFound
    accelerators: tuple[DeviceDetail, ...]
    unidentified: tuple[str, ...] = ()

    def unknown(self) -> tuple[str, ...]:
        """What could not be found out of any part, and why, in a sentence each."""
        own = tuple(
            f"the {what} is unknown: /proc/sys/kernel/{file} does not tell it"
            for what, file, value in (("host name", "hostname", self.name), ("kernel", "osrelease", self.kernel))
            if value is None
        )
        parts = (
            self.processor,
            self.instructions,
            self.caches,
            self.nodes,
            self.memory,
            self.pressure,
            self.limits,
            self.frequencies,
            self.thermal,
            self.power,
        )
        devices = tuple(f"{each.accelerator.name}: {why}" for each in self.accelerators for why in each.unknown)
        return (*own, *(why for part in parts for why in part.unknown), *devices, *self.unidentified)


def survey(root: Path = Path("/")) -> Survey:
    """Look at this machine, or at a captured tree of one. Whatever the files hold, there is an answer.

    Args:
        root: Where `proc`, `sys` and `dev` are.
    """
    tree = Tree(root)
    return Survey(
        name=plain(tree.text("proc/sys/kernel/hostname"), 64) or None,
        kernel=plain(tree.text("proc/sys/kernel/osrelease"), 64) or None,
        processor=find_processor(tree),
        instructions=find_instructions(tree),
        caches=find_caches(tree),
        nodes=find_nodes(tree),
        memory=find_memory(tree),
        pressure=find_pressure(tree),
        limits=find_limits(tree),
        frequencies=find_frequencies(tree),
        thermal=find_thermal(tree),
        power=find_power(tree),
        accelerators=describe_accelerators(root),
        unidentified=unidentified(tree),
    )
