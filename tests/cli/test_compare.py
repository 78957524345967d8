"""`aifw compare`: which evaluations are meant, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from evaluations import write

from aifw.cli.report_facts import of_state
from aifw.evaluation import report
from aifw.state.store import Store

RIGHT, WRONG = {"chosen": -10.0, "rejected": -20.0}, {"chosen": -20.0, "rejected": -10.0}


def rows(right: int, count: int = 60, **more: Any) -> list[dict[str, Any]]:
    tokens = {"chosen_tokens": 10, "rejected_tokens": 10, "item_digest": "same"}
    return [{"id": f"i{place:03}", **(RIGHT if place < right else WRONG), **tokens, **more} for place in range(count)]


@pytest.fixture
def folders(tmp_path: Path) -> Any:
    """Evaluations of preferences in folders, by what they are called."""

    def make(name: str, subject: Any, **settings: Any) -> str:
        return str(write(tmp_path / name, {"preference": (subject, None)}, baseline=None, **settings).path)

    return make


def measure(found: dict[str, Any], name: str, place: int = 0) -> dict[str, Any]:
    one: dict[str, Any] = next(each for each in found["comparisons"][place]["measures"] if each["measure"] == name)
    return one


def test_two_folders(folders: Any, aifw: Any) -> None:
    before, after = folders("before", rows(20)), folders("after", rows(50))
    out = aifw("compare", before, after).out
    assert re.search(r"preference accuracy +0\.333 → 0\.833 .* \+50\.0 points .* better$", out, re.MULTILINE)
    assert out.splitlines()[-1] == "2 better, 2 inconclusive" or "better" in out.splitlines()[-1]
    found = json.loads(aifw("compare", before, after, "--json").out)
    accuracy = measure(found, "preference_accuracy")
    assert (accuracy["before"], accuracy["after"], accuracy["outcome"]) == (20 / 60, 50 / 60, "better")
    assert accuracy["adjusted_p"] >= accuracy["p"]
    back = json.loads(aifw("compare", after, before, "--json").out)
    assert measure(back, "preference_accuracy")["outcome"] == "worse"


def test_the_level_is_ones_own(folders: Any, aifw: Any) -> None:
    before, after = folders("before", rows(30)), folders("after", rows(38))
    usual = json.loads(aifw("compare", before, after, "--json").out)
    strict = json.loads(aifw("compare", before, after, "--json", "--alpha", "0.0001").out)
    wide, narrow = (measure(each, "preference_accuracy") for each in (strict, usual))
    assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]
    assert wide["outcome"] == "inconclusive"
    assert aifw("compare", before, after, "--alpha", "2", status=64).err


def test_the_same_and_one_item_are_inconclusive(folders: Any, aifw: Any) -> None:
    same = folders("same", rows(20))
    assert aifw("compare", same, same).out.splitlines()[-1] == "4 inconclusive"
    out = aifw("compare", folders("one", rows(0, 1)), folders("other", rows(1, 1))).out
    assert out.splitlines()[-1] == "4 inconclusive"


def test_items_that_differ_or_changed_are_refused(folders: Any, aifw: Any) -> None:
    before = folders("before", rows(20))
    assert "the items differ" in aifw("compare", before, folders("fewer", rows(20, 59)), status=1).err
    changed = folders("changed", rows(20, item_digest="other"))
    assert "are not the same on both sides" in aifw("compare", before, changed, status=1).err


def test_what_was_cut_off_is_refused(folders: Any, aifw: Any) -> None:
    before, after = folders("before", rows(20)), folders("after", rows(50))
    items = Path(after) / "items.jsonl"
    items.write_text("".join(items.read_text().splitlines(keepends=True)[:-1]))
    ended = aifw("compare", before, after, status=1)
    assert "error[AIFW501]" in ended.err
    assert "was cut off or edited" in ended.err


def test_other_suites_or_settings_are_refused(folders: Any, aifw: Any, tmp_path: Path) -> None:
    before = folders("before", rows(20))
    timed = write(tmp_path / "timed", {"latency": ([{"id": "a", "seconds": 1.0}], None)}, baseline=None).path
    assert "have no measure in common" in aifw("compare", before, str(timed), status=1).err
    after = Path(folders("after", rows(50)))
    found = json.loads((after / "report.json").read_bytes())
    found["settings"]["max_prompt_tokens"] = 7
    found["digest"] = report.digest(found)
    (after / "report.json").write_text(json.dumps(found))
    assert (
        "measured differently: `max_prompt_tokens` is None and 7" in aifw("compare", before, str(after), status=1).err
    )


def test_contended_times_show_nothing(aifw: Any, tmp_path: Path) -> None:
    def latency(name: str, factor: float, *, contended: bool) -> str:
        times = [{"id": f"{place:03}", "seconds": factor * (1 + place % 7)} for place in range(100)]
        return str(write(tmp_path / name, {"latency": (times, None)}, baseline=None, contended=contended).path)

    quick, slow, busy = (
        latency("q", 1, contended=False),
        latency("s", 2, contended=False),
        latency("b", 1, contended=True),
    )
    found = json.loads(aifw("compare", slow, quick, "--json").out)
    assert measure(found, "latency_p50")["outcome"] == "better"
    found = json.loads(aifw("compare", slow, busy, "--json").out)
    assert measure(found, "latency_p50")["outcome"] == "inconclusive"
    assert measure(found, "latency_p50")["note"] == "measured under contention"


# Names within a state


def test_runs_addresses_and_digests(evaluated: Any, aifw: Any) -> None:
    store = Store.open(evaluated.layout)
    facts = of_state(store)
    store.close()
    one, three = (
        "".join(each.folder.parts[-3:-1])
        for each in facts.evaluations
        if each.address == "stages.check" and each.run != 2
    )
    expected = json.loads(aifw("compare", one, three, "--json").out)
    assert measure(expected, "accuracy")["outcome"] == "better"
    assert expected["comparisons"][0]["before"]["run"] == 1
    for before, after in (
        ("1", "stages.check"),
        (one[:8], "check"),
        (f"check@{one[:6]}", f"stages.check@{three[:6]}"),
        ("1", "3"),
    ):
        assert json.loads(aifw("compare", before, after, "--json").out) == expected
    between = json.loads(aifw("compare", "1", "2", "--json").out)["comparisons"]
    assert [each["after"]["run"] for each in between] == [2]
    assert json.loads(aifw("compare", "3", "9", "--json").out)["comparisons"][0]["after"]["run"] == 3
    out = aifw("compare", "3", "3").out
    assert "stages.check@" in out
    assert "stages.speed@" in out


def test_names_that_mean_nothing(evaluated: Any, aifw: Any) -> None:
    assert "nothing was evaluated up to run 0" in aifw("compare", "0", "1", status=64).err
    assert "did you mean" in aifw("compare", "stages.chek", "1", status=64).err
    assert "no evaluation check@ffff" in aifw("compare", "check@ffff0000", "1", status=64).err
    (evaluated.folder / "spec.yaml").unlink()
    assert "there is no spec" in aifw("compare", "1", "2", status=64).err
    assert aifw("compare", "1", "2", "--state", ".aifw", status=64).err
