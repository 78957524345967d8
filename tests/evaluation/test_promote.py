from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from aifw.errors import InputInvalid
from aifw.evaluation.kinds import Promote, PromoteSettings
from aifw.evaluation.promote import judge, overall
from aifw.job import Input, Job
from aifw.kind import Standing


def _evidence(folder: Path, outcomes: list[tuple[float, float]], *, baseline: str = "old") -> Input:
    """An evaluation as `evaluate` writes it, from outcomes of baseline and subject."""
    folder.mkdir(parents=True)
    rows = [
        {
            "id": f"i{number}",
            "group": f"g{number}",
            "baseline": {"preference_accuracy": before},
            "subject": {"preference_accuracy": after},
        }
        for number, (before, after) in enumerate(outcomes)
    ]
    means = {
        side: {"preference_accuracy": {"value": sum(row[side]["preference_accuracy"] for row in rows) / len(rows)}}  # type: ignore[index]
        for side in ("baseline", "subject")
    }
    report = {
        "subject": {"address": "stages.dpo", "digest": "new"},
        "baseline": {"address": "@champion", "digest": baseline},
        "data": {"items": len(rows)},
        "suites": {"preference": means},
    }
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Input("stages.check", folder)


def _judge(tmp_path: Path, evidence: Input, candidate: str = "new", **settings: Any) -> dict[str, Any]:
    chosen = {"candidate": "dpo", "alias": "champion", "evidence": "check"} | settings
    job = Job(
        PromoteSettings.model_validate(chosen),
        out=tmp_path / "out",
        inputs={"candidate": Input("stages.dpo", tmp_path, digest=candidate), "evidence": evidence},
        outputs=("verdict",),
    )
    judge(job)
    verdict: dict[str, Any] = job.facts["verdict"]["verdict"]
    assert json.loads((tmp_path / "out/verdict/verdict.json").read_text()) == verdict
    return verdict


BETTER = [(0.0, 1.0)] * 25 + [(1.0, 0.0)] * 5 + [(1.0, 1.0)] * 70
UNCLEAR = [(0.0, 1.0)] * 6 + [(1.0, 0.0)] * 4 + [(1.0, 1.0)] * 90
SAME = [(1.0, 1.0)] * 250 + [(0.0, 0.0)] * 150


def test_better_promotes(tmp_path: Path) -> None:
    verdict = _judge(tmp_path, _evidence(tmp_path / "e", BETTER))
    assert (verdict["decision"], verdict["promote"], verdict["alias"]) == ("better", True, "champion")
    assert (verdict["candidate"], verdict["incumbent"]) == ("new", "old")
    (metric,) = verdict["metrics"]
    assert metric["before"] == pytest.approx(0.75)
    assert metric["after"] == pytest.approx(0.95)
    assert metric["low"] < metric["difference"] < metric["high"]
    assert metric["met"]
    assert verdict["summary"].startswith("better (")
    assert "0.750 → 0.950" in verdict["summary"]


def test_inconclusive_is_held_and_says_what_would_help(tmp_path: Path) -> None:
    verdict = _judge(tmp_path, _evidence(tmp_path / "e", UNCLEAR))
    assert (verdict["decision"], verdict["promote"]) == ("inconclusive", False)
    assert verdict["summary"].startswith("held: inconclusive (preference accuracy 0.940 → 0.960, +2.0 points")
    assert "could have shown" in verdict["summary"]
    assert "items would show this difference" in verdict["summary"]


def test_worse_is_held(tmp_path: Path) -> None:
    verdict = _judge(tmp_path, _evidence(tmp_path / "e", [(after, before) for before, after in BETTER]))
    assert (verdict["decision"], verdict["promote"]) == ("worse", False)
    assert "\N{MINUS SIGN}20.0 points" in verdict["summary"]


def test_not_worse_by_a_margin(tmp_path: Path) -> None:
    require = {"preference_accuracy": {"not_worse_by": "2%"}}
    verdict = _judge(tmp_path, _evidence(tmp_path / "e", SAME), require=require)
    assert (verdict["decision"], verdict["promote"]) == ("not_worse", True)
    few = _judge(tmp_path, _evidence(tmp_path / "f", [(1.0, 1.0)] * 10), require=require)
    assert (few["decision"], few["promote"]) == ("inconclusive", False)


def test_the_incumbent_itself_decides_nothing(tmp_path: Path) -> None:
    verdict = _judge(tmp_path, _evidence(tmp_path / "e", SAME, baseline="new"))
    assert (verdict["decision"], verdict["promote"], verdict["metrics"]) == ("not_worse", False, [])
    assert "nothing to decide" in verdict["summary"]


def test_evidence_about_another_candidate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match=r"is about stages\.dpo@new, not about the candidate stages\.dpo@othe"):
        _judge(tmp_path, _evidence(tmp_path / "e", BETTER), candidate="other")


@pytest.mark.parametrize("damage", ["cut off", "edited", "twice", "no report", "not a number"])
def test_damaged_evidence_is_refused(tmp_path: Path, damage: str) -> None:
    evidence = _evidence(tmp_path / "e", BETTER)
    items = evidence.path / "items.jsonl"
    lines = items.read_text().splitlines(keepends=True)
    if damage == "cut off":
        items.write_text("".join(lines[:50]))
    elif damage == "edited":
        items.write_text(
            "".join(lines).replace(
                '"baseline": {"preference_accuracy": 0.0}', '"baseline": {"preference_accuracy": 1.0}', 1
            )
        )
    elif damage == "twice":
        items.write_text("".join([*lines[:-1], lines[-2]]))
    elif damage == "no report":
        (evidence.path / "report.json").unlink()
    else:
        items.write_text(
            "".join(lines).replace(
                '"subject": {"preference_accuracy": 1.0}', '"subject": {"preference_accuracy": NaN}', 1
            )
        )
    with pytest.raises(InputInvalid):
        _judge(tmp_path, evidence)
    assert not (tmp_path / "out/verdict").exists()


def test_something_must_be_required() -> None:
    with pytest.raises(ValidationError, match="at least one requirement"):
        PromoteSettings.model_validate({"candidate": "a", "alias": "b", "evidence": "c", "require": {}})


def test_nothing_to_do_once_promoted() -> None:
    settings = PromoteSettings.model_validate({"candidate": "dpo", "alias": "champion", "evidence": "check"})
    assert Promote().settled(settings, Standing({"candidate": "x"}, {"champion": "x"}, {})) == "dpo is already champion"
    assert Promote().settled(settings, Standing({"candidate": "x"}, {"champion": "y"}, {})) is None
    assert Promote().settled(settings, Standing({}, {}, {})) is None


@pytest.mark.parametrize(
    ("decisions", "met", "word"),
    [
        (["better", "not_worse"], True, "better"),
        (["not_worse"], True, "not_worse"),
        (["better", "worse"], False, "worse"),
        (["better", "inconclusive"], False, "inconclusive"),
    ],
)
def test_one_word_for_several_measures(decisions: list[Any], met: bool, word: str) -> None:
    assert overall(decisions, met) == word
