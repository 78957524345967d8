from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluations import preference_row, preference_rows, write

from aifw.errors import InputInvalid
from aifw.evaluation.kinds import EvaluateSettings
from aifw.evaluation.promote import judge
from aifw.evaluation.promote_kinds import Promote, PromoteSettings
from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.job import Input, Job
from aifw.kind import History, InputFacts, Standing

Outcomes = list[tuple[float, float]]

BETTER: Outcomes = [(0.0, 1.0)] * 30 + [(1.0, 0.0)] * 5 + [(1.0, 1.0)] * 65
UNCLEAR: Outcomes = [(0.0, 1.0)] * 28 + [(1.0, 0.0)] * 20 + [(1.0, 1.0)] * 352
SAME: Outcomes = [(1.0, 1.0)] * 250 + [(0.0, 0.0)] * 150


def _evidence(folder: Path, outcomes: Outcomes, more: Any = None, **options: Any) -> Input:
    """An evaluation from outcomes of baseline and subject."""
    before, after = (preference_rows([each[side] for each in outcomes]) for side in (0, 1))
    return write(folder, {"preference": (after, before), **(more or {})}, **options)


def _judge(tmp_path: Path, evidence: Input, candidate: str = "new", look: int = 1, **settings: Any) -> dict[str, Any]:
    chosen = {"candidate": "dpo", "alias": "champion", "evidence": "check"} | settings
    job = Job(
        PromoteSettings.model_validate(chosen),
        out=tmp_path / "out",
        inputs={"candidate": Input("stages.dpo", tmp_path, digest=candidate), "evidence": evidence},
        outputs=("verdict",),
        look=look,
    )
    judge(job)
    verdict: dict[str, Any] = job.facts["verdict"]["verdict"]
    assert json.loads((tmp_path / "out/verdict/verdict.json").read_text()) == verdict
    return verdict


def test_better_promotes(tmp_path: Path) -> None:
    verdict = _judge(tmp_path, _evidence(tmp_path / "e", BETTER))
    assert (verdict["decision"], verdict["promote"], verdict["alias"]) == ("better", True, "champion")
    assert (verdict["candidate"], verdict["incumbent"], verdict["data"]) == ("new", "old", "data-digest")
    (metric,) = verdict["metrics"]
    assert metric["before"] == pytest.approx(0.70)
    assert metric["after"] == pytest.approx(0.95)
    assert metric["low"] < metric["difference"] < metric["high"]
    assert metric["p"] == metric["p_adjusted"]
    assert metric["met"]
    assert verdict["summary"].startswith("better (preference accuracy 0.700 → 0.950, +25.0 points, ")


def test_inconclusive_is_held_and_says_what_would_help(tmp_path: Path) -> None:
    verdict = _judge(tmp_path, _evidence(tmp_path / "e", UNCLEAR))
    assert (verdict["decision"], verdict["promote"]) == ("inconclusive", False)
    assert verdict["summary"].startswith("held: inconclusive (preference accuracy 0.930 → 0.950, +2.0 points")
    assert "could have shown" in verdict["summary"]
    assert "items would show this difference" in verdict["summary"]


def test_worse_is_held(tmp_path: Path) -> None:
    verdict = _judge(tmp_path, _evidence(tmp_path / "e", [(after, before) for before, after in BETTER]))
    assert (verdict["decision"], verdict["promote"]) == ("worse", False)
    assert "\N{MINUS SIGN}25.0 points" in verdict["summary"]


def test_not_worse_by_a_margin(tmp_path: Path) -> None:
    require = {"preference_accuracy": {"not_worse_by": "3%"}}
    verdict = _judge(tmp_path, _evidence(tmp_path / "e", SAME), require=require)
    assert (verdict["decision"], verdict["promote"]) == ("not_worse", True)
    few = _judge(tmp_path, _evidence(tmp_path / "f", [(1.0, 1.0)] * 10), require=require)
    assert (few["decision"], few["promote"]) == ("inconclusive", False)


def test_what_is_spent_is_in_the_verdict(tmp_path: Path) -> None:
    first, later = (
        _judge(tmp_path, _evidence(tmp_path / f"e{look}", BETTER), look=look, alpha="4%", looks=10) for look in (1, 5)
    )
    assert (first["look"], first["looks"], first["alpha_total"]) == (1, 10, 0.04)
    assert first["alpha"] == first["alpha_spent"]
    assert 0 < later["alpha"] < first["alpha"]
    assert first["alpha_spent"] < later["alpha_spent"] < 0.04


def test_a_difference_that_shows_at_the_first_look_does_not_at_a_later_one(tmp_path: Path) -> None:
    outcomes = [(0.0, 1.0)] * 22 + [(1.0, 0.0)] * 5 + [(1.0, 1.0)] * 73
    first, later = (_judge(tmp_path, _evidence(tmp_path / f"e{look}", outcomes), look=look) for look in (1, 150))
    assert first["promote"]
    assert not later["promote"]
    assert later["decision"] == "inconclusive"


def test_with_alpha_used_up_a_new_hold_out_is_asked_for(tmp_path: Path) -> None:
    verdict = _judge(tmp_path, _evidence(tmp_path / "e", BETTER), look=11, looks=10)
    assert (verdict["decision"], verdict["promote"], verdict["alpha"]) == ("inconclusive", False, 0.0)
    assert "a new held-out set is needed" in verdict["summary"]
    assert "look 11" in verdict["summary"]


def test_looks_that_were_not_counted_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="looks at it cannot be counted"):
        _judge(tmp_path, _evidence(tmp_path / "e", BETTER), look=0)


def test_the_incumbent_itself_decides_nothing(tmp_path: Path) -> None:
    verdict = _judge(tmp_path, _evidence(tmp_path / "e", SAME, baseline="new"))
    assert (verdict["decision"], verdict["promote"], verdict["metrics"]) == ("not_worse", False, [])
    assert "nothing to decide" in verdict["summary"]


def test_evidence_about_another_candidate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match=r"is about stages\.dpo@new, not about the candidate stages\.dpo@othe"):
        _judge(tmp_path, _evidence(tmp_path / "e", BETTER), candidate="other")


def test_evidence_without_a_baseline_is_refused(tmp_path: Path) -> None:
    evidence = write(tmp_path / "e", {"preference": (preference_rows([1.0] * 10), None)}, baseline=None)
    with pytest.raises(InputInvalid, match=r"compares stages\.dpo with nothing") as caught:
        _judge(tmp_path, evidence)
    assert '`baseline: "@champion"`' in str(caught.value.hint) or "@champion" in str(caught.value.hint)


def test_a_measure_the_evidence_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        InputInvalid, match="`perplexity` is required, and the evaluation does not measure it"
    ) as caught:
        _judge(tmp_path, _evidence(tmp_path / "e", BETTER), require={"perplexity": "better"})
    assert "language_model" in str(caught.value.hint)


# One gate over several suites, through the real report


def test_a_guard_that_is_set_and_cannot_be_looked_at_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="guard `contamination` is set") as caught:
        _judge(tmp_path, _evidence(tmp_path / "e", BETTER), guards={"contamination": {"at_most": 0}})
    assert "suite `contamination`" in str(caught.value.hint)


def _latencies(seconds: float, count: int = 200) -> list[dict[str, Any]]:
    return [{"id": f"r{number:04}", "seconds": seconds * (1 + 0.02 * (number % 10))} for number in range(count)]


def test_bounds_of_a_percentile_use_its_whole_interval(tmp_path: Path) -> None:
    require = {"preference_accuracy": "better", "latency_p95": {"at_most": "80ms"}}
    for seconds, decision in ((0.05, "better"), (0.09, "worse")):
        more = {"latency": (_latencies(seconds), _latencies(0.05))}
        verdict = _judge(tmp_path, _evidence(tmp_path / f"e{seconds}", BETTER, more), require=require)
        assert verdict["decision"] == decision
        assert verdict["promote"] == (decision == "better")
    entry = verdict["metrics"][1]
    assert entry["metric"] == "latency_p95"
    assert "required at most 80 ms" in entry["text"]


def test_a_percentile_whose_interval_crosses_the_bound_is_inconclusive(tmp_path: Path) -> None:
    spread = [{"id": f"r{number:04}", "seconds": 0.04 + 0.001 * (number % 50)} for number in range(40)]
    more = {"latency": (spread, spread)}
    evidence = _evidence(tmp_path / "e", BETTER, more)
    entry = json.loads((evidence.path / "report.json").read_text())["suites"]["latency"]["subject"]["latency_p95"]
    assert entry["low"] < entry["high"]
    middle = (entry["low"] + entry["high"]) / 2
    verdict = _judge(tmp_path, evidence, require={"latency_p95": {"at_most": middle}})
    assert (verdict["decision"], verdict["promote"]) == ("inconclusive", False)


def test_a_contended_latency_never_passes(tmp_path: Path) -> None:
    more = {"latency": (_latencies(0.01), _latencies(0.05))}
    for wanted in ({"at_most": "80ms"}, {"not_worse_by": "50%"}, "better"):
        evidence = _evidence(tmp_path / f"e{wanted}", BETTER, more, contended=True)
        verdict = _judge(tmp_path, evidence, require={"latency_p95": wanted})
        assert (verdict["decision"], verdict["promote"]) == ("inconclusive", False)
        assert "while others used the machine" in verdict["summary"]


def test_what_was_observed_once_is_compared_by_its_value(tmp_path: Path) -> None:
    more = {"observed": {"resources": ({"peak_memory": 5 * 1024**3}, {"peak_memory": 4 * 1024**3})}}
    for wanted, promote in (
        ({"at_most": "6GiB"}, True),
        ({"at_most": "4.5GiB"}, False),
        ({"not_worse_by": "30%"}, True),
        ({"not_worse_by": "10%"}, False),
    ):
        evidence = _evidence(tmp_path / f"e{wanted}", BETTER, **more)
        verdict = _judge(tmp_path, evidence, require={"preference_accuracy": "better", "peak_memory": wanted})
        assert verdict["promote"] == promote
        assert verdict["decision"] == ("better" if promote else "worse")


@pytest.mark.parametrize(("lowered", "promote"), [(0.3, True), (0.0, False), (-0.3, False)])
def test_lower_perplexity_is_better(tmp_path: Path, lowered: float, promote: bool) -> None:
    before = [{"id": f"t{number}", "log_probability": -30.0 - number % 7, "tokens": 10} for number in range(100)]
    after = [
        {**row, "log_probability": row["log_probability"] * (1 - lowered) + (number % 3 - 1) * 0.1}
        for number, row in enumerate(before)
    ]
    evidence = _evidence(tmp_path / "e", SAME, {"language_model": (after, before)})
    verdict = _judge(tmp_path, evidence, require={"perplexity": "better"})
    assert verdict["promote"] == promote
    assert "points" not in verdict["summary"]
    relative = _judge(tmp_path, evidence, require={"perplexity": {"not_worse_by": "5%"}})
    assert relative["promote"] == (lowered >= 0)


def test_an_alarm_of_a_guard_holds_what_is_better(tmp_path: Path) -> None:
    seen = [{"id": f"i{number:04}", "seen": number == 17} for number in range(100)]
    evidence = _evidence(tmp_path / "e", BETTER, {"contamination": (seen, seen)})
    verdict = _judge(tmp_path, evidence)
    assert (verdict["decision"], verdict["promote"]) == ("inconclusive", False)
    assert "guard: contamination 0.01, at most 0" in verdict["summary"]
    off = _judge(
        tmp_path, _evidence(tmp_path / "f", BETTER, {"contamination": (seen, seen)}), guards={"contamination": "off"}
    )
    assert off["promote"]


# Bad input


@pytest.mark.parametrize("damage", ["cut off", "edited", "twice", "no report", "not a number", "report edited"])
def test_damaged_evidence_is_refused(tmp_path: Path, damage: str) -> None:
    evidence = _evidence(tmp_path / "e", BETTER)
    items = evidence.path / "items.jsonl"
    lines = items.read_text().splitlines(keepends=True)
    changes: dict[str, Callable[[], object]] = {
        "cut off": lambda: items.write_text("".join(lines[:50])),
        "edited": lambda: items.write_text("".join(lines).replace("-30.0", "-10.0", 1)),
        "twice": lambda: items.write_text("".join([*lines[:-1], lines[-2]])),
        "no report": (evidence.path / "report.json").unlink,
        "not a number": lambda: items.write_text("".join(lines).replace("-10.0", "NaN", 1)),
        "report edited": lambda: (evidence.path / "report.json").write_text(
            (evidence.path / "report.json").read_text().replace('"digest": "old"', '"digest": "odd"')
        ),
    }
    changes[damage]()
    with pytest.raises(InputInvalid):
        _judge(tmp_path, evidence)
    assert not (tmp_path / "out/verdict").exists()


@pytest.mark.parametrize(
    "outcomes",
    [[(0.0, 1.0)], [(0.5, 0.5)] * 20, [(1.0, 1.0)] * 20, [(0.0, 0.0)] * 3],
    ids=["one", "ties", "right", "wrong"],
)
def test_too_little_is_inconclusive(tmp_path: Path, outcomes: Outcomes) -> None:
    verdict = _judge(tmp_path, _evidence(tmp_path / "e", outcomes))
    assert (verdict["decision"], verdict["promote"]) == ("inconclusive", False)
    (metric,) = verdict["metrics"]
    assert metric["p"] == 1.0


def test_one_item_or_one_group_is_inconclusive_for_any_form(tmp_path: Path) -> None:
    before = [{"id": f"t{number}", "group": "all", "log_probability": -30.0, "tokens": 10} for number in range(30)]
    after = [{**row, "log_probability": -20.0} for row in before]
    single = (
        [preference_row(f"i{number}", 0.0, "all") for number in range(30)],
        [preference_row(f"i{number}", 1.0, "all") for number in range(30)],
    )
    evidence = write(tmp_path / "e", {"language_model": (after, before), "preference": (single[1], single[0])})
    for name in ("perplexity", "preference_accuracy", "margin_per_token"):
        verdict = _judge(tmp_path, evidence, require={name: "better"})
        assert (verdict["decision"], verdict["promote"]) == ("inconclusive", False), verdict["summary"]


# The kind


def test_nothing_to_do_once_promoted() -> None:
    settings = PromoteSettings.model_validate({"candidate": "dpo", "alias": "champion", "evidence": "check"})
    assert Promote().settled(settings, Standing({"candidate": "x"}, {"champion": "x"}, {})) == "dpo is already champion"
    assert Promote().settled(settings, Standing({"candidate": "x"}, {"champion": "y"}, {})) is None
    assert Promote().settled(settings, Standing({}, {}, {})) is None


def test_a_forecast_grows_with_the_items() -> None:
    settings = PromoteSettings.model_validate({"candidate": "dpo", "alias": "champion", "evidence": "check"})
    here = Machine("here", Cpu("any", 2), Memory(8 * 1024**3, 8 * 1024**3))
    small, large = (
        Promote().forecast(settings, {"evidence": InputFacts("check", {"items": items}, certain=True)}, here, History())
        for items in (100, 100_000)
    )
    assert small.memory.mid < large.memory.mid
    assert small.seconds.mid < large.seconds.mid


def _disagreements(evaluate: dict[str, Any], **promote: Any) -> list[tuple[tuple[str, ...], str]]:
    settings = PromoteSettings.model_validate({"candidate": "dpo", "alias": "champion", "evidence": "check"} | promote)
    checked = EvaluateSettings.model_validate({"subject": "dpo", "baseline": "@champion", "data": "d"} | evaluate)
    return [(each.field, each.message) for each in Promote().disagreements(settings, {"evidence": checked})]


def test_a_measure_that_will_not_be_measured_is_said_while_planning() -> None:
    assert _disagreements({"suites": ["preference"]}) == []
    assert _disagreements({}) == []
    assert _disagreements({"suites": ["preference"]}, require={"latency_p95": {"at_most": "80ms"}}) == [
        (("require", "latency_p95"), "`check` does not measure `latency_p95`, which is required")
    ]
    assert [field for field, _ in _disagreements({"suites": ["latency"]})] == [("evidence",)]
    harness = {"suites": ["preference"], "harness": {"tasks": ["arc_easy"]}}
    assert _disagreements(harness, require={"tasks": {"arc_easy/acc": "better"}}) == []
    assert _disagreements({"suites": ["preference"], "baseline": None}) == [
        (("evidence",), "`check` compares with nothing")
    ]
