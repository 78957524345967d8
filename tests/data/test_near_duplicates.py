from hypothesis import given, settings
from hypothesis import strategies as st

from aifw.data.near_duplicates import Clusters, near_pairs, normalised, overlap, shingles, stable_hash

BASE = "the quick pump drinks all of the cold water"
SLICES = st.tuples(st.integers(0, 20), st.integers(0, 24)).map(lambda at: BASE[at[0] : at[0] + at[1]])
TEXTS = st.lists(SLICES | st.text("ab c", max_size=14), max_size=12)


def connected(pairs, size):
    clusters = Clusters(size)
    for one, other in pairs:
        clusters.join(one, other)
    return [clusters.root(member) for member in range(size)]


@settings(max_examples=300)
@given(TEXTS, st.sampled_from([0.3, 0.5, 2 / 3, 0.8, 0.9, 1.0]))
def test_the_join_finds_exactly_what_comparing_all_with_all_finds(texts, threshold):
    def near(one, other):
        if normalised(texts[one]) == normalised(texts[other]):
            return True
        return threshold < 1 and overlap(shingles(texts[one]), shingles(texts[other])) >= threshold

    size = len(texts)
    wanted = [(one, other) for other in range(size) for one in range(other) if near(one, other)]
    found = list(near_pairs(texts, threshold))
    assert len(found) == len(set(found))
    assert set(found) <= set(wanted)
    assert connected(found, size) == connected(wanted, size)
    first = {}
    for position, text in enumerate(texts):
        first.setdefault(normalised(text), position)
    representatives = set(first.values())
    assert {pair for pair in wanted if representatives.issuperset(pair)} <= set(found)


def test_a_typo_is_near_and_another_topic_is_not():
    question = "How do I reset the pump controller after the power has failed?"
    others = [
        "how do I reset the pump  controller, after the power has failed",
        "How do I reset the pump controler after the power has failed?",
        "How do I reset the fan regulator after the power has failed?",
    ]
    found = list(near_pairs([question, *others], 0.8))
    assert (0, 1) in found
    assert (0, 2) in found
    assert not any(3 in pair for pair in found)


def test_punctuation_alone_is_still_a_text():
    assert normalised("?!") == "?!"
    assert list(near_pairs(["?!", "...", ""], 0.5)) == []


def test_hashes_depend_on_where_one_part_ends():
    assert stable_hash("ab", "c") != stable_hash("a", "bc")
    # Written down: every held-out set ever made depends on it.
    assert stable_hash("aifw held-out split", "why") == 0x169B25FDA024B18D
