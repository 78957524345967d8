"""The verdict on a candidate: a paired comparison on the evidence, never a point against a point.

The job only decides. Before it starts, the engine writes down that the held-out set is looked at once more for this alias, and says
which look that is (`job.look`): each look has a part of alpha of its own. The engine then reads the fact `verdict` and moves the alias,
after looking whether it still points to the incumbent the evidence was measured against.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aifw.errors import InputInvalid
from aifw.evaluation import gate
from aifw.evaluation.comparison import compare_measure
from aifw.evaluation.gate import Entry, Findings, Side
from aifw.evaluation.guards import guards_of
from aifw.evaluation.measures import suite_of
from aifw.evaluation.promote_kinds import PromoteSettings
from aifw.evaluation.report import Evidence, read, rows_of
from aifw.evaluation.requirements import requirements
from aifw.evaluation.suites import find
from aifw.job import Job
from aifw.statistics import Comparison


class Read:
    """An evaluation that was read, as a gate asks it."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._suites: Mapping[str, Any] = evidence.report["suites"]

    def entry(self, side: Side, measure: str) -> Entry | None:
        """See `Findings`."""
        found: Entry | None = self._suite(measure).get(side, {}).get(measure)
        return found

    def why_not_compared(self, measure: str) -> str:
        """See `Findings`."""
        entry = self._suite(measure).get("compared", {}).get(measure)
        if entry is None:
            return "the two were not compared"
        return str(entry.get("note") or "not compared") if entry.get("p") is None else ""

    def compare(self, measure: str, alpha: float) -> Comparison:
        """See `Findings`."""
        suite = suite_of(measure)
        before, after = (rows_of(self._evidence, suite, side) for side in ("baseline", "subject"))
        return compare_measure(find(suite), measure, before, after, alpha=alpha)

    def measures(self) -> Sequence[str]:
        """See `Findings`."""
        return [name for suite in self._suites.values() for name in suite.get("subject", {})]

    def _suite(self, measure: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._suites.get(suite_of(measure), {})
        return found


def judge(job: Job[PromoteSettings]) -> None:
    """Write the output `verdict`.

    Raises:
        InputInvalid: The evidence is about another candidate, compares with nothing, lacks a measure that is required, was cut off or
            edited, or it cannot be known how often its held-out set was looked at.
    """
    source, candidate = job.inputs["evidence"], job.inputs["candidate"]
    evidence = read(source.path)
    subject, incumbent = evidence.report["subject"], evidence.report["baseline"]
    if subject["digest"] != candidate.digest:
        raise InputInvalid(
            f"the evidence {source.address} is about {subject['address']}@{subject['digest'][:4]}, "
            f"not about the candidate {candidate.address}@{candidate.digest[:4]}",
            hint="`evidence` must be an evaluation whose `subject` is the candidate",
        )
    if incumbent is None:
        raise InputInvalid(
            f"the evidence {source.address} compares {candidate.address} with nothing",
            hint=f'set `baseline: "@{job.settings.alias}"` in the evaluation',
        )
    if job.look < 1:
        raise InputInvalid(
            f"the evidence {source.address} does not say on what data it was measured, so that looks at it cannot be counted",
            hint="evaluate again with this version of aifw",
        )
    verdict = verdict_of(
        job.settings,
        Read(evidence),
        candidate=(candidate.address, candidate.digest),
        incumbent=incumbent["digest"],
        data=str(source.facts.get("data") or evidence.report["data"].get("digest") or ""),
        look=job.look,
    )
    path = job.output("verdict") / "verdict.json"
    path.write_text(json.dumps(verdict, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    job.fact("verdict", verdict, "verdict")


def verdict_of(
    settings: PromoteSettings, findings: Findings, *, candidate: tuple[str, str], incumbent: str, data: str, look: int
) -> dict[str, Any]:
    """The content of a verdict.

    Args:
        settings: What is required.
        findings: Evidence, read and checked.
        candidate: Address and digest.
        incumbent: Digest of what it was compared with.
        data: Digest of the held-out set.
        look: Number of this look, from 1.

    Raises:
        InputInvalid: The evidence lacks a measure that is required, or its two sides are not about the same items.
    """
    address, digest = candidate
    verdict: dict[str, Any] = {"alias": settings.alias, "candidate": digest, "incumbent": incumbent}
    if digest == incumbent:
        said = f"{address} is what {settings.alias} points to; nothing to decide"
        return verdict | {"decision": "not_worse", "promote": False, "metrics": [], "summary": said}
    for name, asked in settings.guards.items():
        entry = findings.entry("subject", name)
        if asked not in {None, "off"} and (entry is None or entry.get("value") is None):
            raise InputInvalid(
                f"guard `{name}` is set, and the evaluation does not measure it",
                hint=f"add suite `{suite_of(name)}` to the evaluation, or remove the guard",
            )
    found = gate.judge(
        findings,
        dict(requirements(settings.require)),
        guards_of(settings.guards),
        alpha=settings.alpha,
        look=look,
        looks=settings.looks,
    )
    return verdict | {
        "decision": found.decision,
        "promote": found.promote,
        "metrics": list(found.metrics),
        "guards": [alarm.as_json() for alarm in found.guards],
        "summary": found.text,
        "data": data,
        "look": look,
        "looks": settings.looks,
        "alpha": found.alpha,
        "alpha_spent": found.spent,
        "alpha_total": settings.alpha,
    }
