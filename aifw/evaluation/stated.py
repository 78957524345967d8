"""What an evaluation states about itself: facts for whoever decides by it, and a sentence for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aifw.evaluation import wording
from aifw.evaluation.measures import Measure, named
from aifw.evaluation.report import TIMED
from aifw.job import Job

_MOST_TOLD = 4
"""Measures that the sentence tells besides those of preference; one of each suite."""


def state(job: Job[Any], report: Mapping[str, Any]) -> None:
    """State the facts of the output `evaluation`."""
    data, baseline = report["data"], report["baseline"]
    job.fact("items", data["items"], "evaluation")
    job.fact("groups", data["groups"], "evaluation")
    job.fact("subject", report["subject"]["digest"], "evaluation")
    if baseline is not None:
        job.fact("baseline", baseline["digest"], "evaluation")
    job.fact("data", data["digest"], "evaluation")
    job.fact("sketch", data["sketch"], "evaluation")
    for suite in report["suites"].values():
        for side, prefix in (("subject", ""), ("baseline", "baseline_")):
            for name, entry in suite.get(side, {}).items():
                if entry["value"] is not None:
                    job.fact(f"{prefix}{name}", entry["value"], "evaluation")
    if "preference" in report["suites"]:
        details = report["suites"]["preference"]["details"]["subject"]
        job.fact("shorter_wins", details["shorter_wins"], "evaluation")
    job.fact("summary", summary(report), "evaluation")


def summary(report: Mapping[str, Any]) -> str:
    """The main measures of every suite, of the baseline and of the subject."""
    parts = []
    suites = report["suites"]
    for name, suite in suites.items():
        if name != "preference":
            told = (words for measure, entry in suite["subject"].items() if (words := _told(suite, measure, entry)))
            parts += [words for words in (next(told, ""),) if words]
    del parts[_MOST_TOLD:]
    if "preference" in suites:
        parts.insert(0, _preference(suites["preference"]))
    if report["environment"]["contention"]["contended"] and TIMED & set(suites):
        parts.append("measured while something else wanted the machine")
    return "; ".join(parts) or "nothing could be measured"


def _preference(suite: Mapping[str, Any]) -> str:
    """Both forms of the accuracy, and how far length alone would get."""
    per_token, summed = (_both(suite, name, named(name)) for name in ("preference_accuracy", "preference_accuracy_sum"))
    shorter = suite["details"]["subject"]["shorter_wins"]
    count = suite["subject"]["preference_accuracy"]["n"]
    return f"preference accuracy {per_token} per token, {summed} summed; shorter wins {shorter:.3f}; n {count:,}"


def _told(suite: Mapping[str, Any], name: str, entry: Mapping[str, Any]) -> str:
    measure = named(name)
    told = entry["value"] is not None and measure.better != "neither"
    return "" if not told else f"{measure.title} {_both(suite, name, measure)}"


def _both(suite: Mapping[str, Any], name: str, measure: Measure) -> str:
    after = wording.value(measure, suite["subject"][name]["value"])
    before = suite.get("baseline", {}).get(name, {}).get("value")
    return after if before is None else f"{wording.value(measure, before)} → {after}"
