import json
import sqlite3
import tracemalloc
from contextlib import closing

import pytest

from aifw.data.database import add
from aifw.data.events import check
from aifw.data.feedback import freeze
from aifw.data.kinds import Feedback, FeedbackSettings
from aifw.errors import InputInvalid
from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.job import Job
from aifw.kind import History, InputFacts, Workspace


def row(number, **changed):
    return {
        "id": f"e{number:05d}",
        "kind": "comparison",
        "conversation": f"c{number // 2}",
        "rater": f"r{number % 3}",
        "time": f"2026-03-0{1 + number % 9}T10:00:00Z",
        "prompt": f"Question {number}?",
        "answer_a": f"Yes, {number}.",
        "answer_b": f"No, {number}.",
        "preferred": "a",
    } | changed


def write(path, rows):
    path.write_text("".join(each if isinstance(each, str) else json.dumps(each) + "\n" for each in rows))
    return path


def run(folder, source, **settings):
    notes = []
    job = Job(
        FeedbackSettings(source=source, **settings),
        out=folder / "out",
        root=folder,
        outputs=("events",),
        report=lambda name, data: notes.append(data["text"]) if name == "note" else None,
    )
    freeze(job)
    return job, notes


def test_a_file_and_a_database_freeze_to_the_same_bytes(tmp_path):
    rows = [row(number) for number in (3, 1, 2, 10)]
    write(tmp_path / "f.jsonl", rows)
    add(tmp_path / "f.db", map(check, reversed(rows)))
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    from_file, _ = run(tmp_path, "f.jsonl")
    frozen = (tmp_path / "out/events/events.jsonl").read_bytes()
    from_database, _ = run(tmp_path, "sqlite:///f.db")
    assert (tmp_path / "out/events/events.jsonl").read_bytes() == frozen
    assert from_file.facts == from_database.facts
    assert [json.loads(line)["id"] for line in frozen.splitlines()] == ["e00001", "e00002", "e00003", "e00010"]
    facts = from_file.facts["events"]
    assert (facts["rows"], facts["conversations"], facts["raters"]) == (4, 3, 3)
    assert facts["kinds"] == {"comparison": 4}
    assert (facts["first"], facts["last"]) == ("2026-03-02T10:00:00Z", "2026-03-04T10:00:00Z")
    assert list(tmp_path.glob("sorting*")) == []


def test_broken_rows_are_counted_named_and_skipped(tmp_path):
    write(
        tmp_path / "f.jsonl",
        [
            row(1),
            "{oops\n",
            "\n",
            row(2, preferred="x"),
            row(3, id=None),
            row(4, answer_a=""),
            row(1),
            row(1, rater="z"),
        ],
    )
    job, notes = run(tmp_path, "f.jsonl")
    named = [json.loads(line) for line in (tmp_path / "out/events/rejected.jsonl").read_text().splitlines()]
    assert named == [
        {"id": None, "position": 2, "reason": "not JSON"},
        {"id": "e00002", "position": 4, "reason": "preferred is neither a, b nor tie"},
        {"id": None, "position": 5, "reason": "missing id"},
        {"id": "e00004", "position": 6, "reason": "empty answer_a"},
        {"id": "e00001", "position": 7, "reason": "repeated row"},
        {"id": "e00001", "position": 8, "reason": "id used again with other content"},
    ]
    assert job.facts["events"]["rows"] == 1
    assert job.facts["events"]["rejected"] == {each["reason"]: 1 for each in named}
    assert len(notes) == 1
    assert notes[0].startswith("6 of 7 rows skipped: 1 empty answer_a, ")


def test_a_table_with_loose_types_is_read_row_by_row(tmp_path):
    with closing(sqlite3.connect(tmp_path / "f.db")) as connection:
        connection.execute(
            "CREATE TABLE opinions (id, kind, conversation, rater, time, prompt, answer, stars, thumb, mood)"
        )
        for values in (
            (7, "stars", 1, 2, "2026-03-01 10:00:00", "p", "a", "4", None, "good"),
            ("x", "stars", 1, 2, "2026-03-01 10:00:00", b"\xff\x00", "a", 4, None, None),
            (None, "thumbs", 1, 2, "2026-03-01 10:00:00", "p", "a", None, "up", None),
        ):
            connection.execute(f"INSERT INTO opinions VALUES ({','.join('?' * 10)})", values)
        connection.execute(
            "INSERT INTO opinions SELECT 'y','stars',1,2,'2026-03-01','p',CAST(X'ff' AS TEXT),4,NULL,NULL"
        )
        connection.commit()
    job, _ = run(tmp_path, "sqlite:///f.db", table="opinions")
    (event,) = map(json.loads, (tmp_path / "out/events/events.jsonl").read_text().splitlines())
    assert event["id"] == "7"
    assert event["stars"] == 4
    assert job.facts["events"]["rejected"] == {"answer is not text": 1, "missing id": 1, "prompt is not text": 1}


@pytest.mark.parametrize(
    ("rows", "said"),
    [([], "holds no feedback"), (["{\n", row(1, kind="?")], "holds no usable feedback: 1 not JSON, 1 unknown kind")],
)
def test_nothing_usable_is_an_error_that_counts_why(tmp_path, rows, said):
    write(tmp_path / "f.jsonl", rows)
    with pytest.raises(InputInvalid, match=said):
        run(tmp_path, "f.jsonl")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("CREATE TABLE other (id)", "has no table `feedback`"),
        ("CREATE TABLE feedback (id, kind, rater, time, prompt)", "has no column conversation"),
    ],
)
def test_a_database_without_the_table_or_a_column_says_so(tmp_path, statement, said):
    with closing(sqlite3.connect(tmp_path / "f.db")) as connection:
        connection.execute(statement)
    with pytest.raises(InputInvalid, match=said):
        run(tmp_path, "sqlite:///f.db")


def test_a_file_that_is_no_database_says_so(tmp_path):
    (tmp_path / "f.db").write_text("This is not a database, although it is long enough to look like one. " * 50)
    settings = FeedbackSettings(source="sqlite:///f.db")
    with pytest.raises(InputInvalid, match="cannot be read as a SQLite database"):
        run(tmp_path, "sqlite:///f.db")
    with pytest.raises(InputInvalid, match="cannot be read as a SQLite database"):
        Feedback().observe(settings, Workspace(tmp_path, lambda _: ""))


def test_rows_written_while_it_reads_are_not_half_seen(tmp_path, monkeypatch):
    path = tmp_path / "f.db"
    add(path, [check(row(number)) for number in range(1200)])
    original = check
    written = []

    def check_and_write(raw):
        if not written:
            written.append(add(path, [original(row(number)) for number in range(2000, 2100)]))
        return original(raw)

    monkeypatch.setattr("aifw.data.feedback.check", check_and_write)
    job, _ = run(tmp_path, "sqlite:///f.db")
    assert written[0].added == 100
    assert job.facts["events"]["rows"] == 1200
    monkeypatch.undo()
    assert run(tmp_path, "sqlite:///f.db")[0].facts["events"]["rows"] == 1300


def test_reading_does_not_hold_the_file_in_memory(tmp_path):
    with (tmp_path / "f.jsonl").open("w") as file:
        for number in range(3000):
            file.write(json.dumps(row(number, prompt=f"{number} " * 1500)) + "\n")
    size = (tmp_path / "f.jsonl").stat().st_size
    assert size > 15_000_000
    tracemalloc.start()
    try:
        run(tmp_path, "f.jsonl")
        assert tracemalloc.get_traced_memory()[1] < size / 4
    finally:
        tracemalloc.stop()


def observe(folder, source, **settings):
    return Feedback().observe(FeedbackSettings(source=source, **settings), Workspace(folder, lambda path: path.name))


def test_an_observation_changes_with_the_rows_and_not_with_a_look(tmp_path):
    add(tmp_path / "f.db", [check(row(1)), check(row(2))])
    first = observe(tmp_path, "sqlite:///f.db")
    assert (first.summary, first.facts["rows"]) == ("2 events", 2)
    assert observe(tmp_path, "sqlite:///f.db") == first
    add(tmp_path / "f.db", [check(row(1))])
    assert observe(tmp_path, "sqlite:///f.db") == first
    add(tmp_path / "f.db", [check(row(3))])
    second = observe(tmp_path, "sqlite:///f.db")
    assert second.fingerprint != first.fingerprint
    with closing(sqlite3.connect(tmp_path / "f.db")) as connection:
        connection.execute("UPDATE feedback SET prompt = 'other' WHERE id = 'e00001'")
        connection.commit()
    assert observe(tmp_path, "sqlite:///f.db").fingerprint != second.fingerprint


def test_a_forecast_knows_kinds_and_lengths_before_the_job_ran(tmp_path):
    add(tmp_path / "f.db", [check(row(number, prompt="Why?" * 10)) for number in range(10)])
    seen = observe(tmp_path, "sqlite:///f.db")
    expected = Feedback().forecast(
        FeedbackSettings(source="sqlite:///f.db"),
        {"observation": InputFacts("datasets.feedback", seen.facts, certain=True)},
        Machine("m", Cpu("unknown", 2), Memory(2**33, 2**33)),
        History(),
    )
    job, _ = run(tmp_path, "sqlite:///f.db")
    for name in ("rows", "kinds", "chars_prompt", "chars_answer"):
        assert expected.facts["events"][name] == job.facts["events"][name]


def test_a_large_table_is_observed_by_schema_highest_row_and_count(tmp_path, monkeypatch):
    monkeypatch.setattr("aifw.data.observation.CONTENT_ROWS", 1)
    add(tmp_path / "f.db", [check(row(1)), check(row(2))])
    first = observe(tmp_path, "sqlite:///f.db")
    add(tmp_path / "f.db", [check(row(3))])
    assert observe(tmp_path, "sqlite:///f.db").fingerprint != first.fingerprint


def test_a_file_is_observed_by_its_digest(tmp_path):
    write(tmp_path / "f.jsonl", [row(1), json.dumps(row(2))])
    seen = observe(tmp_path, "f.jsonl")
    assert (seen.fingerprint, seen.summary) == ("f.jsonl", "2 events")


def test_a_missing_source_names_the_path_and_the_remedy(tmp_path):
    for source, remedy in (("sqlite:///no.db", "aifw feedback import"), ("no.jsonl", "relative to the folder")):
        with pytest.raises(InputInvalid) as caught:
            observe(tmp_path, source)
        assert str(tmp_path / source.removeprefix("sqlite:///")) in caught.value.message
        assert remedy in caught.value.hint
        with pytest.raises(InputInvalid):
            run(tmp_path, source)


def test_a_path_with_signs_of_a_uri_is_a_path(tmp_path):
    path = tmp_path / "a?b#c%20d.db"
    add(path, [check(row(1))])
    assert observe(tmp_path, f"sqlite:///{path}").facts["rows"] == 1
    assert run(tmp_path, f"sqlite:///{path.name}")[0].facts["events"]["rows"] == 1


@pytest.mark.parametrize("source", ["postgresql://host/db", "sqlite:///", "feedback.csv", ""])
def test_other_sources_are_refused(source):
    with pytest.raises(ValueError, match="sqlite:///PATH"):
        FeedbackSettings(source=source)


def test_import_reports_conflicts_and_keeps_what_is_there(tmp_path):
    add(tmp_path / "f.db", [check(row(1))])
    done = add(tmp_path / "f.db", [check(row(1)), check(row(1, rater="other")), check(row(2)), check(row(2))])
    assert (done.added, done.present, done.conflicts) == (1, 2, ["e00001"])
    assert run(tmp_path, "sqlite:///f.db")[0].facts["events"]["rows"] == 2


def test_an_import_that_fails_adds_nothing(tmp_path):
    def events():
        yield check(row(1))
        raise InputInvalid("unplugged")

    add(tmp_path / "f.db", [check(row(0))])
    with pytest.raises(InputInvalid, match="unplugged"):
        add(tmp_path / "f.db", events())
    assert observe(tmp_path, "sqlite:///f.db").facts["rows"] == 1
