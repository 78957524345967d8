import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifw.data.minhash import HASHES, LARGEST_MISS, Signatures, bands_for, miss_probability
from aifw.data.near_duplicates import SHINGLE, Clusters, overlap, shingles
from aifw.data.text_table import TextTable


def words(draw, count):
    return ["".join(draw.choices("abcdefghij", k=draw.randint(2, 8))) for _ in range(count)]


def varied(draw, base, changes):
    text = list(base)
    for _ in range(changes):
        text[draw.randrange(len(text))] = words(draw, 1)[0]
    return text


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9, 0.99])
def test_bands_miss_as_little_as_promised(threshold):
    bands, values = bands_for(threshold)
    assert bands * values <= HASHES
    assert miss_probability(threshold) == pytest.approx((1 - threshold**values) ** bands)
    assert miss_probability(threshold) <= LARGEST_MISS
    assert (1 - threshold ** (values + 1)) ** (HASHES // (values + 1)) > LARGEST_MISS


def test_signatures_agree_as_often_as_the_jaccard_index_says():
    draw = random.Random(1)
    for changes in (1, 4, 12):
        expected, found = [], []
        for number in range(12):
            base = words(draw, 40)
            one, other = " ".join(base), " ".join(varied(draw, base, changes))
            expected.append(overlap(shingles(one), shingles(other)))
            signatures = Signatures(str(number)).of([one, other])
            found.append(np.mean(signatures[0] == signatures[1]))
        # 12 signatures of 160 values: a standard error of 0.011.
        assert np.mean(found) == pytest.approx(np.mean(expected), abs=0.04)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30) | st.text("ab ", min_size=2100, max_size=2300), min_size=1, max_size=6))
def test_a_signature_depends_on_its_text_alone(texts):
    signatures = Signatures()
    together = signatures.of(texts)
    for text, signature in zip(texts, together, strict=True):
        assert (signatures.of([text])[0] == signature).all()
        padded = text.ljust(SHINGLE, "\0")
        pieces = [padded[at : at + SHINGLE] for at in range(len(padded) - SHINGLE + 1)]
        assert (signatures.of(pieces).min(axis=0) == signature).all()


def brute_force(texts, threshold):
    """Root of each text, comparing all with all."""
    sets = [shingles(text) for text in texts]
    roots = list(range(len(texts)))
    for one in range(len(texts)):
        for other in range(one):
            if roots[one] != roots[other] and overlap(sets[one], sets[other]) >= threshold:
                low, high = sorted((roots[one], roots[other]))
                roots = [low if root == high else root for root in roots]
    return roots


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9])
def test_minhash_finds_what_comparing_all_with_all_finds(tmp_path, threshold):
    draw = random.Random(7)
    made = [words(draw, draw.randint(10, 60)) for _ in range(60)]
    for _ in range(140):
        made.append(varied(draw, draw.choice(made), draw.randint(1, 4)))
    texts = list(dict.fromkeys(" ".join(each) for each in made))
    wanted = brute_force(texts, threshold)
    assert len(set(wanted)) < len(texts) - 5
    for name, exact_characters in (("hashed", 0), ("exact", 10**9)):
        table = TextTable(tmp_path, name, exact_characters)
        assert [table.number(text) for text in texts] == list(range(len(texts)))
        found = table.clusters(threshold)
        table.close()
        assert found.roots.tolist() == wanted
        assert found.exact == (name == "exact")
        assert found.skipped == 0
        assert found.missed == (0 if found.exact else miss_probability(threshold))
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("ab c", max_size=20), min_size=2, max_size=12), st.sampled_from([0.5, 0.8]))
def test_minhash_never_joins_what_no_chain_of_near_texts_joins(tmp_path_factory, texts, threshold):
    table = TextTable(tmp_path_factory.mktemp("table"), "texts", 0)
    numbers = [table.number(text) for text in texts]
    found = table.clusters(threshold).roots
    plain = [table.plain(number) for number in range(len(table))]
    table.close()
    wanted = brute_force(plain, threshold)
    for number in numbers:
        assert wanted[found[number]] == wanted[number]


def test_texts_that_differ_in_form_only_are_one(tmp_path):
    table = TextTable(tmp_path, "texts")
    assert [table.number(text) for text in ("How so?", "how  SO", "?!", "How not?")] == [0, 0, 1, 2]
    assert len(table) == 3
    assert table.plain(0) == "how so"
    table.close()


def test_a_key_that_too_many_texts_share_is_looked_at_in_part_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr("aifw.data.text_table.MOST_COMPARED", 3)
    draw = random.Random(2)
    common = " ".join(words(draw, 30))
    table = TextTable(tmp_path, "texts", 0)
    for _ in range(40):
        table.number(common + " " + " ".join(words(draw, 20)))
    found = table.clusters(0.9)
    assert found.skipped == 0
    found = table.clusters(0.5)
    table.close()
    assert len(set(found.roots.tolist())) < 40 or found.skipped > 0


class OneGroup:
    """As `Bands`, with one band in which all texts share a key."""

    count = 1

    def __init__(self, size):
        self.size = size

    def candidates(self, _band):
        yield list(range(self.size))


class Counted(Clusters):
    asked = 0

    def root(self, member):
        Counted.asked += 1
        return super().root(member)


def test_texts_of_a_template_take_time_in_proportion_to_their_number(tmp_path):
    size, told = 4000, []
    table = TextTable(tmp_path, "texts", 0)
    for number in range(size):
        table.number(f"the sensor in room {number} says that all of its values are within their limits today")
    clusters = Counted(size)
    Counted.asked = 0
    skipped = table._join(OneGroup(size), clusters, 0.5, lambda done, total: told.append((done, total)))
    assert Counted.asked < 100 * size
    assert skipped == 0
    assert set(clusters.roots().tolist()) == {0}
    assert told == [(size + 2000, 2 * size), (2 * size, 2 * size), (2 * size, 2 * size)]

    def stop(_done, _total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        table._join(OneGroup(2500), Clusters(size), 0.5, stop)
    table.close()


def test_comparisons_that_are_left_out_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("aifw.data.text_table.MOST_COMPARED", 3)
    draw = random.Random(3)
    table = TextTable(tmp_path, "texts", 0)
    for _ in range(10):
        table.number(" ".join(words(draw, 20)))
    clusters = Clusters(20)
    # The fifth text is not compared with one, the tenth not with six.
    assert table._join(OneGroup(10), clusters, 0.5, lambda *_: None) == 1 + 2 + 3 + 4 + 5 + 6
    # Two templates in turns: whoever left the window counts for the other one alone.
    for number in range(10, 20):
        table.number(
            ["a valve that does not close at all", "some words about the pump in the barn"][number % 2] + f" {number}"
        )
    bands = OneGroup(20)
    bands.candidates = lambda _band: iter([list(range(10, 20))])
    assert 0 < table._join(bands, clusters, 0.5, lambda *_: None) < sum(range(7))
    assert [clusters.root(number) for number in range(10, 20)] == [10, 11] * 5
    table.close()
