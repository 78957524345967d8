import json

import pytest
from click.testing import CliRunner

from aifw.cli.feedback import command
from aifw.errors import InputInvalid, UsageError

ROWS = [
    {
        "id": f"e{number}",
        "kind": "thumbs",
        "conversation": f"c{number % 2}",
        "rater": rater,
        "time": f"2026-03-0{number + 1}T10:00:00Z",
        "prompt": "Why?",
        "answer": "Because.",
        "thumb": thumb,
    }
    for number, (rater, thumb) in enumerate([("ana", "up"), ("bo", "up"), ("chen", "down")])
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(command, arguments, catch_exceptions=True)


def test_import_adds_once_and_says_so(here):
    first = call("import", "f.jsonl", "--into", "sqlite:///data/f.db")
    assert (first.exit_code, first.output) == (0, "3 added, 0 already there, in sqlite:///data/f.db\n")
    second = call("import", "f.jsonl", "--into", "sqlite:///data/f.db")
    assert second.output == "0 added, 3 already there, in sqlite:///data/f.db\n"


def test_import_names_what_it_skips(here):
    (here / "f.jsonl").write_text(json.dumps(ROWS[0]) + "\n{\n" + json.dumps(ROWS[1] | {"thumb": "?"}) + "\n")
    done = call("import", "f.jsonl", "--into", "sqlite:///f.db")
    assert done.exit_code == 0
    assert done.stderr == (
        "skipped f.jsonl:2: not JSON\nskipped f.jsonl:3: thumb is neither up nor down\n"
        "2 rows skipped: 1 not JSON, 1 thumb is neither up nor down\n"
    )
    assert done.stdout.startswith("1 added")


def test_import_reports_conflicts(here):
    call("import", "f.jsonl", "--into", "sqlite:///f.db")
    (here / "g.jsonl").write_text(json.dumps(ROWS[0] | {"thumb": "down"}) + "\n")
    done = call("import", "g.jsonl", "--into", "sqlite:///f.db")
    assert isinstance(done.exception, InputInvalid)
    assert "other content: e0" in done.exception.message
    assert json.loads(call("export", "sqlite:///f.db").stdout.splitlines()[0])["thumb"] == "up"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["import", "f.jsonl", "--into", "other.jsonl"], UsageError),
        (["import", "f.jsonl", "--into", "postgresql://x/y"], UsageError),
        (["import", "f.jsonl", "--into", "sqlite:///f.db", "--table", "a b"], UsageError),
        (["import", "no.jsonl", "--into", "sqlite:///f.db"], InputInvalid),
        (["import", "empty.jsonl", "--into", "sqlite:///f.db"], InputInvalid),
        (["stats", "sqlite:///no.db"], InputInvalid),
        (["export", "no.jsonl"], InputInvalid),
        (["export", "f.jsonl", "-o", "no/such/folder"], UsageError),
    ],
)
def test_mistakes_are_told(here, arguments, error):
    (here / "empty.jsonl").write_text("")
    assert isinstance(call(*arguments).exception, error)


def test_stats_count_and_compare_raters(here):
    call("import", "f.jsonl", "--into", "sqlite:///f.db")
    for source in ("f.jsonl", "sqlite:///f.db"):
        found = json.loads(call("stats", source, "--json").stdout)
        assert found == {
            "rows": 3,
            "kinds": {"thumbs": 3},
            "conversations": 2,
            "raters": {"ana": 1, "bo": 1, "chen": 1},
            "first": "2026-03-01T10:00:00Z",
            "last": "2026-03-03T10:00:00Z",
            "agreement": {"thumbs": {"judgements": 3, "agree": 1}},
            "rejected": {},
        }
    text = call("stats", "f.jsonl").stdout
    assert "3 events in 2 conversations by 3 raters" in text
    assert "raters agree in 1 of 3" in text


def test_export_is_what_import_reads(here):
    call("import", "f.jsonl", "--into", "sqlite:///f.db")
    assert call("export", "sqlite:///f.db", "-o", "out.jsonl").exit_code == 0
    call("import", "out.jsonl", "--into", "sqlite:///g.db")
    assert call("export", "sqlite:///g.db").stdout == (here / "out.jsonl").read_text()
