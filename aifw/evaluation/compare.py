"""The job of kind `compare`: two evaluations that were made separately become one, paired item by item.

What each measured is taken as it stands; nothing runs again. Only what was measured in the same way of the same items is compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aifw.errors import InputInvalid
from aifw.evaluation.kinds import CompareSettings
from aifw.evaluation.report import TIMED, Evidence, build, read, rows_of, write
from aifw.evaluation.stated import state
from aifw.evaluation.suites import Row
from aifw.job import Job

_OF_THIS_MACHINE = TIMED | {"resources", "cost"}
_UNIMPORTANT = frozenset({"alpha"})
"""Settings that change no row."""
_MACHINE = ("processor", "cores", "memory")


def compare(job: Job[CompareSettings]) -> None:
    """Write the output `evaluation` with what both measured.

    Raises:
        InputInvalid: One was cut off or edited; or items, settings or machines differ, so that there is nothing to compare.
    """
    subject, baseline = (read(job.inputs[side].path) for side in ("subject", "baseline"))
    names = [job.inputs[side].address for side in ("subject", "baseline")]
    _see_same_settings(subject.report, baseline.report, names)
    rows = _rows(job, subject, baseline, names)
    report, items = build(
        subject=subject.report["subject"],
        baseline=baseline.report["subject"],
        data={name: subject.report["data"][name] for name in ("address", "digest", "name", "dropped", "cut")},
        settings={key: value for key, value in subject.report["settings"].items() if key not in _UNIMPORTANT},
        rows=rows,
        environment=_environment(subject.report["environment"], baseline.report["environment"]),
        seed=subject.report["environment"]["seed"],
    )
    write(job.output("evaluation"), report, items)
    state(job, report)


def _rows(
    job: Job[CompareSettings], subject: Evidence, baseline: Evidence, names: Sequence[str]
) -> dict[str, tuple[Sequence[Row], Sequence[Row] | None]]:
    """Rows of the suites both have."""
    both = [suite for suite in subject.report["suites"] if suite in baseline.report["suites"]]
    if not both:
        raise InputInvalid(
            f"{names[0]} and {names[1]} have no suite in common: "
            f"{', '.join(subject.report['suites'])}; {', '.join(baseline.report['suites'])}",
            hint="measure both by the same suites",
        )
    for name, evidence in zip(names, (subject, baseline), strict=True):
        alone = [suite for suite in evidence.report["suites"] if suite not in both]
        if alone:
            job.note(f"not compared, since only {name} has it: {', '.join(alone)}")
    timed = [suite for suite in both if suite in _OF_THIS_MACHINE]
    if timed:
        _see_same_machine(subject.report, baseline.report, names, timed)
    return {suite: (rows_of(subject, suite, "subject"), rows_of(baseline, suite, "subject")) for suite in both}


def _see_same_settings(subject: Mapping[str, Any], baseline: Mapping[str, Any], names: Sequence[str]) -> None:
    one, other = subject["settings"], baseline["settings"]
    shared = {key for key in one if key in other} - _UNIMPORTANT
    different = sorted(key for key in shared if one[key] != other[key])
    if different:
        key = different[0]
        raise InputInvalid(
            f"{names[0]} and {names[1]} were measured differently: `{key}` is {one[key]!r} and {other[key]!r}",
            hint="measure both with the same settings",
        )


def _see_same_machine(
    subject: Mapping[str, Any], baseline: Mapping[str, Any], names: Sequence[str], timed: Sequence[str]
) -> None:
    here = [
        {
            **{key: each["environment"]["hardware"].get(key) for key in _MACHINE},
            "device": each["environment"]["device"],
            "threads": each["environment"]["threads"],
        }
        for each in (subject, baseline)
    ]
    different = [key for key in here[0] if here[0][key] != here[1][key]]
    if different:
        key = different[0]
        raise InputInvalid(
            f"{', '.join(timed)} of {names[0]} and {names[1]} come from different places: "
            f"{key} is {here[0][key]!r} and {here[1][key]!r}",
            hint="measure both on one machine, or leave these suites out of one of them",
        )


def _environment(subject: Mapping[str, Any], baseline: Mapping[str, Any]) -> dict[str, Any]:
    """That of the subject's evaluation; what was contended in either is contended."""
    contended = subject["contention"]["contended"] or baseline["contention"]["contended"]
    return {**subject, "contention": {**subject["contention"], "contended": contended}, "baseline": dict(baseline)}
