"""Frequencies the processors may run at, and who decides (admin-guide/pm/{cpufreq,intel_pstate}.rst of the kernel)."""

from __future__ import annotations

from dataclasses import dataclass

from aifw.hardware.processor.present import online
from aifw.hardware.tree import Reasons, Tree, plain

_HIGHEST = 20_000_000
"""Kilohertz no processor reaches."""


@dataclass(frozen=True, slots=True)
class FrequencyPolicy:
    """What holds for some processors alike. Frequencies are in Hz.

    Attributes:
        processors: Ascending.
        driver: Of the kernel: `intel_pstate`, `amd-pstate-epp`, `acpi-cpufreq`.
        governor: Who decides: `powersave`, `performance`, `schedutil`.
        preference: Energy against performance, where the processor decides: `balance_performance`.
        lowest: The least the hardware can.
        highest: The most the hardware can.
        allowed_lowest: The least that is allowed now.
        allowed_highest: The most that is allowed now; below `highest` somebody holds the processors back.
    """

    processors: tuple[int, ...]
    driver: str | None
    governor: str | None
    preference: str | None
    lowest: int | None
    highest: int | None
    allowed_lowest: int | None
    allowed_highest: int | None


@dataclass(frozen=True, slots=True)
class FrequenciesFound:
    """Every policy.

    Attributes:
        policies: By the first processor they hold for.
        boost: Whether frequencies above the base frequency are allowed.
        unknown: What could not be found out, and why.
    """

    policies: tuple[FrequencyPolicy, ...]
    boost: bool | None
    unknown: tuple[str, ...] = ()


def find_frequencies(tree: Tree) -> FrequenciesFound:
    """Read what there is."""
    reasons = Reasons()
    alike: dict[tuple[object, ...], tuple[FrequencyPolicy, list[int]]] = {}
    silent: list[int] = []
    processors = online(tree)
    for cpu in processors:
        folder = f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        names, _ = tree.names(folder, "(cpuinfo|scaling)_.*")
        if not names:
            silent.append(cpu)
            continue
        policy = _policy(tree, folder, reasons)
        key = tuple(getattr(policy, name) for name in FrequencyPolicy.__slots__)
        alike.setdefault(key, (policy, []))[1].append(cpu)
    if silent:
        which = (
            "the processors" if len(silent) == len(processors) else f"processor {silent[0]} and {len(silent) - 1} more"
        )
        reasons.add(
            f"the frequencies of {which} are unknown: the kernel does not steer them (no cpufreq), as in most virtual machines"
        )
    return FrequenciesFound(
        policies=tuple(
            FrequencyPolicy(
                processors=tuple(cpus),
                driver=policy.driver,
                governor=policy.governor,
                preference=policy.preference,
                lowest=policy.lowest,
                highest=policy.highest,
                allowed_lowest=policy.allowed_lowest,
                allowed_highest=policy.allowed_highest,
            )
            for policy, cpus in alike.values()
        ),
        boost=_boost(tree, reasons) if alike else None,
        unknown=reasons.all(),
    )


def _policy(tree: Tree, folder: str, reasons: Reasons) -> FrequencyPolicy:
    def hertz(name: str) -> int | None:
        found = reasons.needed(tree.number(f"{folder}/{name}", 1, _HIGHEST))
        return None if found is None else found * 1000

    def word(name: str, needed: bool) -> str | None:
        found = tree.look(f"{folder}/{name}")
        text = plain(found.text, 40)
        if not text and (needed or not found.missing):
            reasons.add(f"/{folder}/{name} {found.problem or 'is empty'}")
        return text or None

    lowest, highest = hertz("cpuinfo_min_freq"), hertz("cpuinfo_max_freq")
    if lowest is not None and highest is not None and lowest > highest:
        reasons.add(f"the frequencies in /{folder} are unknown: the lowest is above the highest")
        lowest = highest = None
    return FrequencyPolicy(
        processors=(),
        driver=word("scaling_driver", needed=True),
        governor=word("scaling_governor", needed=True),
        preference=word("energy_performance_preference", needed=False),
        lowest=lowest,
        highest=highest,
        allowed_lowest=hertz("scaling_min_freq"),
        allowed_highest=hertz("scaling_max_freq"),
    )


def _boost(tree: Tree, reasons: Reasons) -> bool | None:
    """One driver tells whether it is off, the others whether it is on."""
    for path, on in (("sys/devices/system/cpu/intel_pstate/no_turbo", 0), ("sys/devices/system/cpu/cpufreq/boost", 1)):
        found = tree.number(path, 0, 1)
        if found.value is not None:
            return found.value == on
        if not found.missing:
            reasons.add(f"whether frequencies above the base frequency are allowed is unknown: {found.why}")
            return None
    reasons.add("whether frequencies above the base frequency are allowed is unknown: the driver does not tell")
    return None
