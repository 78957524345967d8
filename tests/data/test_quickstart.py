import json
import re
from collections import Counter
from pathlib import Path

import pytest

from aifw.data.events import check
from aifw.data.near_duplicates import near_pairs
from aifw.data.pairs import judge
from aifw.data.split import is_heldout

FILE = Path(__file__).parents[2] / "examples/quickstart/feedback.jsonl"
MOST = 0.60


@pytest.fixture(scope="module")
def events():
    with FILE.open(encoding="utf-8") as file:
        return [check(json.loads(line)) for line in file]


@pytest.fixture(scope="module")
def pairs(events):
    return judge(events).pairs


def words(text):
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)*", text.lower())


def first_word(text):
    return words(text)[0]


FEATURES = {
    "characters": len,
    "words": lambda text: len(words(text)),
    "word length": lambda text: len(text) / len(text.split()),
    "digits": lambda text: sum(letter.isdigit() for letter in text),
    "sentences": lambda text: len(re.findall(r"[.!?](?:\s|$)", text)),
    "commas": lambda text: text.count(","),
    "semicolons": lambda text: text.count(";"),
    "hyphens": lambda text: text.count("-"),
    "apostrophes": lambda text: text.count("'"),
    "questions": lambda text: text.count("?"),
    "exclamations": lambda text: text.count("!"),
    "first word's length": lambda text: len(first_word(text)),
    "first sentence's length": lambda text: text.index("."),
    "different words": lambda text: len(set(words(text))) / len(words(text)),
}


def accuracy(values):
    """Of the better of the two rules "more wins" and "less wins"; equal counts one half."""
    hits = sum(0.5 if chosen == rejected else chosen > rejected for chosen, rejected in values) / len(values)
    return max(hits, 1 - hits)


def test_there_is_as_much_feedback_as_promised(events, pairs):
    kinds = Counter(event["kind"] for event in events)
    assert len(events) >= 400
    assert len({event["conversation"] for event in events}) >= 250
    assert len({event["rater"] for event in events}) >= 5
    assert len({event["id"] for event in events}) == len(events)
    assert set(kinds) == {"comparison", "correction", "thumbs", "stars"}
    assert min(kinds.values()) >= 50
    assert sum("turns" in event for event in events) >= 10
    assert Counter(pair.source for pair in pairs).keys() == kinds.keys()


def test_shown_first_is_better_about_half_the_time(events):
    shown = Counter(event["preferred"] for event in events if event["kind"] == "comparison")
    assert 0.45 < shown["a"] / (shown["a"] + shown["b"]) < 0.55
    assert 5 <= shown["tie"] <= 30


def test_there_is_doubt_that_the_confidence_filter_sees(events, pairs):
    assert judge(events).lost["raters contradict each other"] >= 3
    assert sum(pair.confidence < 0.6 for pair in pairs) >= 3


def test_the_split_of_the_spec_has_enough_on_both_sides(pairs):
    spec = (FILE.parent / "spec.yaml").read_text(encoding="utf-8")
    share = int(re.search(r"heldout: (\d+)%", spec)[1]) / 100
    most = int(re.search(r"max_pairs: (\d+)", spec)[1])
    assert most <= 240
    sure = [pair for pair in pairs if pair.confidence >= 0.6]
    heldout = [pair for pair in sure if is_heldout(pair.opening, share)]
    assert len({pair.conversations for pair in heldout}) >= 100
    assert len(sure) - len(heldout) >= 100


@pytest.mark.parametrize("feature", FEATURES)
def test_no_measure_tells_the_choice(pairs, feature):
    measure = FEATURES[feature]
    assert accuracy([(measure(pair.chosen), measure(pair.rejected)) for pair in pairs]) < MOST


def test_no_word_tells_the_choice_by_its_presence(pairs):
    balance = Counter()
    for pair in pairs:
        chosen, rejected = set(words(pair.chosen)), set(words(pair.rejected))
        balance.update(chosen - rejected)
        balance.subtract(rejected - chosen)
    word, count = max(balance.items(), key=lambda at: abs(at[1]))
    assert 0.5 + abs(count) / 2 / len(pairs) < MOST, word


def test_no_first_word_tells_the_choice(pairs):
    balance = Counter(first_word(pair.chosen) for pair in pairs)
    balance.subtract(first_word(pair.rejected) for pair in pairs)
    word, count = max(balance.items(), key=lambda at: abs(at[1]))
    assert 0.5 + abs(count) / 2 / len(pairs) < MOST, word


def test_no_two_prompts_or_answers_are_near_duplicates(events, pairs):
    prompts = sorted({event["prompt"] for event in events})
    assert len(prompts) >= 250
    assert [(prompts[one], prompts[other]) for one, other in near_pairs(prompts, 0.5)] == []
    answers = sorted({text for pair in pairs for text in (pair.chosen, pair.rejected)})
    assert [(answers[one], answers[other]) for one, other in near_pairs(answers, 0.5)] == []


def test_nothing_but_documented_columns_is_published():
    with FILE.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            assert check(row) == row
