"""Guards: what a candidate may not do whatever it is rewarded for.

A gate can be had by other means than being better: answers grow because length is rewarded, become one answer because that one is
safe, or the held-out items were trained on. Where the evidence carries one of the measures below, the candidate has to stay within
these bounds, whether or not `require` names the measure. A guard compares the measured value, not its interval: it is an alarm, so it
need not be proved that there is fire. A guard is changed or turned off by name: `guards: {length_drift: {at_most: 50%}, kl_to_reference: off}`.

contamination     no held-out item may have been trained on: a single one blocks
length_drift      answers may not be more than a quarter longer or shorter than the reference's
duplicate_rate    not more than ten points above the incumbent's; some questions have the same answer
repetition        the same
kl_to_reference   at most half a nat per token away from the reference
token_entropy     not below half of the incumbent's; collapse shows there first

The bounds are conventions, not discoveries: they are where one would want to look at the answers before they are served.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aifw.evaluation.measures import MEASURES, SUITES
from aifw.evaluation.requirements import Measures, Requirement, Wanted, requirements

Entry = Mapping[str, Any]
Find = Callable[[Literal["subject", "baseline"], str], Entry | None]
"""Entry of a measure of one side (`subject` or `baseline`), or None if the evidence does not carry it."""

GUARDED = tuple(measure for suite in ("generation", "contamination") for measure in SUITES[suite].values())
SETTINGS = Measures(GUARDED, off=True, required=False)

HALF_OF_INCUMBENT = 0.5

DEFAULTS: Mapping[str, Requirement] = {
    "contamination": Requirement(at_most=0.0),
    "length_drift": Requirement(at_most=0.25),
    "duplicate_rate": Requirement(not_worse_by=0.1),
    "repetition": Requirement(not_worse_by=0.1),
    "kl_to_reference": Requirement(at_most=0.5),
}


@dataclass(frozen=True, slots=True)
class Alarm:
    """A guard that was looked at.

    Attributes:
        bound: What the value may be at most or at least.
        met: It is within.
        text: For people.
    """

    measure: str
    value: float
    bound: float
    met: bool
    text: str

    def as_json(self) -> dict[str, Any]:
        """As a verdict keeps it."""
        return {"measure": self.measure, "value": self.value, "bound": self.bound, "met": self.met, "text": self.text}


def guards_of(settings: Mapping[str, Any]) -> dict[str, Requirement | None]:
    """Guards in force; None for `token_entropy` stands for the share of the incumbent's that it may not fall below.

    Args:
        settings: As a spec writes them: a bound, `off`, or nothing.
    """
    chosen: dict[str, Requirement | None] = {**DEFAULTS, "token_entropy": None}
    chosen.update(requirements({name: each for name, each in settings.items() if isinstance(each, Wanted)}))
    return {name: each for name, each in chosen.items() if settings.get(name) != "off"}


def look_at(guards: Mapping[str, Requirement | None], find: Find) -> list[Alarm]:
    """Look at every guard whose measure the evidence carries."""
    found: list[Alarm] = []
    for name, guard in guards.items():
        ours, theirs = _value(find("subject", name)), _value(find("baseline", name))
        if ours is not None:
            found += _alarms(name, guard, ours, theirs)
    return found


def _value(entry: Entry | None) -> float | None:
    return None if entry is None or entry.get("value") is None else float(entry["value"])


def _alarms(name: str, guard: Requirement | None, ours: float, theirs: float | None) -> list[Alarm]:
    words, found = name.replace("_", " "), []
    if guard is None:
        if theirs is not None:
            least = HALF_OF_INCUMBENT * theirs
            text = f"{words} {ours:.3g}, the incumbent's is {theirs:.3g}"
            found.append(Alarm(name, ours, least, ours >= least, text))
        return found
    if guard.at_most is not None:
        found.append(
            Alarm(name, ours, guard.at_most, ours <= guard.at_most, f"{words} {ours:.3g}, at most {guard.at_most:.3g}")
        )
    if guard.at_least is not None:
        found.append(
            Alarm(
                name, ours, guard.at_least, ours >= guard.at_least, f"{words} {ours:.3g}, at least {guard.at_least:.3g}"
            )
        )
    if guard.not_worse_by is not None and theirs is not None:
        most = theirs + guard.not_worse_by * (1 if MEASURES[name].unit == "share" else abs(theirs))
        found.append(Alarm(name, ours, most, ours <= most, f"{words} {ours:.3g}, the incumbent's is {theirs:.3g}"))
    return found
