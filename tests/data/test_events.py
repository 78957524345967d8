import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.data.events import BrokenRow, as_columns, check, encode, listed, parse_line

BASE = {
    "id": "e1",
    "kind": "thumbs",
    "conversation": "c1",
    "rater": "ana",
    "time": "2026-03-02T10:00:00+02:00",
    "prompt": "Why?",
    "answer": "Because.",
    "thumb": "up",
}
COMPARISON = BASE | {"kind": "comparison", "answer_a": "A", "answer_b": "B", "preferred": "a"}
CORRECTION = BASE | {"kind": "correction", "corrected": "Because of rain."}
STARS = BASE | {"kind": "stars", "stars": 4}


def test_an_accepted_row_holds_what_its_kind_needs_in_utc():
    event = check(BASE | {"answer_a": "of another kind", "extra": 1, "model": None})
    assert event == BASE | {"time": "2026-03-02T08:00:00Z"}
    assert list(event) == ["id", "kind", "conversation", "rater", "time", "prompt", "answer", "thumb"]


def test_a_time_without_an_offset_is_utc():
    assert check(BASE | {"time": "2026-03-02 10:00:00"})["time"] == "2026-03-02T10:00:00Z"


def test_turns_may_be_a_list_or_json_text():
    turns = [{"role": "user", "content": "Hello"}]
    assert check(BASE | {"turns": turns})["turns"] == check(BASE | {"turns": json.dumps(turns)})["turns"] == turns
    assert "turns" not in check(BASE | {"turns": "[]"})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({key: value for key, value in BASE.items() if key != "rater"}, "missing rater"),
        (BASE | {"id": ""}, "empty id"),
        (BASE | {"id": 1.5}, "id is not text"),
        (BASE | {"kind": "applause"}, "unknown kind"),
        (BASE | {"kind": ["thumbs"]}, "kind is not text"),
        (BASE | {"time": "yesterday"}, "time is not ISO 8601"),
        (BASE | {"time": "0001-01-01T00:00:00+14:00"}, "time is not ISO 8601"),
        (BASE | {"prompt": " \n"}, "empty prompt"),
        (BASE | {"prompt": b"\xff"}, "prompt is not text"),
        (BASE | {"prompt": "\ud800"}, "prompt is not valid Unicode"),
        (BASE | {"answer": ""}, "empty answer"),
        (BASE | {"thumb": "sideways"}, "thumb is neither up nor down"),
        (BASE | {"turns": "{"}, "turns is not JSON"),
        (BASE | {"turns": {}}, "turns is not a list"),
        (BASE | {"turns": [{"role": "judge", "content": "x"}]}, "turns holds something else than role and content"),
        (COMPARISON | {"preferred": "c"}, "preferred is neither a, b nor tie"),
        (COMPARISON | {"answer_b": "A "}, "both answers are the same"),
        (CORRECTION | {"corrected": "Because."}, "the correction changes nothing"),
        ({**CORRECTION, "corrected": None}, "missing corrected"),
        (STARS | {"stars": 0}, "stars out of range 1 to 5"),
        (STARS | {"stars": 6}, "stars out of range 1 to 5"),
        (STARS | {"stars": 3.5}, "stars is not a whole number"),
        (STARS | {"stars": True}, "stars is not a whole number"),
        (STARS | {"stars": None}, "missing stars"),
    ],
)
def test_a_broken_row_is_refused_with_its_reason(row, reason):
    with pytest.raises(BrokenRow) as caught:
        check(row)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"stars": NaN}', "not JSON"),
        (b"\xff{}", "not UTF-8"),
        (b"[1]", "not a JSON object"),
    ],
)
def test_a_broken_line_is_refused_with_its_reason(line, reason):
    with pytest.raises(BrokenRow) as caught:
        parse_line(line)
    assert str(caught.value) == reason


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from([BASE, COMPARISON, CORRECTION, STARS]), st.sampled_from([*BASE, "turns", "stars"]), ANYTHING)
def test_whatever_a_field_holds_the_row_is_accepted_or_refused(row, column, value):
    try:
        event = check(row | {column: value})
    except BrokenRow:
        return
    assert check(json.loads(encode(event))) == event
    assert check(as_columns(event)) == event


def test_reasons_are_listed_most_frequent_first():
    assert listed({"b": 2, "a": 2, "c": 1234}) == "1,234 c, 2 a, 2 b"
