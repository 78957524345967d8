import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from aifw.data.mismatched import LikedSample, simulate
from aifw.data.near_duplicates import normalised, overlap, shingles
from aifw.data.pair_table import PairTable
from aifw.data.pairs import GoodAnswer, Pair
from aifw.data.split import is_heldout, split, without_repetitions

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
        Pair(f"{n:03x}", (conversation,), (("user", prompt),), chosen, rejected, 0.8, "comparison")
        for n, (conversation, prompt, chosen, rejected) in enumerate(rows)
    ]
)


# The same judgement again and again, about as often turned round, in conversations on both sides, as sure as may be.
REPETITIONS = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["", "s", " s"]), st.booleans(), st.sampled_from([0.6, 0.7, 0.9])),
    max_size=8,
    unique_by=lambda at: at[:3],
).map(
    lambda rows: [
        Pair(
            f"{1000 + 10 * number + 2 * len(ending) + turned:03x}",
            (f"r{number}{ending}{turned}",),
            (("user", f"{number} how do I fix the old pump of the garden at home{ending}"),),
            *(("turn the left valve off", "ask somebody else")[:: -1 if turned else 1]),
            confidence,
            "comparison",
        )
        for number, ending, turned, confidence in rows
    ]
)


@contextmanager
def tabled(pairs, good=(), count=0, share=0.4):
    """Pairs in a table, what is alike among them, and liked answers."""
    with tempfile.TemporaryDirectory() as folder:
        table = PairTable(Path(folder))
        for each in pairs:
            table.add(each)
        sample = LikedSample(count, share)
        sample.add(good)
        liked = sample.within(table)
        try:
            yield table, table.likeness(THRESHOLD), liked
        finally:
            table.close()


def divided(pairs, share=0.4, good=(), count=0, *, repeating=True):
    lost = Counter()
    with tabled(pairs, good, count, share) as (table, likeness, liked):
        columns = table.columns()
        kept = columns.id.argsort(kind="stable")
        if not repeating:
            kept = without_repetitions(columns, likeness, share, lost)
        found = split(columns, kept, likeness, share, lost)
        sides = SimpleNamespace(
            train=[*table.pairs(found.train)],
            heldout=[*table.pairs(found.heldout)],
            group={each.id: found.cluster_of(each.conversations[0]) for each in pairs},
            made=simulate(liked, columns, found, likeness, count),
        )
        del columns, found
    return sides, +lost


def near(one, other):
    return normalised(one) == normalised(other) or overlap(shingles(one), shingles(other)) >= THRESHOLD


@settings(max_examples=100, deadline=None)
@given(PAIRS)
def test_the_sides_share_nothing_and_nothing_is_lost_uncounted(pairs):
    found, lost = divided(pairs)
    assert len(found.train) + len(found.heldout) + lost["close to a held-out item"] == len(pairs)
    for one in found.train:
        for other in found.heldout:
            assert not set(one.conversations) & set(other.conversations)
            assert found.group[one.id] != found.group[other.id]
            assert not near(one.context, other.context)
            for text in (one.chosen, one.rejected):
                assert not near(text, other.chosen)
                assert not near(text, other.rejected)


@settings(max_examples=100, deadline=None)
@given(PAIRS, st.integers(0, 25))
def test_no_item_changes_sides_as_feedback_grows(pairs, count):
    before, _ = divided(pairs[:count])
    after, _ = divided(pairs)
    assert {each.id for each in before.heldout} <= {each.id for each in after.heldout}
    assert not {each.id for each in before.train} & {each.id for each in after.heldout}


@settings(max_examples=100, deadline=None)
@given(REPETITIONS, REPETITIONS, PAIRS)
def test_what_was_held_out_is_never_trained_on_as_repetitions_come_and_confidence_changes(first, then, others):
    now = {each.id: each for each in [*first, *then]}
    before, _ = divided([*first, *others], repeating=False)
    after, _ = divided([*now.values(), *others], repeating=False)
    assert not {each.id for each in before.train} & {each.id for each in after.heldout}
    for held in before.heldout:
        for trained in after.train:
            assert not near(held.context, trained.context)
            assert not near(held.chosen, trained.chosen)
            assert not near(held.chosen, trained.rejected)


def test_a_held_out_pair_goes_before_a_surer_one():
    texts = [f"{number} how do I fix the old pump of the garden at home" for number in range(40)]
    held = next(text for text in texts if is_heldout(normalised(text), 0.4))
    other = next(text for text in texts if not is_heldout(normalised(text), 0.4))
    good, bad = "turn the left valve off", "ask somebody else"
    pairs = [
        pair("a", held, good, bad, confidence=0.6),
        pair("b", other, good, bad, confidence=0.9),
        pair("c", other + "?", bad, good, confidence=0.95),
    ]
    found, lost = divided(pairs, repeating=False)
    assert ([each.id for each in found.heldout], found.train) == (["a"], [])
    assert lost == {"near-duplicate of another pair": 1, "opposite of a held-out pair": 1}


@settings(max_examples=50, deadline=None)
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
    with tabled(pairs) as (table, likeness, _):
        kept = without_repetitions(table.columns(), likeness, 0.4, lost)
        assert [each.id for each in table.pairs(kept)] == ["b", "d"]
    assert +lost == {"near-duplicate of another pair": 1, "opposite of a surer pair": 1}


LONE_PROMPTS = st.tuples(WORDS, st.integers(0, 30)).map(lambda at: f"{at[0]} {at[1]}")
LONE_ANSWERS = st.tuples(WORDS, st.integers(0, 99)).map(lambda at: f"good {at[1]} {at[0]} {at[1]}")


@settings(max_examples=80, deadline=None)
@given(PAIRS, st.lists(st.tuples(LONE_PROMPTS, LONE_ANSWERS), max_size=12), st.integers(1, 40))
def test_simulated_pairs_leak_nothing_and_are_marked(pairs, lone, count):
    good = [GoodAnswer(each.conversations[0], each.messages, each.chosen) for each in pairs]
    good += [GoodAnswer(f"lone {n}", (("user", prompt),), answer) for n, (prompt, answer) in enumerate(lone)]
    found, _ = divided(pairs, good=good, count=count)
    assert len(found.made) <= count
    assert len({each.id for each in found.made}) == len(found.made)
    liked = {each.answer for each in good}
    for each in found.made:
        assert each.source == "simulated"
        assert not is_heldout(each.opening, 0.4)
        assert each.confidence < 0.6
        assert {each.chosen, each.rejected} <= liked
        assert not near(each.chosen, each.rejected)
        for other in found.heldout:
            assert not set(each.conversations) & set(other.conversations)
            assert not near(each.context, other.context)
            for text in (each.chosen, each.rejected):
                assert not near(text, other.chosen)
                assert not near(text, other.rejected)


def test_enough_liked_answers_make_as_many_pairs_as_asked_for():
    good = [GoodAnswer(f"c{n}", (("user", f"question {n} {n * n}"),), f"answer {n * 37} to {n * n}") for n in range(60)]
    assert len(divided([], good=good, count=25)[0].made) == 25


def test_of_many_liked_answers_the_same_few_are_kept_in_any_order():
    good = [GoodAnswer(f"c{n}", (("user", f"question {n} {n * n}"),), f"answer {n * 37}") for n in range(3000)]
    one, other = LikedSample(1, 0.4), LikedSample(1, 0.4)
    one.add(good)
    other.add(reversed(good))
    with tempfile.TemporaryDirectory() as folder:
        table = PairTable(Path(folder))
        kept = [each.good for each in one.within(table)]
        assert kept == [each.good for each in other.within(table)]
        table.close()
    assert len(kept) == 1004


def test_liked_answers_that_differ_in_the_roles_before_them_alone_are_told_apart():
    """They have the same hash and conversation, and the heap must not go on to compare the answers themselves."""
    texts = ("hello", "what about the pump", "why")
    good = [
        GoodAnswer("c", tuple(zip(roles, texts, strict=True)), "because")
        for roles in (("user", "assistant", "user"), ("user", "user", "user"))
    ]
    assert not is_heldout(good[0].opening, 0.01)
    kept = []
    for order in (good, good[::-1]):
        sample = LikedSample(1, 0.01)
        sample.add(order)
        with tempfile.TemporaryDirectory() as folder:
            table = PairTable(Path(folder))
            kept.append([each.good for each in sample.within(table)])
            table.close()
    assert kept[0] == kept[1] == sorted(good, key=lambda each: each.messages)
