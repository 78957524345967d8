import pytest

from aifw.data.events import check
from aifw.data.pairs import judge

COUNT = iter(range(10**9))


def event(kind, rater="ana", conversation="c1", prompt="Why?", day=1, **rest):
    return check(
        {
            "id": f"e{next(COUNT):09d}",
            "kind": kind,
            "conversation": conversation,
            "rater": rater,
            "time": f"2026-03-{day:02d}T10:00:00Z",
            "prompt": prompt,
        }
        | rest
    )


def compare(preferred, rater="ana", **rest):
    return event("comparison", rater, answer_a="good", answer_b="bad", preferred=preferred, **rest)


def thumb(answer, thumb, rater="ana", **rest):
    return event("thumbs", rater, answer=answer, thumb=thumb, **rest)


def stars(answer, stars, rater="ana", **rest):
    return event("stars", rater, answer=answer, stars=stars, **rest)


def only(*events):
    (pair,) = judge(events).pairs
    return pair


@pytest.mark.parametrize(
    ("events", "source", "confidence"),
    [
        ([compare("a")], "comparison", 0.8),
        ([event("correction", answer="bad", corrected="good")], "correction", 0.9),
        ([thumb("good", "up"), thumb("bad", "down")], "thumbs", 0.75),
        ([thumb("good", "up"), thumb("bad", "down", "bo")], "thumbs", 0.65),
        ([stars("good", 5), stars("bad", 2)], "stars", 0.85),
        ([stars("good", 5), stars("bad", 1)], "stars", 0.95),
        ([stars("good", 4), stars("bad", 3)], "stars", 0.65),
        ([stars("good", 5), stars("bad", 2, "bo")], "stars", 0.8),
    ],
)
def test_every_kind_becomes_a_pair_with_its_confidence(events, source, confidence):
    pair = only(*events)
    assert (pair.chosen, pair.rejected, pair.source) == ("good", "bad", source)
    assert pair.confidence == pytest.approx(confidence)


def test_agreement_raises_and_contradiction_lowers_confidence():
    alone = only(compare("a")).confidence
    assert only(compare("a"), compare("a", "bo")).confidence == pytest.approx(0.9412, abs=1e-4)
    assert alone > only(compare("a"), thumb("bad", "up", "bo"), thumb("good", "down", "bo")).confidence > 0.5
    assert alone > only(compare("a"), compare("tie", "bo")).confidence > 0.5


def test_votes_that_cancel_out_leave_no_pair():
    found = judge([compare("a"), compare("b", "bo")])
    assert found.pairs == []
    assert found.lost == {"raters contradict each other": 1}


def test_ties_are_dropped_and_counted():
    found = judge([compare("tie")])
    assert (found.pairs, found.lost) == ([], {"tie": 1})


def test_only_the_last_word_of_a_rater_counts():
    found = judge([compare("a", day=2), compare("b", day=1), compare("a", day=1)])
    assert found.lost == {"judged again later by the same rater": 2}
    assert (found.pairs[0].chosen, found.pairs[0].confidence) == ("good", 0.8)


def test_a_rater_has_one_vote_in_however_many_conversations():
    votes = [compare("a", conversation=f"c{number:02}", day=number + 1) for number in range(20)]
    found = judge(votes)
    assert found.lost == {"judged again later by the same rater": 19}
    assert found.pairs[0].confidence == 0.8
    assert found.pairs[0].conversations == tuple(f"c{number:02}" for number in range(20))
    corrections = [event("correction", conversation=name, answer="bad ", corrected="good") for name in ("c1", "c2")]
    pair = only(*corrections, event("correction", conversation="c3", answer="bad", corrected="good"))
    assert (pair.confidence, pair.conversations) == (0.9, ("c1", "c2", "c3"))
    assert only(*votes, compare("a", "bo", day=25)).confidence == pytest.approx(0.9412, abs=1e-4)


def test_thumbs_of_other_conversations_are_other_judgements():
    votes = [thumb(*said, conversation=name) for name in ("c1", "c2") for said in (("good", "up"), ("bad", "down"))]
    pair = only(*votes)
    assert (pair.confidence, pair.conversations) == (0.9, ("c1", "c2"))


def test_the_order_of_answers_and_events_does_not_matter():
    swapped = event("comparison", answer_a="bad", answer_b="good", preferred="b")
    assert only(compare("a")) == only(swapped)


def test_thumbs_pair_within_a_prompt_of_a_conversation_only():
    found = judge([thumb("good", "up"), thumb("bad", "down", conversation="c2"), thumb("bad", "down", prompt="How?")])
    assert found.pairs == []
    assert found.lost == {"thumb without its opposite": 3}


def test_every_thumb_is_used_without_making_every_combination():
    events = [thumb(f"good {n}", "up") for n in range(4)] + [thumb(f"bad {n}", "down") for n in range(2)]
    pairs = judge(events).pairs
    assert len(pairs) == 4
    assert {pair.chosen for pair in pairs} == {f"good {n}" for n in range(4)}
    assert {pair.rejected for pair in pairs} == {"bad 0", "bad 1"}


def test_thumbs_that_are_even_say_nothing():
    found = judge([thumb("x", "up"), thumb("x", "down", "bo")])
    assert found.lost["as many thumbs up as down"] == 1


def test_stars_without_a_margin_are_counted():
    found = judge([stars("a", 4), stars("b", 4, "bo"), stars("c", 3, conversation="c2")])
    assert found.pairs == []
    assert found.lost == {"stars less than one apart": 1, "stars without another answer": 1}


def test_turns_are_part_of_what_was_answered():
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    pair = only(compare("a", turns=turns))
    assert pair.row("g")["prompt"] == [*turns, {"role": "user", "content": "Why?"}]
    assert pair.id != only(compare("a")).id
    assert pair.opening == "hi"


def test_votes_on_the_same_answers_in_two_conversations_are_one_pair():
    pair = only(compare("a"), compare("a", "bo", conversation="c0"))
    assert pair.conversations == ("c0", "c1")


def test_liked_answers_are_collected():
    found = judge([compare("a"), thumb("up", "up"), stars("four", 4), stars("three", 3, prompt="How?")])
    assert {each.answer for each in found.good} == {"good", "up", "four"}
