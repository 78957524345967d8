import math
import random

import pytest

from aifw.data.confidence import COMPARISON, PLAIN, Belief, Vote, log_odds
from aifw.data.raters import PRIOR_VOTES, Agreement

POOLS = {
    "as the table says": [0.8] * 10,
    "all better": [0.95] * 10,
    "all worse": [0.65] * 10,
    "mixed": [0.95, 0.95, 0.9, 0.8, 0.8, 0.7, 0.6, 0.55, 0.5, 0.5],
    "one who turns it round": [0.2] + [0.8] * 9,
    "half by chance": [0.5] * 5 + [0.9] * 5,
}


def judgements(reliabilities, pairs, seed, voters=(1, 2, 3)):
    """For each pair which side is better, and the votes on it."""
    draw = random.Random(seed)
    made = []
    for _ in range(pairs):
        truth = draw.random() < 0.5
        raters = draw.sample(range(len(reliabilities)), draw.choice(voters))
        votes = [
            Vote(COMPARISON, truth == (draw.random() < reliabilities[rater]), "comparison", (f"r{rater}",), "2026")
            for rater in raters
        ]
        made.append((truth, votes))
    return made


def agreement_of(made):
    agreement = Agreement()
    for _, votes in made:
        agreement.add(votes)
    return agreement


def loss(made, belief):
    """Mean negative log-likelihood of what is better; a coin has 0.693."""
    total = 0.0
    for truth, votes in made:
        odds = sum(belief.weight(vote) if vote.for_first else -belief.weight(vote) for vote in votes)
        total += math.log1p(math.exp(-odds if truth else odds))
    return total / len(made)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("pairs", [30, 300])
def test_weighing_raters_is_hardly_ever_worse_than_taking_all_alike_and_often_better(pool, pairs):
    differences = []
    for seed in range(6):
        weighed = Belief(shifts=agreement_of(judgements(POOLS[pool], pairs, seed)).shifts())
        fresh = judgements(POOLS[pool], 600, seed + 1000)
        differences.append(loss(fresh, weighed) - loss(fresh, PLAIN))
    mean = sum(differences) / len(differences)
    if pool == "as the table says":
        assert mean < 0.01  # what noise costs where there is nothing to gain
    else:
        assert mean < (-0.02 if pairs == 300 else 0)


def test_reliability_is_found_without_knowing_the_truth():
    shifts = agreement_of(judgements(POOLS["mixed"], 8000, 1)).shifts()
    for number, reliability in enumerate(POOLS["mixed"]):
        found = 1 / (1 + math.exp(-(log_odds(COMPARISON) + shifts[f"r{number}"])))
        assert found == pytest.approx(reliability, abs=0.05)


def vote(rater, for_first, reliability=0.8):
    return Vote(reliability, for_first, "comparison", (rater,) if isinstance(rater, str) else rater, "2026-01-01")


def test_nothing_is_said_of_a_rater_nobody_can_be_compared_with():
    agreement = Agreement()
    agreement.add([vote("ana", True)])
    agreement.add([vote("ana", True), vote("ana", True)])
    agreement.add([vote(("bo", "cy"), True), vote("ana", False)])
    assert (agreement.pairs, agreement.agreeing(), agreement.shifts()) == (0, None, {})
    agreement.add([vote("ana", True), vote("bo", True)])
    agreement.add([vote("ana", True), vote("bo", False)])
    assert (agreement.pairs, agreement.agreeing()) == (2, 0.5)
    assert set(agreement.shifts()) == {"ana", "bo"}


def test_nobody_is_compared_with_themselves():
    agreement, once = Agreement(), Agreement()
    agreement.add([vote("ana", True), vote("ana", True, 0.9), vote("ana", True), vote("bo", False)])
    once.add([vote("ana", True, 0.9), vote("bo", False)])
    assert agreement.shifts() == once.shifts()
    late = Vote(0.75, False, "thumbs", ("ana",), "2026-01-02")
    agreement = Agreement()
    agreement.add([late, vote("ana", True, 0.9), vote("bo", False)])
    assert agreement.agreeing() == 1


def test_one_step_is_the_published_one():
    # Two raters of 0.8 who agree on a pair and no more: their answer is right with 0.8^2 / (0.8^2 + 0.2^2) = 16/17.
    agreement = Agreement()
    agreement.add([vote("ana", True), vote("bo", True)])
    q = 0.8
    for _ in range(200):
        right = q * q / (q * q + (1 - q) ** 2)
        q = (PRIOR_VOTES * 0.8 + right) / (PRIOR_VOTES + 1)
    assert agreement.shifts()["ana"] == pytest.approx(log_odds(q) - log_odds(0.8), abs=1e-5)


def test_who_is_wrong_more_often_than_a_coin_is_not_listened_to_nor_turned_round():
    shifts = agreement_of(judgements([0.05] + [0.9] * 5, 2000, 3, voters=(3,))).shifts()
    belief = Belief(shifts=shifts)
    assert belief.weight(vote("r0", True)) == 0
    assert belief.weight(vote("r1", True)) > log_odds(0.8)
    assert belief.weight(vote("r1", True, 0.94)) <= log_odds(0.95) + 1e-12


def test_the_shift_of_a_vote_of_several_raters_is_their_mean():
    belief = Belief(shifts={"ana": 1.0, "bo": -0.5})
    assert belief.weight(vote(("ana", "bo"), True, 0.65)) == pytest.approx(log_odds(0.65) + 0.25)
    assert belief.weight(vote("cy", True)) == log_odds(0.8)


def test_the_weight_of_a_vote_halves_with_every_half_life():
    belief = Belief(half_life=86_400.0, newest="2026-01-03T00:00:00Z")
    weights = [belief.weight(Vote(0.8, True, "comparison", ("a",), f"2026-01-0{day}T00:00:00Z")) for day in (3, 2, 1)]
    assert weights == pytest.approx([log_odds(0.8), log_odds(0.8) / 2, log_odds(0.8) / 4])
