import hashlib
import json

import pytest

from aifw.errors import CheckpointInvalid, InputInvalid, JobStopped
from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.job import Control, Input, Job, latest_checkpoint
from aifw.kind import History, InputFacts
from aifw.models.kinds import SimulatedPairs, SimulatedPairsSettings
from aifw.models.simulate import simulate
from aifw.models.tiny import write_tiny_model

OUTPUTS = ("train", "report")


def row(number, **changed):
    word = hashlib.sha256(str(number).encode()).hexdigest()[:16]
    base = {
        "id": f"{number:016x}",
        "group": f"{number // 2:016x}",
        "prompt": [{"role": "user", "content": f"what of {word}?"}],
        "chosen": f"take {word[::-1]}",
        "rejected": f"leave {word[::2]}",
        "confidence": 0.8,
        "source": "comparison",
    }
    return base | changed


def written(folder, rows):
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps(each, separators=(",", ":")) + "\n" for each in sorted(rows, key=lambda each: each["id"]))
    (folder / "pairs.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def run(folder, model, rows, out="out", *, seed=1, sealed=None, asked=None, resume=None, **settings):
    notes = []
    sets = sealed or {}
    job = Job(
        SimulatedPairsSettings.model_validate(
            {"data": "preferences.train", "model": "base", "max_new_tokens": 24, "min_margin": 0, "sealed": [*sets]}
            | settings
        ),
        out=folder / out,
        inputs={"data": Input("datasets.preferences", written(folder / "data", rows)), "model": model}
        | {f"sealed.{at}": Input(name, path) for at, (name, path) in enumerate(sets.items())},
        outputs=OUTPUTS,
        seed=seed,
        resume=resume,
        report=lambda name, data: notes.append(data["text"]) if name == "note" else None,
        asked=asked or Control(),
    )
    simulate(job)
    pairs = [json.loads(line) for line in (job.out / "train/pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    report = json.loads((job.out / "report/simulated.json").read_text(encoding="utf-8"))
    return job, pairs, report, notes


def split(pairs):
    return (
        [each for each in pairs if each["source"] != "simulated"],
        [each for each in pairs if each["source"] == "simulated"],
    )


def test_simulated_pairs_are_added_and_marked_and_scored(tmp_path, model):
    rows = [row(number) for number in range(40)]
    job, pairs, report, _ = run(tmp_path, model, rows, pairs=6)
    real, made = split(pairs)
    assert real == rows
    assert len(made) == report["kept"] == job.facts["train"]["simulated"] == 6
    assert [each["id"] for each in pairs] == sorted(each["id"] for each in pairs)
    prompts = {json.dumps(each["prompt"]): each["group"] for each in rows}
    scored = {entry["id"]: entry for entry in report["pairs"]}
    for each in made:
        assert each["group"] == prompts[json.dumps(each["prompt"])]
        assert each["confidence"] < 0.6
        assert each["chosen"] != each["rejected"]
        entry = scored[each["id"]]
        assert entry["chosen"]["score"] >= entry["rejected"]["score"]
        assert {entry["chosen"]["temperature"], entry["rejected"]["temperature"]} == {0.3, 1.2}
        for side in ("chosen", "rejected"):
            parts = [entry[side][name] for name in ("fluency", "variety", "ended", "likeness")]
            assert entry[side]["score"] == pytest.approx(sum(parts) / 4, abs=1e-3)
    assert job.facts["train"]["rows"] == 46
    assert job.facts["train"]["groups"] == 20


def test_the_same_seed_makes_the_same_bytes_and_another_one_others(tmp_path, model):
    rows = [row(number) for number in range(30)]
    one, other, third = (
        run(tmp_path, model, rows, name, pairs=4, seed=seed) for name, seed in zip("abc", (1, 1, 2), strict=True)
    )
    assert one[1:3] == other[1:3]
    assert one[0].facts == other[0].facts
    assert split(one[1])[1] != split(third[1])[1]


def test_they_are_at_most_their_share_with_those_that_are_simulated_already(tmp_path, model):
    rows = [row(number) for number in range(30)]
    rows += [row(100 + number, id=f"simulated-{number}", source="simulated") for number in range(6)]
    _, pairs, _, notes = run(tmp_path, model, rows, pairs=50, most_share="25%")
    assert len(split(pairs)[1]) == 10
    assert notes == ["4 of 50 pairs simulated: more would exceed 25% of the pairs"]
    full, pairs, report, _ = run(tmp_path, model, rows, "full", pairs=50, most_share="10%")
    assert (len(pairs), report["asked"], full.facts["train"]["rows"]) == (36, 0, 36)


def test_each_prompt_is_asked_once_and_never_that_of_a_simulated_pair(tmp_path, model):
    rows = [row(number, prompt=[{"role": "user", "content": "same?"}]) for number in range(20)]
    rows += [row(100 + number, id=f"simulated-{number}", source="simulated") for number in range(3)]
    _, pairs, report, _ = run(tmp_path, model, rows, pairs=5, most_share="60%")
    assert report["asked"] == 1
    new = {each["id"] for each in pairs} - {each["id"] for each in rows}
    assert len(new) <= 1


def test_pairs_whose_scores_are_close_are_dropped_and_counted(tmp_path, model):
    rows = [row(number) for number in range(30)]
    job, pairs, report, notes = run(tmp_path, model, rows, pairs=5, min_margin=1)
    assert split(pairs)[1] == []
    assert report["lost"] == {"scores too close": 20}
    assert notes == ["0 of 5 pairs simulated; not used: 20 scores too close"]
    assert job.facts["report"] == {"kept": 0, "lost": {"scores too close": 20}}


def test_equal_answers_are_dropped(tmp_path, model):
    rows = [row(number) for number in range(20)]
    _, pairs, report, _ = run(tmp_path, model, rows, pairs=3, temperatures=[0, 1e-6])
    assert split(pairs)[1] == []
    assert sum(report["lost"].values()) == 12
    assert report["lost"]["answers too alike"] + report["lost"].get("empty answer", 0) == 12


def test_what_touches_a_sealed_set_is_dropped_and_made_up_for(tmp_path, model):
    rows = [row(number) for number in range(30)]
    _, pairs, free, _ = run(tmp_path, model, rows, "free", pairs=5, batch=4)
    made = split(pairs)[1]
    sealed = {"preferences.heldout": written(tmp_path / "exam", [row(901, rejected=made[1]["chosen"])])}
    _, pairs, report, notes = run(tmp_path, model, rows, "sealed", pairs=5, batch=4, sealed=sealed)
    assert report["lost"]["close to a sealed set"] >= 1
    assert report["kept"] == free["kept"] == 5
    assert notes == []
    assert made[1]["id"] not in {each["id"] for each in pairs}


def test_pairs_of_the_data_that_touch_a_sealed_set_are_dropped_and_their_prompts_not_answered(tmp_path, model):
    rows = [row(number) for number in range(30)]
    exam = [row(900, prompt=rows[3]["prompt"]), row(901, rejected=rows[7]["chosen"])]
    sealed = {"preferences.heldout": written(tmp_path / "exam", exam)}
    job, pairs, report, notes = run(tmp_path, model, rows, pairs=100, sealed=sealed)
    real, made = split(pairs)
    assert real == [each for each in rows if each not in (rows[3], rows[7])]
    assert report["lost"]["pair of the data close to a sealed set"] == 2
    assert notes[0] == "2 of 30 pairs of datasets.preferences dropped: close to a sealed set"
    assert notes[1] == "9 of 100 pairs simulated: more would exceed 25% of the pairs"
    assert job.facts["train"]["rows"] == 28 + len(made)
    assert not {json.dumps(rows[at]["prompt"]) for at in (3, 7)} & {json.dumps(each["prompt"]) for each in made}


def test_a_pair_that_was_simulated_before_is_not_there_twice(tmp_path, model):
    rows = [row(number) for number in range(30)]
    _, pairs, _, _ = run(tmp_path, model, rows, "once", pairs=3, batch=4)
    once = {each["id"] for each in split(pairs)[1]}
    _, pairs, report, _ = run(tmp_path, model, pairs, "twice", pairs=3, batch=4)
    ids = [each["id"] for each in split(pairs)[1]]
    assert len(ids) == len(set(ids)) == 6
    assert once < set(ids)
    assert report["lost"]["simulated before"] >= 3


def test_nothing_to_answer_is_an_error(tmp_path, model):
    with pytest.raises(InputInvalid, match="holds no pair that people judged"):
        run(tmp_path, model, [row(1, source="simulated")])


def test_it_goes_on_where_it_was_stopped(tmp_path, model):
    rows = [row(number) for number in range(40)]
    whole = run(tmp_path, model, rows, "whole", pairs=10, batch=4)

    class Stopping(Control):
        looked = 0

        def __getattribute__(self, name):
            if name == "stop":
                Stopping.looked += 1
                return Stopping.looked > 1
            return super().__getattribute__(name)

    with pytest.raises(JobStopped):
        run(tmp_path, model, rows, "parts/stopped", pairs=10, batch=4, asked=Stopping())
    checkpoint = latest_checkpoint(tmp_path / "parts/checkpoints")
    state = json.loads((checkpoint / "made.json").read_text())
    assert state["following"] == 1
    resumed = run(tmp_path, model, rows, "resumed", pairs=10, batch=4, resume=checkpoint)
    assert resumed[1:3] == whole[1:3]
    (checkpoint / "made.json").write_text("{}")
    with pytest.raises(CheckpointInvalid):
        run(tmp_path, model, rows, "broken", pairs=10, batch=4, resume=checkpoint)


def test_temperatures_must_differ():
    with pytest.raises(ValueError, match="two different temperatures"):
        SimulatedPairsSettings.model_validate({"data": "a", "model": "b", "temperatures": [1, 1]})


def test_the_forecast_knows_what_comes_out(tmp_path, model):
    machine = Machine("m", Cpu("unknown", 2), Memory(8 * 1024**3, 8 * 1024**3))
    settings = SimulatedPairsSettings.model_validate({"data": "p.train", "model": "base", "pairs": 500})
    data = {
        "rows": 300,
        "groups": 300,
        "simulated": 0,
        "chars_prompt": 60.0,
        "chars_chosen": 100.0,
        "chars_rejected": 90.0,
    }
    inputs = {"data": InputFacts("p", data, True), "model": InputFacts("base", model.facts, True)}
    found = SimulatedPairs().forecast(settings, inputs, machine, History())
    assert found.facts["train"]["rows"] == 400
    assert found.facts["train"]["simulated"] == 100
    more = SimulatedPairs().forecast(
        settings, {**inputs, "data": InputFacts("p", data | {"rows": 3000}, True)}, machine, History()
    )
    assert more.seconds.mid > 2 * (found.seconds.mid - found.startup)
    assert more.memory == found.memory
