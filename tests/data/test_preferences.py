import hashlib
import json
from dataclasses import replace

import pytest

from aifw.data.events import check, encode
from aifw.data.kinds import Preferences, PreferencesSettings
from aifw.data.preferences import build
from aifw.data.text_table import TextTable
from aifw.errors import InputInvalid, SealedDataLeaked
from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.job import Input, Job
from aifw.kind import History, InputFacts
from aifw.settings import reference_paths

OUTPUTS = ("train", "heldout", "card")


def comparison(number, **changed):
    word = hashlib.sha256(str(number).encode()).hexdigest()
    return check(
        {
            "id": f"e{number:05d}",
            "kind": "comparison",
            "conversation": f"c{number}",
            "rater": "ana",
            "time": "2026-03-02T10:00:00Z",
            "prompt": f"What about {word}?",
            "answer_a": f"Take {word[::-1]} and fix it.",
            "answer_b": f"There are {word[::2]} ways to see this.",
            "preferred": "a",
        }
        | changed
    )


def run(folder, events, out="out", sealed=None, **settings):
    source = folder / "events"
    source.mkdir(exist_ok=True)
    rows = sorted(events, key=lambda event: event["id"])
    (source / "events.jsonl").write_text("".join(encode(event) + "\n" for event in rows))
    notes = []
    job = Job(
        PreferencesSettings.model_validate({"from": "feedback", "sealed": [*(sealed or {})]} | settings),
        out=folder / out,
        inputs={"from": Input("datasets.feedback", source)}
        | {f"sealed.{at}": Input(name, path) for at, (name, path) in enumerate((sealed or {}).items())},
        outputs=OUTPUTS,
        report=lambda name, data: notes.append(data["text"]) if name == "note" else None,
    )
    build(job)
    return job, notes


def pairs(job, output):
    return [json.loads(line) for line in (job.out / output / "pairs.jsonl").read_text().splitlines()]


def everything(job):
    return {path.relative_to(job.out): path.read_bytes() for path in job.out.rglob("*.*")}


def test_pairs_have_the_documented_form(tmp_path):
    job, notes = run(tmp_path, [comparison(number) for number in range(40)], heldout="25%")
    train, heldout = pairs(job, "train"), pairs(job, "heldout")
    assert len(train) + len(heldout) == 40
    assert notes == []
    assert set(train[0]) == {"id", "group", "prompt", "chosen", "rejected", "confidence", "source"}
    assert train == sorted(train, key=lambda row: row["id"])
    facts = job.facts["heldout"]
    assert facts["rows"] == len(heldout)
    assert facts["groups"] == len({row["group"] for row in heldout})
    assert facts["simulated"] == 0
    assert facts["chars_chosen"] == pytest.approx(sum(len(row["chosen"]) for row in heldout) / len(heldout), abs=0.06)


def test_it_says_where_not_everything_was_compared(tmp_path, monkeypatch):
    really = TextTable.clusters
    monkeypatch.setattr(
        TextTable, "clusters", lambda *given, **more: replace(really(*given, **more), exact=False, skipped=700)
    )
    job, notes = run(tmp_path, [comparison(number) for number in range(40)], heldout="25%")
    assert notes == [
        "not everything was compared with each other: 1,400 comparisons of very common texts were left out"
    ]
    card = json.loads((job.out / "card/card.json").read_text())
    assert card["leaks"]["between_sides"] == "conversations and clusters, but not all texts"
    assert "share nothing that was found, but not everything was compared" in (job.out / "card/card.html").read_text()


def test_the_same_feedback_makes_the_same_bytes(tmp_path):
    events = [comparison(number) for number in range(60)]
    one, _ = run(tmp_path, events, "one", simulate=10)
    other, _ = run(tmp_path, events[::-1], "two", simulate=10)
    assert everything(one) == everything(other)
    assert one.facts == other.facts


def test_simulated_pairs_are_only_in_train_and_marked(tmp_path):
    job, _ = run(tmp_path, [comparison(number) for number in range(60)], simulate=15)
    simulated = [row for row in pairs(job, "train") if row["source"] == "simulated"]
    assert len(simulated) == job.facts["train"]["simulated"] == 15
    assert all(row["confidence"] < 0.6 for row in simulated)
    assert all(row["source"] != "simulated" for row in pairs(job, "heldout"))


def test_max_pairs_counts_simulated_ones_and_keeps_the_same_pairs_as_data_grow(tmp_path):
    few, _ = run(tmp_path, [comparison(number) for number in range(100)], "few", max_pairs=30, simulate=500)
    assert len(pairs(few, "train")) == 30
    many, _ = run(tmp_path, [comparison(number) for number in range(120)], "many", max_pairs=30)
    kept = {row["id"] for row in pairs(few, "train")} & {row["id"] for row in pairs(many, "train")}
    assert len(kept) >= 20


def test_what_is_lost_is_counted_in_note_and_card(tmp_path):
    events = [comparison(number) for number in range(40)]
    events += [comparison(100 + number, preferred="tie") for number in range(3)]
    events += [comparison(200, answer_a="short one here", answer_b="other one there")]
    events += [
        comparison(200, id="t1", rater="bo", preferred="tie", answer_a="short one here", answer_b="other one there")
    ]
    job, notes = run(tmp_path, events, min_confidence="70%")
    assert notes == ["not used: 3 tie, 1 confidence below 0.70"]
    card = json.loads((job.out / "card/card.json").read_text())
    assert card["lost"] == {"tie": 3, "confidence below 0.70": 1}
    assert card["events"] == {"comparison": 45}
    assert sum(card["confidence"].values()) == card["train"]["rows"] + card["heldout"]["rows"] == 40
    text = (job.out / "card/card.html").read_text()
    assert "<td>tie</td><td>3</td>" in text
    assert "the longer answer wins" in text


@pytest.mark.parametrize(
    ("events", "settings", "said"),
    [
        ([comparison(1, preferred="tie")], {}, "1 events made 0 pairs.*not used: 1 tie"),
        ([comparison(1), comparison(2)], {"min_confidence": "95%"}, "not used: 2 confidence below 0.95"),
        (
            [comparison(number, answer_b="I am afraid I cannot help you with that.") for number in range(40)],
            {"heldout": "50%"},
            "no pair is left for training.*close to a held-out item.*the largest cluster .* has 40",
        ),
    ],
)
def test_an_empty_side_is_an_error_with_counts(tmp_path, events, settings, said):
    with pytest.raises(InputInvalid, match=said):
        run(tmp_path, events, **settings)


def test_simulated_pairs_keep_to_their_share(tmp_path):
    events = [comparison(number) for number in range(60)]
    job, notes = run(tmp_path, events, simulate=500, most_simulated="25%")
    facts = job.facts["train"]
    assert 0.2 < facts["simulated"] / facts["rows"] <= 0.25
    assert any("more would exceed 25% of the pairs" in note for note in notes)


def test_judgements_age_from_the_newest_event_and_not_from_the_clock(tmp_path):
    events = [comparison(number) for number in range(40)]
    events += [comparison(100 + number, time="2024-03-02T10:00:00Z") for number in range(10)]
    job, notes = run(tmp_path, events, "aged", half_life="365d", min_confidence="0.6")
    assert notes == ["not used: 10 confidence below 0.60"]  # 0.8 of two years ago is 0.586
    card = json.loads((job.out / "card/card.json").read_text())
    assert card["age"] == {
        "newest": "2026-03-02T10:00:00Z",
        "half_life_days": 365.0,
        "days": {"0.1": 0.0, "0.5": 0.0, "0.9": 0.0, "0.99": 0.0, "1": 0.0},
    }
    kept, notes = run(tmp_path, events, "kept")
    assert notes == []
    assert json.loads((kept.out / "card/card.json").read_text())["age"]["days"]["1"] == 730.0


def test_raters_who_contradict_the_others_count_less(tmp_path):
    events = []
    for number in range(80):
        for rater, preferred in (("ana", "a"), ("bo", "a"), ("cy", "ab"[number % 2])):
            events.append(comparison(number, id=f"{rater}{number:03d}", rater=rater, preferred=preferred))
    equal, _ = run(tmp_path, events, "equal", raters="equal")
    weighed, _ = run(tmp_path, events, "weighed")
    contested = {row["id"]: row["confidence"] for row in pairs(equal, "train") if row["confidence"] < 0.9}
    assert len(contested) > 10
    for row in pairs(weighed, "train"):
        assert row["confidence"] > contested.get(row["id"], 0)
    raters = json.loads((weighed.out / "card/card.json").read_text())["raters"]
    assert raters["pairs_of_several"] == 80
    assert raters["unanimous"] == 0.5
    assert raters["shift"]["lowest"] < 0 < raters["shift"]["highest"]
    assert "cy" not in json.dumps(raters)


def test_training_pairs_that_touch_a_sealed_set_are_refused_or_dropped(tmp_path):
    events = [comparison(number) for number in range(60)]
    first, _ = run(tmp_path, events, "first", heldout="20%")
    # The same feedback split at a larger share holds out more, so that some of the first one's training pairs are sealed now.
    other, _ = run(tmp_path, events, "other", heldout="60%")
    sealed = {"other.heldout": other.out / "heldout"}
    shared = {row["id"] for row in pairs(first, "train")} & {row["id"] for row in pairs(other, "heldout")}
    assert len(shared) > 5
    with pytest.raises(SealedDataLeaked, match=rf"{len(shared)} with other\.heldout; one begins") as caught:
        run(tmp_path, events, "refused", heldout="20%", sealed=sealed)
    assert "on_sealed: drop" in caught.value.hint
    assert not (tmp_path / "refused/train").exists()
    job, notes = run(tmp_path, events, "dropped", heldout="20%", sealed=sealed, on_sealed="drop", simulate=20)
    assert notes[-1] == f"not used: {len(shared)} close to a sealed set"
    assert not shared & {row["id"] for row in pairs(job, "train")}
    closed = {row[side] for row in pairs(other, "heldout") for side in ("chosen", "rejected")}
    assert not closed & {row[side] for row in pairs(job, "train") for side in ("chosen", "rejected")}
    card = json.loads((job.out / "card/card.json").read_text())
    assert card["leaks"]["sealed"] == {"other.heldout": len(shared)}


def test_a_sealed_set_that_nothing_touches_changes_nothing(tmp_path):
    far, _ = run(tmp_path, [comparison(number) for number in range(500, 540)], "far")
    events = [comparison(number) for number in range(40)]
    plain, _ = run(tmp_path, events, "plain")
    with_sealed, _ = run(tmp_path, events, "sealed", sealed={"far.heldout": far.out / "heldout"})
    assert pairs(plain, "train") == pairs(with_sealed, "train")


def test_no_temporary_file_is_left(tmp_path):
    run(tmp_path, [comparison(number) for number in range(40)])
    with pytest.raises(InputInvalid):
        run(tmp_path, [comparison(1)], "failed")
    assert {path.name for path in tmp_path.iterdir()} == {"events", "out"}


def test_texts_too_many_for_the_exact_join_give_the_same_pairs(tmp_path, monkeypatch):
    events = [comparison(number) for number in range(60)]
    events += [comparison(200 + n, prompt=events[n]["prompt"] + "?", answer_a=events[n]["answer_a"]) for n in range(20)]
    exact, _ = run(tmp_path, events, "exact")
    monkeypatch.setattr("aifw.data.preferences.EXACT_CHARACTERS", 0)
    hashed, _ = run(tmp_path, events, "hashed")
    for output in ("train", "heldout"):
        assert pairs(exact, output) == pairs(hashed, output)
    cards = [json.loads((job.out / "card/card.json").read_text()) for job in (exact, hashed)]
    assert [card["duplicates"]["missed_at_threshold"] for card in cards] == [0, pytest.approx(3e-6, rel=0.1)]
    assert cards[0]["duplicates"]["prompts"] == cards[1]["duplicates"]["prompts"]
    assert cards[0]["duplicates"]["prompts"]["near_rate"] > 0.1
    assert cards[1]["duplicates"]["method"] == "MinHash: 160 hashes, 32 bands of 5"


def test_a_line_that_is_no_event_is_named(tmp_path):
    run(tmp_path, [comparison(number) for number in range(40)])
    path = tmp_path / "events/events.jsonl"
    lines = path.read_text().splitlines()
    for broken, said in (("{", "not JSON"), (lines[2].replace(comparison(2)["answer_a"], " "), "empty answer_a")):
        path.write_text("\n".join([*lines[:2], broken, *lines[3:]]) + "\n")
        job = Job(
            PreferencesSettings.model_validate({"from": "feedback"}),
            out=tmp_path / "broken",
            inputs={"from": Input("datasets.feedback", tmp_path / "events")},
            outputs=OUTPUTS,
        )
        with pytest.raises(InputInvalid, match=f"events.jsonl:3 is no event: {said}"):
            build(job)


def test_the_reference_is_written_from():
    assert [path for path, _ in reference_paths(PreferencesSettings)] == [("from",), ("sealed", "*")]
    settings = PreferencesSettings.model_validate({"from": "feedback"})
    assert settings.feedback == "feedback"
    assert settings.model_dump()["from"] == "feedback"
    with pytest.raises(ValueError, match="from"):
        PreferencesSettings.model_validate({})


def test_the_forecast_follows_the_feedback_and_bounds_what_comes_out(tmp_path):
    machine = Machine("m", Cpu("unknown", 2), Memory(8 * 1024**3, 8 * 1024**3))
    events = [comparison(number) for number in range(400)]
    job, _ = run(tmp_path, events, heldout="25%")
    facts = {"rows": 400, "bytes": 200_000, "kinds": {"comparison": 400}, "chars_prompt": 76.0, "chars_answer": 70.0}
    settings = PreferencesSettings.model_validate({"from": "feedback", "heldout": "25%"})
    small = Preferences().forecast(settings, {"from": InputFacts("f", facts, True)}, machine, History())
    assert small.work == 400
    for output in ("train", "heldout"):
        assert small.facts[output]["rows"] == pytest.approx(job.facts[output]["rows"], rel=0.3)
        assert small.facts[output]["chars_prompt"] == pytest.approx(job.facts[output]["chars_prompt"], rel=0.05)
    large = Preferences().forecast(
        settings,
        {"from": InputFacts("f", facts | {"rows": 4_000_000, "bytes": 2e9, "kinds": {"comparison": 4_000_000}}, True)},
        machine,
        History(),
    )
    # Texts are not in memory; of each pair and its votes some numbers are.
    assert 0.4e9 < large.memory.mid - small.memory.mid < 1e9
    assert large.seconds.mid > 10 * small.seconds.mid


def test_the_forecast_knows_simulated_pairs_keep_to_their_share():
    machine = Machine("m", Cpu("unknown", 2), Memory(8 * 1024**3, 8 * 1024**3))
    settings = PreferencesSettings.model_validate({"from": "feedback", "simulate": 5000, "most_simulated": "20%"})
    facts = {"rows": 400, "bytes": 200_000, "kinds": {"comparison": 400}}
    found = Preferences().forecast(settings, {"from": InputFacts("f", facts, True)}, machine, History())
    assert found.facts["train"]["simulated"] / found.facts["train"]["rows"] == pytest.approx(0.2, abs=0.01)
