from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifw.data.near_duplicates import normalised, overlap, shingles
from aifw.data.pairs import GoodAnswer, Pair
from aifw.data.split import Likeness, Split, check_no_leak, is_heldout, simulate, split, without_repetitions
from aifw.errors import JobError

THRESHOLD = 0.8


def pair(name, prompt=None, chosen=None, rejected=None, conversations=None, confidence=0.8):
    return Pair(
        name,
        tuple(conversations or [f"c-{name}"]),
        (("user", prompt or f"what about {name * 5}"),),
        chosen or f"good {name * 7}",
        rejected or f"bad {name * 6}",
        confidence,
        "comparison",
    )


WORDS = st.sampled_from(
    ["pump", "pumps", "valve", "hose", "how do I fix the garden pump", "how do I fix the garden pumps"]
)
PAIRS = st.lists(
    st.builds(
        lambda conversation, prompt, chosen, rejected: (f"c{conversation}", prompt, chosen, rejected),
        st.integers(0, 8),
        st.tuples(WORDS, st.integers(0, 30)).map(lambda at: f"{at[0]} {at[1]}"),
        st.tuples(WORDS, st.integers(0, 99)).map(lambda at: f"good {at[1]} {at[0]} {at[1]}"),
        st.tuples(WORDS, st.integers(0, 99)).map(lambda at: f"bad {at[1]} {at[0]} {at[1]}"),
    ),
    max_size=25,
).map(
    lambda rows: [
        Pair(f"{n:03d}", (conversation,), (("user", prompt),), chosen, rejected, 0.8, "comparison")
        for n, (conversation, prompt, chosen, rejected) in enumerate(rows)
    ]
)


def divided(pairs, share=0.4):
    lost = Counter()
    return split(pairs, Likeness.among(pairs, [], THRESHOLD), share, lost), lost


def near(one, other):
    return normalised(one) == normalised(other) or overlap(shingles(one), shingles(other)) >= THRESHOLD


@settings(max_examples=150)
@given(PAIRS)
def test_the_sides_share_nothing_and_nothing_is_lost_uncounted(pairs):
    found, lost = divided(pairs)
    assert len(found.train) + len(found.heldout) + lost["close to a held-out item"] == len(pairs)
    for one in found.train:
        for other in found.heldout:
            assert not set(one.conversations) & set(other.conversations)
            assert found.group_of(one) != found.group_of(other)
            assert not near(one.context, other.context)
            for text in (one.chosen, one.rejected):
                assert not near(text, other.chosen)
                assert not near(text, other.rejected)
    check_no_leak(found, THRESHOLD)


@settings(max_examples=150)
@given(PAIRS, st.integers(0, 25))
def test_no_item_changes_sides_as_feedback_grows(pairs, count):
    before, _ = divided(pairs[:count])
    after, _ = divided(pairs)
    assert {each.id for each in before.heldout} <= {each.id for each in after.heldout}
    assert not {each.id for each in before.train} & {each.id for each in after.heldout}


@given(PAIRS, st.randoms())
def test_the_order_of_pairs_does_not_matter(pairs, random):
    shuffled = list(pairs)
    random.shuffle(shuffled)
    one, lost = divided(pairs)
    other, lost_too = divided(shuffled)
    assert {each.id for each in one.train} == {each.id for each in other.train}
    assert one.group == other.group
    assert lost == lost_too


def test_about_the_wished_share_is_held_out():
    sides = [is_heldout(f"question {number}", 0.25) for number in range(4000)]
    assert 0.23 < sum(sides) / len(sides) < 0.27


def test_a_larger_share_holds_out_all_a_smaller_one_does():
    for number in range(500):
        assert is_heldout(f"{number}", 0.5) or not is_heldout(f"{number}", 0.3)


def test_of_near_duplicates_the_surest_stays():
    question, good, bad = (
        "how do I fix the pump today",
        "turn the left valve off first",
        "ask somebody else about all this",
    )
    pairs = [
        pair("a", question, good, bad, confidence=0.7),
        pair("b", question + "?", good + ".", bad, confidence=0.9),
        pair("c", question, bad, good + "!", confidence=0.8),
        pair("d", question, good, "something else entirely, said at length", confidence=0.6),
    ]
    lost = Counter()
    kept = without_repetitions(pairs, Likeness.among(pairs, [], THRESHOLD), lost)
    assert [each.id for each in kept] == ["b", "d"]
    assert lost == {"near-duplicate of another pair": 1, "opposite of a surer pair": 1}


def test_a_leak_is_an_error_before_anything_is_trained():
    one, other = pair("a"), pair("b")
    group = {"c-a": "1", "c-b": "2"}
    check_no_leak(Split([one], [other], group, 1), THRESHOLD)
    for leaked in (
        pair("b", conversations=["c-a"]),
        pair("b", prompt=one.context.upper()),
        pair("b", rejected=one.chosen + "!"),
    ):
        with pytest.raises(JobError, match="share"):
            check_no_leak(Split([one], [leaked], group, 1), THRESHOLD)
    with pytest.raises(JobError, match="share"):
        check_no_leak(Split([one], [other], {"c-a": "1", "c-b": "1"}, 1), THRESHOLD)


LONE_PROMPTS = st.tuples(WORDS, st.integers(0, 30)).map(lambda at: f"{at[0]} {at[1]}")
LONE_ANSWERS = st.tuples(WORDS, st.integers(0, 99)).map(lambda at: f"good {at[1]} {at[0]} {at[1]}")


@settings(max_examples=100)
@given(PAIRS, st.lists(st.tuples(LONE_PROMPTS, LONE_ANSWERS), max_size=12), st.integers(1, 40))
def test_simulated_pairs_leak_nothing_and_are_marked(pairs, lone, count):
    good = [GoodAnswer(each.conversations[0], each.messages, each.chosen) for each in pairs]
    good += [GoodAnswer(f"lone {n}", (("user", prompt),), answer) for n, (prompt, answer) in enumerate(lone)]
    likeness = Likeness.among(pairs, good, THRESHOLD)
    found = split(pairs, likeness, 0.4, Counter())
    made = simulate(good, found, likeness, 0.4, count)
    assert len(made) <= count
    assert len({each.id for each in made}) == len(made)
    liked = {each.answer for each in good}
    for each in made:
        assert each.source == "simulated"
        assert not is_heldout(each.opening, 0.4)
        assert each.confidence < 0.6
        assert {each.chosen, each.rejected} <= liked
        assert not near(each.chosen, each.rejected)
    check_no_leak(Split([*found.train, *made], found.heldout, found.group, found.largest), THRESHOLD)


def test_enough_liked_answers_make_as_many_pairs_as_asked_for():
    good = [GoodAnswer(f"c{n}", (("user", f"question {n} {n * n}"),), f"answer {n * 37} to {n * n}") for n in range(60)]
    none = Split([], [], {}, 0)
    assert len(simulate(good, none, Likeness.among([], good, THRESHOLD), 0.4, 25)) == 25
