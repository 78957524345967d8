"""Temperatures and the points at which something is done about them.

AMD's processors have no thermal zone; their driver tells temperatures as a monitoring chip does. Formats:
driver-api/thermal/sysfs-api.rst, hwmon/sysfs-interface.rst and hwmon/k10temp.rst of the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

from aifw.hardware.tree import Number, Reasons, Tree, plain

_FOLDER = "sys/class/thermal"
_CHIPS = "sys/class/hwmon"
_OF_PROCESSORS = frozenset({"k10temp", "zenpower"})
_COLDEST, _HOTTEST = -60_000, 250_000
"""Thousandths of a degree that silicon in a computer does not pass."""
_NOT_SET = frozenset({0, -274_000, -273_150, -273_200, -273_000})
"""What drivers write for a point that is not set: zero, and several words for absolute zero."""
_NOT_MEASURED = frozenset({0, 50})
"""Zero degrees, directly or by way of the 2732 tenths of a kelvin of ACPI: what firmware answers for a sensor that is not there."""
_NO_SENSOR = "INT3400 Thermal"
"""Stands for the policy of the machine; its driver always answers 20 degrees."""


@dataclass(frozen=True, slots=True)
class TripPoint:
    """A temperature at which something happens.

    Attributes:
        kind: `active` (fans), `passive` (throttling), `hot` (told to the operating system), `critical` (shut down).
        celsius: Degrees.
    """

    kind: str
    celsius: float


@dataclass(frozen=True, slots=True)
class Zone:
    """One sensor.

    Attributes:
        name: Where it is: `thermal_zone3`, `hwmon2/temp1`.
        kind: What it measures, as its driver calls it: `x86_pkg_temp` and `k10temp Tctl` are the processor.
        celsius: Degrees now.
        trips: Points that are set.
    """

    name: str
    kind: str | None
    celsius: float | None
    trips: tuple[TripPoint, ...]


@dataclass(frozen=True, slots=True)
class ThermalFound:
    """Every sensor.

    Attributes:
        zones: In the kernel's order.
        unknown: What could not be found out, and why.
    """

    zones: tuple[Zone, ...]
    unknown: tuple[str, ...] = ()


def find_thermal(tree: Tree) -> ThermalFound:
    """Read what there is."""
    reasons = Reasons()
    names, problem = tree.names(_FOLDER, "thermal_zone[0-9]{1,4}")
    of_processors = _chips(tree, reasons)
    if not names and not of_processors:
        why = f"/{_FOLDER} lists no thermal zone, as in most virtual machines"
        reasons.add(f"temperatures are unknown: {problem or why}")
    return ThermalFound((*(_zone(tree, name, reasons) for name in names), *of_processors), reasons.all())


def _chips(tree: Tree, reasons: Reasons) -> tuple[Zone, ...]:
    found: list[Zone] = []
    chips, _ = tree.names(_CHIPS, "hwmon[0-9]{1,4}")
    for chip in chips:
        driver = tree.text(f"{_CHIPS}/{chip}/name")
        if driver not in _OF_PROCESSORS:
            continue
        inputs, _ = tree.names(f"{_CHIPS}/{chip}", "temp[0-9]{1,3}_input")
        for each in inputs:
            sensor = each.removesuffix("_input")
            label = plain(tree.text(f"{_CHIPS}/{chip}/{sensor}_label"), 40)
            kind = f"{driver} {label}".rstrip()
            now = tree.number(f"{_CHIPS}/{chip}/{each}", _COLDEST, _HOTTEST)
            if now.value in _NOT_MEASURED:
                now = Number(None, f"/{_CHIPS}/{chip}/{each} says zero degrees, as sensors do that are not there")
            if now.value is None:
                reasons.add(f"the temperature of {kind} is unknown: {now.why}")
            found.append(Zone(f"{chip}/{sensor}", kind, None if now.value is None else now.value / 1000, ()))
    return tuple(found)


def _zone(tree: Tree, name: str, reasons: Reasons) -> Zone:
    folder = f"{_FOLDER}/{name}"
    told = tree.look(f"{folder}/type")
    kind = plain(told.text, 40) or None
    if kind is None:
        reasons.add(f"what {name} measures is unknown: /{folder}/type {told.problem or 'is empty'}")
    now = tree.number(f"{folder}/temp", _COLDEST, _HOTTEST)
    if kind == _NO_SENSOR:
        now = Number(None, "it stands for a policy, and its driver always answers 20 degrees")
    elif now.value in _NOT_MEASURED:
        now = Number(None, f"/{folder}/temp says zero degrees, as sensors do that are not there")
    if now.value is None:
        reasons.add(f"the temperature of {kind or name} is unknown: {now.why}")
    trips: list[TripPoint] = []
    points, _ = tree.names(folder, "trip_point_[0-9]{1,3}_temp")
    for point in points:
        at = tree.number(f"{folder}/{point}", -(1 << 31), 1 << 31)
        if at.value in _NOT_SET:
            continue
        if at.value is not None and not _COLDEST <= at.value <= _HOTTEST:
            at = Number(None, f"/{folder}/{point} says {at.value}, which cannot be")
        if at.value is None:
            reasons.add(f"a trip point of {kind or name} is unknown: {at.why}")
            continue
        does = plain(tree.text(f"{folder}/{point.removesuffix('_temp')}_type"), 20)
        if not does:
            reasons.add(f"what {kind or name} does at a trip point is unknown: /{folder} tells no type of it")
        trips.append(TripPoint(does or "unknown", at.value / 1000))
    return Zone(name, kind, None if now.value is None else now.value / 1000, tuple(trips))
