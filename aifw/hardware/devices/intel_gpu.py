"""What the drivers i915 and xe tell of Intel's GPUs.

Sources: intel_gt_sysfs_pm.c, xe_gt_freq.c, xe_gt_throttle.c and xe_gt_idle.c of the kernel. Frequencies of a GPU that sleeps are
zero, and one that is suspended is not woken to tell them. Neither driver of the plain kernel tells how much memory a card has; those
Intel packages for data centres do (`lmem_total_bytes` of i915, `physical_vram_size_bytes` of xe).
"""

from __future__ import annotations

from aifw.hardware.devices.findings import Findings
from aifw.hardware.devices.pci import PciDevice, cards
from aifw.hardware.tree import Tree
from aifw.units import format_bytes

_MOST_MHZ = 20_000
_MOST_MEMORY = 1 << 44
_FREQUENCIES = (
    ("now", "act", 0),
    ("requested", "cur", 0),
    ("lowest", "RPn", 1),
    ("highest", "RP0", 1),
    ("allowed from", "min", 0),
    ("allowed to", "max", 1),
)
"""Fact, name the drivers use (xe in small letters), least value that can be."""


def own_memory(tree: Tree, device: PciDevice) -> int | None:
    """Bytes of a card's memory, or None where the driver does not tell."""
    for folder in cards(tree, device):
        total = tree.number(f"{folder}/lmem_total_bytes", 1, _MOST_MEMORY).value
        if total is not None:
            return total
    tiles = [
        tree.number(f"{device.folder}/{tile}/{inside}physical_vram_size_bytes", 1, _MOST_MEMORY).value
        for tile in tree.names(device.folder, "tile[0-9]{1,3}")[0]
        for inside in ("", "memory/")
    ]
    told = [size for size in tiles if size is not None]
    return sum(told) if told else None


def describe_intel(found: Findings, device: PciDevice) -> None:
    """Frequencies, throttling and engines of a GPU, as its driver shows them."""
    if found.tree.text(f"{device.folder}/power/runtime_status") == "suspended":
        found.say("power", "suspended")
        found.lack("frequencies and engines: it is suspended, and to read them would wake it")
    elif device.driver == "xe":
        _describe_xe(found, device)
    elif device.driver == "i915":
        _describe_i915(found, device)


def say_memory(found: Findings, device: PciDevice, memory: int | None) -> None:
    """Note the memory of a card, or how much of it the processor reaches and why that is not the size."""
    if memory is not None:
        found.say("memory", format_bytes(memory))
        return
    reached = _region(found.tree, device, 2)
    if reached:
        found.say("memory the processor reaches", format_bytes(reached))
    found.lack(
        f"memory: {device.driver} does not tell how much there is; the region on the bus"
        + (f" ({format_bytes(reached)})" if reached else "")
        + " may be smaller or rounded up"
    )


def _region(tree: Tree, device: PciDevice, index: int) -> int | None:
    """Bytes of a region of a PCI device: a line `start end flags` of `resource` for each."""
    lines = tree.look(f"{device.folder}/resource").text.splitlines()
    try:
        start, end, _ = (int(word, 16) for word in lines[index].split())
    except (ValueError, IndexError):
        return None
    return end - start + 1 if 0 < start < end < 1 << 64 else None


def _describe_i915(found: Findings, device: PciDevice) -> None:
    card = next(iter(cards(found.tree, device)), None)
    if card is None:
        found.lack(f"frequencies and engines: no card of {device.address or device.folder} in /sys/class/drm")
        return
    units = found.tree.names(f"{card}/gt", "gt[0-9]{1,2}")[0]
    for unit in units:
        _say_unit(found, _label(units, unit), f"{card}/gt/{unit}", "rps_{}_freq_mhz", "throttle_reason_")
    if not units:
        _say_unit(found, "", card, "gt_{}_freq_mhz", "throttle_reason_")
    engines = found.tree.names(f"{card}/engine", "[a-z]{2,8}[0-9]{1,3}")[0]
    if engines:
        found.say("engines", ", ".join(engines))
    else:
        found.lack(f"engines: there is no /{card}/engine; kernels before 5.7 have none")


def _describe_xe(found: Findings, device: PciDevice) -> None:
    tree = found.tree
    units = [
        f"{tile}/{unit}"
        for tile in tree.names(device.folder, "tile[0-9]{1,2}")[0]
        for unit in tree.names(f"{device.folder}/{tile}", "gt[0-9]{1,2}")[0]
    ]
    if not units:
        found.lack(f"frequencies and engines: there is no /{device.folder}/tile0/gt0")
    engines: list[str] = []
    for unit in units:
        folder, label = f"{device.folder}/{unit}", _label(units, unit)
        throttle = "freq0/throttle/" if tree.names(f"{folder}/freq0/throttle", "status")[0] else "throttle/"
        _say_unit(found, label, folder, "freq0/{}_freq", throttle, small=True)
        found.text(f"{label}idle state", f"{folder}/gtidle/idle_status")
        engines += [each for each in tree.names(f"{folder}/engines", "[a-z]{2,8}")[0] if each not in engines]
    if engines:
        found.say("engines", ", ".join(engines))
    elif units:
        found.lack("engines: no part of the GPU has a folder of engines")


def _say_unit(found: Findings, label: str, folder: str, pattern: str, throttle: str, small: bool = False) -> None:
    first = True
    for fact, name, least in _FREQUENCIES:
        path = f"{folder}/{pattern.format(name.lower() if small else name)}"
        absent = "the driver tells no frequencies" if first else ""
        value = found.number(f"{label}frequency {fact}", path, "MHz", _MOST_MHZ, least, absent)
        if first and value == 0:
            found.say(f"{label}frequency now", "0 MHz, it sleeps")
        first = False
    if found.tree.text(f"{folder}/{throttle}status") == "1":
        inside, _, prefix = f"{folder}/{throttle}".rpartition("/")
        names = found.tree.names(inside, f"{prefix or 'reason_'}[a-z0-9_]{{2,24}}")[0]
        reasons = [each.rpartition("reason_")[2] for each in names if found.tree.text(f"{inside}/{each}") == "1"]
        told = ", ".join(each for each in reasons if each != "status")
        found.say(f"{label}throttled by", told or "a reason it does not tell")


def _label(units: list[str] | tuple[str, ...], unit: str) -> str:
    return f"{unit} " if len(units) > 1 else ""
