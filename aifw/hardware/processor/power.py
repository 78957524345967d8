"""Power limits and energy counters (RAPL; power/powercap/powercap.rst and ABI/testing/sysfs-class-powercap of the kernel).

A counter of energy lets an attacker on the same machine learn secrets (CVE-2020-8694), so the kernel lets the administrator only
read it.
"""

from __future__ import annotations

from dataclasses import dataclass

from aifw.hardware.tree import Reasons, Tree, plain

_FOLDER = "sys/class/powercap"
_MOST_MICROWATT = 100_000_000_000
_MOST_MICROJOULE = 1 << 63
_LONGEST_MICROSECONDS = 10**12


@dataclass(frozen=True, slots=True)
class PowerLimit:
    """One limit.

    Attributes:
        name: `long_term`, `short_term`, `peak_power`.
        watts: Now, or None if unknown.
        highest: The most the firmware says it may be set to, in watts, where that is told.
        window: Seconds over which the average counts, where that is told.
    """

    name: str
    watts: float | None
    highest: float | None
    window: float | None


@dataclass(frozen=True, slots=True)
class PowerZone:
    """What is limited and measured together.

    Attributes:
        path: Folder: `intel-rapl:0`; `intel-rapl:0:1` is a part of it. `intel-rapl-mmio:0` limits the same package another way.
        name: `package-0`, `core`, `uncore` (mostly the integrated GPU), `dram`, `psys` (the whole computer).
        enabled: Whether the limits hold.
        limits: Those that are set, in the kernel's order.
        joules: Counted so far; starts again at `most_joules`.
        most_joules: Where the counter starts again.
    """

    path: str
    name: str | None
    enabled: bool | None
    limits: tuple[PowerLimit, ...]
    joules: float | None
    most_joules: float | None


@dataclass(frozen=True, slots=True)
class PowerFound:
    """Every zone.

    Attributes:
        zones: In the kernel's order, parts behind the whole.
        unknown: What could not be found out, and why.
    """

    zones: tuple[PowerZone, ...]
    unknown: tuple[str, ...] = ()


def find_power(tree: Tree) -> PowerFound:
    """Read what there is."""
    reasons = Reasons()
    names, problem = tree.names(_FOLDER, "intel-rapl(-mmio)?:[0-9]{1,3}(:[0-9]{1,3})?")
    if not names:
        why = problem or f"/{_FOLDER} lists no zone"
        reasons.add(f"power limits and energy are unknown: {why} (no driver for RAPL, as in most virtual machines)")
    return PowerFound(tuple(_zone(tree, name, reasons) for name in names), reasons.all())


def _zone(tree: Tree, zone: str, reasons: Reasons) -> PowerZone:
    folder = f"{_FOLDER}/{zone}"
    told = tree.look(f"{folder}/name")
    name = plain(told.text, 40) or None
    if name is None:
        reasons.add(f"what {zone} measures is unknown: /{folder}/name {told.problem or 'is empty'}")
    enabled = reasons.known(tree.number(f"{folder}/enabled", 0, 1))
    most = reasons.known(tree.number(f"{folder}/max_energy_range_uj", 1, _MOST_MICROJOULE))
    counted = tree.number(f"{folder}/energy_uj", 0, most or _MOST_MICROJOULE)
    # A zone of limits only has no counter.
    if counted.value is None and not (counted.missing and most is None):
        reasons.add(f"the energy of {name or zone} is unknown: {counted.why}")
    constraints, _ = tree.names(folder, "constraint_[0-9]{1,2}_power_limit_uw")
    return PowerZone(
        path=zone,
        name=name,
        enabled=None if enabled is None else bool(enabled),
        limits=tuple(
            limit
            for each in constraints
            if (limit := _limit(tree, f"{folder}/{each.removesuffix('_power_limit_uw')}", reasons))
        ),
        joules=_millionth(counted.value),
        most_joules=_millionth(most),
    )


def _limit(tree: Tree, prefix: str, reasons: Reasons) -> PowerLimit | None:
    """One limit, or None where it is not set, which the kernel writes as zero."""
    now = tree.number(f"{prefix}_power_limit_uw", 0, _MOST_MICROWATT)
    if now.value == 0:
        return None
    # Zero, or an error of the file, is what firmware that does not tell the highest leaves there.
    highest = tree.number(f"{prefix}_max_power_uw", 0, _MOST_MICROWATT)
    return PowerLimit(
        name=plain(tree.text(f"{prefix}_name"), 40) or prefix.rpartition("/")[2],
        watts=_millionth(reasons.needed(now)),
        highest=_millionth(highest.value or None),
        window=_millionth(reasons.known(tree.number(f"{prefix}_time_window_us", 0, _LONGEST_MICROSECONDS))),
    )


def _millionth(value: int | None) -> float | None:
    return None if value is None else value / 1_000_000
