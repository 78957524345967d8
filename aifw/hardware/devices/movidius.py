"""Intel Neural Compute Sticks 2 on USB.

A stick starts as 03e7:2485 and has no program. The library that uses it loads one; it then leaves the bus and comes back as 03e7:f63b.
The stock setting needs no driver of the kernel: the library talks to the stick through usbfs. Some have written a driver of their own;
it is bound to the stick's interface then or has made a node.

The cameras of Luxonis (OAK) hold the same chip and start with the same identity; once they run, their product name tells.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from aifw.hardware.devices.findings import Findings
from aifw.hardware.tree import Tree, plain

_VENDOR = "03e7"
_STATES = {"2485": "not booted", "f63b": "booted"}
_DEVICES = "sys/bus/usb/devices"
_NO_DRIVER = {"", "usbfs"}
_NODE = "ncs2[a-z0-9_-]{0,16}"


class Stick(NamedTuple):
    """One stick.

    Attributes:
        port: Where it is plugged in, `1-2`.
        identity: `03e7:2485` or `03e7:f63b`.
        folder: Of its files, below the root of the tree.
        driver: The kernel's driver that is bound to its interface; `none` in the stock setting, where a library uses it directly;
            `unknown` where none is bound, but one has made a node.
        nodes: That a custom driver has made, of this stick or of another one.
    """

    port: str
    identity: str
    folder: str
    driver: str
    nodes: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """`booted` or `not booted`."""
        return _STATES[self.identity[5:]]


def find_sticks(tree: Tree, ports: Iterable[str]) -> list[Stick]:
    """The sticks among the devices of Movidius that are plugged in at some ports."""
    found: list[Stick] = []
    for port in ports:
        folder = f"{_DEVICES}/{port}"
        product = tree.text(f"{folder}/idProduct").lower()
        if product in _STATES and "luxonis" not in tree.text(f"{folder}/product").lower():
            found.append(Stick(port, f"{_VENDOR}:{product}", folder, _driver(tree, port, folder)))
    nodes = tuple(_nodes(tree)) if found else ()
    unsaid = "unknown" if nodes and all(stick.driver == "none" for stick in found) else "none"
    return [stick._replace(driver=unsaid if stick.driver == "none" else stick.driver, nodes=nodes) for stick in found]


def describe_stick(found: Findings, stick: Stick) -> None:
    """State, setting, speed and access of a stick. Its serial number is not looked at."""
    found.say("USB id", stick.identity)
    found.say("port", stick.port)
    found.say("state", stick.state)
    nodes = ", ".join(stick.nodes)
    if stick.driver == "none":
        found.say("setting", "stock: no driver of the kernel, libraries use it through usbfs")
    elif stick.driver == "unknown":
        found.say("setting", f"custom driver, which made {nodes}")
        found.lack("driver: none is bound to its interface, so the name of the one that made the nodes is not known")
    else:
        found.say("setting", f"custom driver {stick.driver}")
        found.say("nodes of the driver", nodes)
    product = found.text("product", f"{stick.folder}/product")
    speed = found.number(
        "speed", f"{stick.folder}/speed", "Mbit/s", 100_000, 1, absent="the kernel shows it of every device"
    )
    if speed is not None and speed < 5000 and stick.state == "booted":
        found.say("speed", f"{speed} Mbit/s, it is not on USB 3")
    found.text("power", f"{stick.folder}/bMaxPower")
    _say_access(found, stick)
    if stick.state == "not booted" or not product:
        found.lack(
            "a camera with the same chip (OAK) cannot be told from a stick before it is booted and tells its product name"
        )
    found.lack("memory: neither the stick nor the kernel tells how much there is and how much of it is free")


def _driver(tree: Tree, port: str, folder: str) -> str:
    """Driver of the stick's interfaces, whose folders are named `1-2:1.0` and lie beside and inside that of the stick."""
    seen: set[str] = set()
    for inside in (_DEVICES, folder):
        for name in tree.names(inside, "[0-9]{1,4}-[0-9.]{1,32}:[0-9.]{1,8}")[0]:
            if name.startswith(f"{port}:"):
                seen.add(_bound(tree, f"{inside}/{name}"))
    return next(iter(sorted(seen - _NO_DRIVER)), "none")


def _bound(tree: Tree, interface: str) -> str:
    for line in tree.look(f"{interface}/uevent").text.splitlines():
        if line.startswith("DRIVER="):
            return plain(line[7:], 64)
    try:
        return plain(os.path.basename(os.readlink(f"{tree.root}/{interface}/driver")), 64)  # noqa: PTH115, PTH119
    except (OSError, ValueError):
        return ""


def _nodes(tree: Tree) -> list[str]:
    found = [f"/dev/{name}" for name in tree.names("dev", _NODE)[0]]
    for sort in tree.names("sys/class", "[a-z0-9_-]{1,32}")[0] if not found else ():
        if "ncs" in sort or "movidius" in sort or "myriad" in sort:
            found += [f"/sys/class/{sort}/{name}" for name in tree.names(f"sys/class/{sort}", "[a-z0-9_-]{1,32}")[0]]
    return found


def _say_access(found: Findings, stick: Stick) -> None:
    bus = found.tree.number(f"{stick.folder}/busnum", 1, 999)
    number = found.tree.number(f"{stick.folder}/devnum", 1, 999)
    if bus.value is None or number.value is None:
        found.lack(f"access: {bus.why or number.why}")
        return
    node = f"dev/bus/usb/{bus.value:03}/{number.value:03}"
    found.say_access(node, f"a udev rule for vendor {_VENDOR} gives leave")
