import random

import pytest

from aifw.data.surface import Item, accuracy, bag_of_words, longer_wins, words


def test_length_only():
    items = [Item(str(n), "longer", "short") for n in range(3)] + [Item("x", "a", "bb"), Item("y", "a", "b")]
    chosen, rejected = [len(item.chosen) for item in items], [len(item.rejected) for item in items]
    assert longer_wins(chosen, rejected, [item.group for item in items]).value == pytest.approx(3.5 / 5)


def test_the_interval_of_single_items_is_that_of_a_proportion():
    found = accuracy([1.0] * 60 + [0.0] * 40, [str(n) for n in range(100)])
    half = 1.96 * (0.6 * 0.4 / 99) ** 0.5
    assert (found.value, found.items) == (0.6, 100)
    assert (found.low, found.high) == pytest.approx((0.6 - half, 0.6 + half), abs=1e-3)


def test_items_of_one_group_widen_the_interval():
    hits = [1.0] * 60 + [0.0] * 40
    alone = accuracy(hits, [str(n) for n in range(100)])
    grouped = accuracy(hits, [str(n // 10) for n in range(100)])
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def filler(rng):
    return " ".join(rng.choices([f"word{n}" for n in range(60)], k=12))


def test_a_telling_word_is_found_and_noise_is_not():
    rng = random.Random(0)
    noise = [Item(str(n), filler(rng), filler(rng)) for n in range(400)]
    telling = [Item(item.group, item.chosen + " concretely", item.rejected) for item in noise]
    assert bag_of_words(telling).value > 0.97
    found = bag_of_words(noise)
    assert found.low < 0.5 < found.high
    assert bag_of_words(noise) == found


def test_folds_keep_groups_together():
    rng = random.Random(1)
    # A word per group tells the side, so only a model that has seen the group could know.
    items = [Item(str(n // 8), f"{filler(rng)} key{n // 8}", filler(rng)) for n in range(400)]
    assert bag_of_words(items).value < 0.6


def test_too_few_groups_give_no_figure():
    assert bag_of_words([Item("a", "x", "y")] * 50) is None


def test_words_keep_apostrophes():
    assert words("Don't, the Bank's 5e") == ["don't", "the", "bank's", "5e"]
