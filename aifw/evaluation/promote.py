"""The verdict on a candidate: a paired comparison on the evidence, never a point against a point.

The job only decides. The engine reads the fact `verdict` and moves the alias, after looking whether it still points to the
incumbent the evidence was measured against.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aifw.errors import InputInvalid
from aifw.evaluation.kinds import NotWorse, PromoteSettings
from aifw.job import Job
from aifw.statistics import Comparison, Decision, compare

_NAMES = {"preference_accuracy": "preference accuracy"}


@dataclass(frozen=True, slots=True)
class Evidence:
    """An evaluation, read and checked.

    Attributes:
        report: Content of `report.json`.
        items: Rows of `items.jsonl`.
    """

    report: dict[str, Any]
    items: list[dict[str, Any]]


def judge(job: Job[PromoteSettings]) -> None:
    """Write the output `verdict`.

    Raises:
        InputInvalid: The evidence is about another candidate, was cut off or was edited.
    """
    settings = job.settings
    evidence = read_evidence(job.inputs["evidence"].path)
    candidate, subject = job.inputs["candidate"], evidence.report["subject"]
    if subject["digest"] != candidate.digest:
        raise InputInvalid(
            f"the evidence {job.inputs['evidence'].address} is about {subject['address']}@{subject['digest'][:4]}, "
            f"not about the candidate {candidate.address}@{candidate.digest[:4]}",
            hint="`evidence` must be an evaluation whose `subject` is the candidate",
        )
    incumbent = evidence.report["baseline"]
    verdict: dict[str, Any] = {
        "alias": settings.alias,
        "candidate": candidate.digest,
        "incumbent": incumbent["digest"],
    }
    if candidate.digest == incumbent["digest"]:
        verdict |= {"decision": "not_worse", "promote": False, "metrics": []}
        verdict["summary"] = f"{candidate.address} is what {settings.alias} points to; nothing to decide"
    else:
        verdict["alpha"] = settings.alpha
        metrics = [
            _metric(name, wanted, evidence, settings.alpha) for name, wanted in settings.require if wanted is not None
        ]
        promote = all(metric["met"] for metric in metrics)
        decision = overall([metric["decision"] for metric in metrics], promote)
        verdict |= {"decision": decision, "promote": promote, "metrics": metrics}
        verdict["summary"] = (
            ("" if promote else "held: ")
            + _words(decision)
            + "; ".join(_sentence(metric, settings.alpha) for metric in metrics).join((" (", ")"))
        )
    path = job.output("verdict") / "verdict.json"
    path.write_text(json.dumps(verdict, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    job.fact("verdict", verdict, "verdict")


def read_evidence(folder: Path) -> Evidence:
    """Read an `Evaluation` and see that report and items belong together.

    Raises:
        InputInvalid: They cannot be read, or do not.
    """
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        with (folder / "items.jsonl").open(encoding="utf-8") as file:
            items = [json.loads(line) for line in file]
        expected = report["data"]["items"]
        measured = report["suites"]["preference"]
        means = {
            side: sum(row[side]["preference_accuracy"] for row in items) / max(1, len(items))
            for side in ("subject", "baseline")
        }
        stated = {side: measured[side]["preference_accuracy"]["value"] for side in means}
        _ = [report[side][key] for side in ("subject", "baseline") for key in ("address", "digest")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputInvalid(f"the evaluation {folder} cannot be read: {error!r}") from error
    if not items or len(items) != expected:
        raise InputInvalid(f"the evaluation {folder} has {len(items)} items, its report says {expected}")
    if len({row["id"] for row in items}) != len(items):
        raise InputInvalid(f"the evaluation {folder} has an item twice")
    if any(abs(means[side] - stated[side]) > 1e-9 for side in means):
        raise InputInvalid(f"the items of the evaluation {folder} do not give what its report says")
    return Evidence(report, items)


def _metric(name: str, wanted: Any, evidence: Evidence, alpha: float) -> dict[str, Any]:
    before, after = ({row["id"]: row[side][name] for row in evidence.items} for side in ("baseline", "subject"))
    groups = {row["id"]: row["group"] for row in evidence.items}
    margin = wanted.not_worse_by if isinstance(wanted, NotWorse) else None
    try:
        result = compare(before, after, groups, alpha=alpha)
    except ValueError as error:
        raise InputInvalid(f"the evaluation cannot be judged by {name}: {error}") from error
    decision = result.decide(alpha, margin)
    return {
        "metric": name,
        "required": "better" if margin is None else {"not_worse_by": margin},
        "decision": decision,
        "met": decision == "better" or (margin is not None and decision == "not_worse"),
        **_numbers(result),
    }


def _numbers(result: Comparison) -> dict[str, Any]:
    return {
        "before": result.before,
        "after": result.after,
        "difference": result.difference,
        "low": result.low,
        "high": result.high,
        "n": result.n,
        "groups": result.groups,
        "p": result.p,
        "detectable": result.detectable,
        "needed": result.needed,
        "method": result.method,
    }


def overall(decisions: list[Decision], met: bool) -> Decision:
    """One word for several measures: the worst where the requirements are not met, the best where they are."""
    if met:
        return "better" if "better" in decisions else "not_worse"
    return "worse" if "worse" in decisions else "inconclusive"


def _words(decision: str) -> str:
    return decision.replace("_", " ")


def _sentence(metric: dict[str, Any], alpha: float) -> str:
    """`preference accuracy 0.614 → 0.683, +6.9 points, 95 % +3.1 … +10.6, n 311, p 0.0004`."""
    parts = [
        f"{_NAMES.get(metric['metric'], metric['metric'])} {metric['before']:.3f} → {metric['after']:.3f}",
        f"{_points(metric['difference'])} points",
        f"{100 * (1 - alpha):.3g} % {_points(metric['low'])} … {_points(metric['high'])}",
        f"n {metric['n']:,}",
        f"p {metric['p']:.4f}" if metric["p"] >= 0.0001 else "p < 0.0001",
    ]
    if not metric["met"] and metric["decision"] == "inconclusive":
        if metric["detectable"] is not None:
            parts.append(f"could have shown {100 * metric['detectable']:.1f}")
        if metric["needed"] is not None and metric["difference"] > 0 and metric["needed"] > metric["n"]:
            parts.append(f"about {_round(metric['needed']):,} items would show this difference")
    return ", ".join(parts)


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


def _round(count: int) -> int:
    """Two significant digits, upwards."""
    factor = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // factor) * factor
