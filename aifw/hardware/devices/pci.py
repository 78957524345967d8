"""PCI devices that compute: GPUs (class 03), NPUs and other processing accelerators (class 12), and what is bound to them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from aifw.hardware.tree import Tree, plain

DEVICES = "sys/bus/pci/devices"
_ADDRESS = "[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}[.][0-7]"
_IDENTITY = "[0-9A-F]{4}:[0-9A-F]{4}"
_CLASSES = {"3": "drm", "03": "drm", "12": "accel"}
"""By the first digits of a device's class, which the kernel prints without a leading zero: the folder of its nodes."""
_NODES = {"drm": "renderD[0-9]{1,6}", "accel": "accel[0-9]{1,6}"}


class PciDevice(NamedTuple):
    """One device.

    Attributes:
        address: `0000:00:02.0`, or empty where it is not told.
        identity: Vendor and device, `8086:7D55`.
        sort: `drm` for a GPU, `accel` for an NPU.
        driver: The kernel's driver, `none` where none is bound, or `unknown`.
        folder: Of its files, below the root of the tree.
        node: `renderD128`, `accel0`, or empty where a driver made none.
    """

    address: str
    identity: str
    sort: str
    driver: str
    folder: str
    node: str = ""

    @property
    def vendor(self) -> str:
        """Four hexadecimal digits."""
        return self.identity[:4]


def find_devices(tree: Tree) -> list[PciDevice]:
    """Devices that compute: those with a node in the kernel's order, then the others by address."""
    found = [device for sort in _NODES for device in _with_node(tree, sort)]
    addresses = {device.address for device in found}
    return [*found, *(device for device in _without_node(tree) if device.address not in addresses)]


def unidentified(tree: Tree) -> tuple[str, ...]:
    """A sentence for each node of a GPU or NPU that does not say what it is."""
    return tuple(
        f"what {node} is cannot be told: neither its uevent nor its vendor and device can be read"
        for sort, pattern in _NODES.items()
        for node in tree.names(f"sys/class/{sort}", pattern)[0]
        if not _identity(tree, f"sys/class/{sort}/{node}/device")
    )


def cards(tree: Tree, device: PciDevice) -> Iterator[str]:
    """Folders of the DRM minors of a GPU that hold what its driver tells, below the root of the tree; mostly one."""
    inside = f"{device.folder}/drm"
    names, problem = tree.names(inside, "card[0-9]{1,6}")
    if not problem:
        yield from (f"{inside}/{name}" for name in names)
        return
    for name in tree.names("sys/class/drm", "card[0-9]{1,6}")[0]:
        if device.address and _uevent(tree, f"sys/class/drm/{name}/device").get("PCI_SLOT_NAME") == device.address:
            yield f"sys/class/drm/{name}"


def sensors(tree: Tree, device: PciDevice) -> Iterator[str]:
    """Folders of the hardware monitors of a device, below the root of the tree."""
    for name in tree.names(f"{device.folder}/hwmon", "hwmon[0-9]{1,6}")[0]:
        yield f"{device.folder}/hwmon/{name}"


def has(tree: Tree, path: str) -> bool:
    """Whether there is such a file or folder."""
    return os.path.lexists(f"{tree.root}/{path}")


def _with_node(tree: Tree, sort: str) -> Iterator[PciDevice]:
    seen: set[str] = set()
    for node in tree.names(f"sys/class/{sort}", _NODES[sort])[0]:
        folder = f"sys/class/{sort}/{node}/device"
        facts = _uevent(tree, folder)
        identity = _identity(tree, folder, facts)
        address = _address(facts)
        # Partitions of one GPU have a node each.
        if identity and not (address and address in seen):
            seen.add(address)
            if address and has(tree, f"{DEVICES}/{address}"):
                folder = f"{DEVICES}/{address}"
            yield PciDevice(address, identity, sort, plain(facts.get("DRIVER", ""), 64) or "unknown", folder, node)


def _without_node(tree: Tree) -> Iterator[PciDevice]:
    for address in tree.names(DEVICES, _ADDRESS)[0]:
        folder = f"{DEVICES}/{address}"
        facts = _uevent(tree, folder)
        code = facts.get("PCI_CLASS") or tree.text(f"{folder}/class").removeprefix("0x")
        sort = _CLASSES.get(code[:-4], "")
        # A virtual function that no driver uses here is another machine's.
        if sort and (identity := _identity(tree, folder, facts)) and not has(tree, f"{folder}/physfn"):
            driver = plain(facts.get("DRIVER", ""), 64) or ("none" if facts else "unknown")
            yield PciDevice(address, identity, sort, driver, folder)


def _identity(tree: Tree, folder: str, facts: dict[str, str] | None = None) -> str:
    told = (_uevent(tree, folder) if facts is None else facts).get("PCI_ID", "")
    if not told:
        told = ":".join(tree.text(f"{folder}/{name}").removeprefix("0x") for name in ("vendor", "device"))
    identity = told.upper()
    return identity if re.fullmatch(_IDENTITY, identity) else ""


def _address(facts: dict[str, str]) -> str:
    told = facts.get("PCI_SLOT_NAME", "")
    return told if re.fullmatch(_ADDRESS, told) else ""


def _uevent(tree: Tree, folder: str) -> dict[str, str]:
    lines = tree.look(f"{folder}/uevent").text.splitlines()
    return {key: value.strip() for key, equals, value in (line.partition("=") for line in lines) if equals}
