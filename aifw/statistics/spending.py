"""How much error a look at a hold-out may spend, so that all looks together stay within a total.

A gate that is asked every week would sooner or later promote by luck. So each look k of an alias at a hold-out has a level of its own,
alpha_k, fixed before anything is measured, and all of them sum to the total:

    alpha_k = total * (1/2 * 1/looks + 1/2 * (1/k - 1/(k+1)) / (1 - 1/(looks+1)))

One half is spent in equal shares, the other mostly on the first looks, where it buys most. With a total of 5 % over 200 looks the first
has 1.3 %, the second 0.4 %, the tenth 0.035 %, the last 0.01 %. Compared with equal shares of 0.025 %, the smallest gain that shows with
a power of 80 % is 29 % smaller at the first look, 20 % at the second, 2 % at the tenth, and 4 % larger at the last.

Why the sum bounds the error although candidates are chosen by what earlier looks said: until something is promoted, all that a look
tells is "no". The process that makes candidates from training data therefore tries one fixed sequence of candidates for as long as
it hears "no", and this sequence does not depend on the hold-out. A wrong first promotion means that the test of some candidate k of
this sequence errs, which has a probability of at most alpha_k for each, hence at most their sum for any (the union bound; no
independence is needed, see Blum and Hardt 2015, "The Ladder"). This holds

- for the first promotion on a hold-out. It tells "yes", after which what is tried depends on the hold-out; a fresh hold-out after a
  promotion makes the bound whole again.
- while nothing but the verdict reaches the making of candidates. Who tunes by the numbers of the report learns more than "no".
- if every look counts, also one that could not decide; and if looks are counted by what the hold-out holds, not by its name or
  file, see `aifw.statistics.sketch`.

A look errs by promoting a candidate that is not better, which is one tail. So `available` is the level of that tail, and a two-sided
test has to be asked at `two_sided(available(...))`: at the bare level it would spend only half.
"""

from __future__ import annotations

import math

TOTAL = 0.05
LOOKS = 200

# Levels are this much smaller than the formula, so that their sum is not above the total by a rounding.
_ROUNDED_DOWN = 1 - 2**-40


def available(look: int, total: float = TOTAL, looks: int = LOOKS) -> float:
    """Probability with which a look may promote what is not better.

    Args:
        look: Number of this look of the alias at the hold-out, from 1.
        total: Of all looks together.
        looks: How many are planned.

    Returns:
        The level of one tail; 0 after the last planned look: then the hold-out is used up, and a new one is needed.

    Raises:
        ValueError: A look before the first, no looks planned, or a total that is not between 0 and 1.
    """
    if look < 1 or looks < 1 or not 0 < total < 1:
        raise ValueError(f"look {look} of {looks} has no share of a total of {total}")
    if look > looks:
        return 0.0
    early = (looks + 1) / (looks * look * (look + 1))
    return total * _ROUNDED_DOWN * (0.5 / looks + 0.5 * early)


def spent(look: int, total: float = TOTAL, looks: int = LOOKS) -> float:
    """What the looks up to and including this one may have spent; 0 before the first.

    Raises:
        ValueError: As `available`; a look below 0.
    """
    if look < 0:
        raise ValueError(f"there is no look {look}")
    return math.fsum(available(each, total, looks) for each in range(1, min(look, looks) + 1))


def two_sided(level: float) -> float:
    """Level of a two-sided test whose tail towards `better` has the given level; also the alpha of its interval.

    Raises:
        ValueError: Not a level.
    """
    if not 0 <= level <= 0.5:
        raise ValueError(f"{level} is not the level of one tail")
    return 2 * level
