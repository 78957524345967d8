import hashlib
import json

import pytest

from aifw.data.events import check, encode
from aifw.data.kinds import Preferences, PreferencesSettings
from aifw.data.preferences import build
from aifw.errors import InputInvalid
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


def run(folder, events, out="out", **settings):
    source = folder / "events"
    source.mkdir(exist_ok=True)
    rows = sorted(events, key=lambda event: event["id"])
    (source / "events.jsonl").write_text("".join(encode(event) + "\n" for event in rows))
    notes = []
    job = Job(
        PreferencesSettings.model_validate({"from": "feedback"} | settings),
        out=folder / out,
        inputs={"from": Input("datasets.feedback", source)},
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
    text = (job.out / "card/card.md").read_text()
    assert "| tie | 3 |" in text
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


def test_the_reference_is_written_from():
    assert [path for path, _ in reference_paths(PreferencesSettings)] == [("from",)]
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
        settings, {"from": InputFacts("f", facts | {"rows": 4_000_000, "bytes": 2e9}, True)}, machine, History()
    )
    assert large.memory.mid > 10 * small.memory.mid
    assert large.seconds.mid > 10 * small.seconds.mid
