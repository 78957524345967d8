"""Intervals and paired tests, in pure Python.

wilson                      interval of a proportion (Wilson 1927)
mcnemar                     exact test of paired binary outcomes (McNemar 1947; mid-p: Fagerland, Lydersen, Laake 2013)
sign_flip                   exact paired test where outcomes tie or come in clusters; equals `mcnemar` where they do not
newcombe_paired             interval of the difference of paired proportions (Newcombe 1998, method 10)
bootstrap                   interval of a mean of paired differences, resampled by cluster (percentile method)
minimum_detectable_effect   smallest difference a paired binary comparison would show (Connor 1987)
pairs_needed                how many pairs a difference needs to show
compare                     all of it for one measure, with a verdict
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

_NEGLIGIBLE = 1e-30

Decision = Literal["better", "not_worse", "worse", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Interval:
    """Two ends, both included."""

    low: float
    high: float


def quotient(part: int, whole: int) -> float:
    """Quotient of two integers, rounded once, however large they are."""
    return part / whole


def normal_quantile(probability: float) -> float:
    """The value a standard normal variable stays below with that probability.

    Newton's method on the complementary error function, to the last digits of a double.

    Raises:
        ValueError: Not strictly between 0 and 1.
    """
    if not 0 < probability < 1:
        raise ValueError(f"a probability strictly between 0 and 1 has a quantile, {probability} has none")
    if probability > 0.5:
        return -normal_quantile(1 - probability)
    value = -math.sqrt(-2 * math.log(probability)) if probability < 0.1 else 0.0
    for _ in range(100):
        density = math.exp(-value * value / 2) / math.sqrt(2 * math.pi)
        step = (0.5 * math.erfc(-value / math.sqrt(2)) - probability) / density
        # Far out the error function is so flat that a full step would overshoot.
        step = max(-1.0, min(1.0, step))
        value -= step
        if abs(step) < 1e-15 * max(1.0, abs(value)):
            break
    return value


def wilson(successes: float, count: int, alpha: float = 0.05) -> Interval:
    """Score interval of a proportion.

    Args:
        successes: 0 to `count`; halves are allowed.
        count: Trials, at least 1.
        alpha: The interval covers `1 - alpha`.

    Raises:
        ValueError: No trials, or more successes than trials.
    """
    if count < 1 or not 0 <= successes <= count:
        raise ValueError(f"{successes} successes in {count} trials have no interval")
    z = normal_quantile(1 - alpha / 2)
    share, weight = successes / count, z * z / count
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == count else min(1.0, middle + half)
    return Interval(low, high)


def mcnemar(gained: int, lost: int, *, mid_p: bool = False) -> float:
    """Two-sided exact p-value of paired binary outcomes.

    Args:
        gained: Pairs that only the second was right about.
        lost: Pairs that only the first was right about.
        mid_p: Count the observed outcome half: less conservative, no longer guaranteed.

    Raises:
        ValueError: A negative number.
    """
    if gained < 0 or lost < 0:
        raise ValueError("numbers of pairs cannot be negative")
    count, fewer = gained + lost, min(gained, lost)
    ways = tail = 1
    for k in range(fewer):
        ways = ways * (count - k) // (k + 1)
        tail += ways
    return min(1.0, quotient(2 * tail - ways if mid_p else 2 * tail, 2**count))


def sign_flip(differences: Sequence[float], groups: Sequence[str] | None = None) -> float:
    """Two-sided exact p-value that paired differences are as likely up as down.

    Whole groups change sign together, so pairs of one conversation count as what they are: not independent. Differences are
    multiples of one half. Of binary outcomes without groups this is McNemar's exact test. Nothing below 1e-30 is told apart.

    Raises:
        ValueError: A difference is not a multiple of one half, or lengths differ.
    """
    sums = _group_sums(differences, groups)
    sizes: dict[int, int] = {}
    for value in sums:
        if value:
            sizes[abs(value)] = sizes.get(abs(value), 0) + 1
    # Probability of each total, by convolving one binomial distribution for each size of difference.
    chances: dict[int, float] = {0: 1.0}
    for size, count in sorted(sizes.items()):
        binomial = _fair_binomial(count)
        reached: dict[int, float] = {}
        for total, chance in chances.items():
            for k, factor in binomial:
                place = total + size * (2 * k - count)
                reached[place] = reached.get(place, 0.0) + chance * factor
        chances = {total: chance for total, chance in reached.items() if chance > _NEGLIGIBLE}
    observed = abs(sum(sums))
    extreme = math.fsum(chance for total, chance in chances.items() if abs(total) >= observed)
    return min(1.0, max(_NEGLIGIBLE, extreme))


def _fair_binomial(count: int) -> list[tuple[int, float]]:
    """Numbers of heads in `count` throws and their probabilities, as far as they matter."""
    top = math.lgamma(count + 1) - count * math.log(2)
    if count <= 1000:
        chances = ((k, math.comb(count, k) / 2**count) for k in range(count + 1))
    else:
        chances = ((k, math.exp(top - math.lgamma(k + 1) - math.lgamma(count - k + 1))) for k in range(count + 1))
    return [(k, chance) for k, chance in chances if chance > _NEGLIGIBLE]


def _group_sums(differences: Sequence[float], groups: Sequence[str] | None) -> list[int]:
    """Sums of doubled differences by group."""
    if groups is None:
        groups = [str(index) for index in range(len(differences))]
    sums: dict[str, int] = {}
    for difference, group in zip(differences, groups, strict=True):
        doubled = round(2 * difference)
        if doubled != 2 * difference:
            raise ValueError(f"{difference} is not a multiple of one half")
        sums[group] = sums.get(group, 0) + doubled
    return list(sums.values())


def newcombe_paired(both: int, gained: int, lost: int, neither: int, alpha: float = 0.05) -> Interval:
    """Interval of the difference of two paired proportions: hybrid of Wilson intervals with continuity-corrected correlation.

    Args:
        both: Pairs both were right about.
        gained: Pairs only the second was right about.
        lost: Pairs only the first was right about.
        neither: Pairs neither was right about.
        alpha: The interval covers `1 - alpha`.

    Returns:
        Interval of (second minus first).

    Raises:
        ValueError: No pairs, or a negative number.
    """
    if min(both, gained, lost, neither) < 0:
        raise ValueError("numbers of pairs cannot be negative")
    count = both + gained + lost + neither
    second, first = both + gained, both + lost
    upper, lower = wilson(second, count, alpha), wilson(first, count, alpha)
    difference = (second - first) / count
    margins = second * (count - second) * first * (count - first)
    correlation = 0.0
    if margins:
        excess = float(both * neither - gained * lost)
        excess = max(excess - count / 2, 0.0) if excess > 0 else excess
        correlation = excess / math.sqrt(margins)
    down, up = second / count - upper.low, upper.high - second / count
    first_down, first_up = first / count - lower.low, lower.high - first / count
    below = math.sqrt(max(0.0, down**2 - 2 * correlation * down * first_up + first_up**2))
    above = math.sqrt(max(0.0, up**2 - 2 * correlation * up * first_down + first_down**2))
    return Interval(max(-1.0, difference - below), min(1.0, difference + above))


def bootstrap(
    values: Sequence[float],
    groups: Sequence[str] | None = None,
    *,
    alpha: float = 0.05,
    seed: int = 0,
    resamples: int = 2000,
) -> Interval:
    """Percentile interval of a mean, resampled by group.

    Args:
        values: One per item; for a paired comparison the differences.
        groups: Items of one group are drawn together. Default: every item by itself.
        alpha: The interval covers `1 - alpha`.
        seed: The same seed gives the same interval everywhere.
        resamples: How often to draw.

    Raises:
        ValueError: No values, lengths differ, or a value is not a number.
    """
    if not values:
        raise ValueError("no values have no mean")
    if not all(map(math.isfinite, values)):
        raise ValueError("a value is not a finite number")
    if groups is None:
        groups = [str(index) for index in range(len(values))]
    gathered: dict[str, tuple[float, int]] = {}
    for value, group in zip(values, groups, strict=True):
        total, count = gathered.get(group, (0.0, 0))
        gathered[group] = (total + value, count + 1)
    clusters = list(gathered.values())
    generator = random.Random(seed)  # noqa: S311
    means = []
    for _ in range(resamples):
        drawn = generator.choices(clusters, k=len(clusters))
        means.append(math.fsum(total for total, _ in drawn) / sum(count for _, count in drawn))
    means.sort()
    return Interval(_quantile(means, alpha / 2), _quantile(means, 1 - alpha / 2))


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def pairs_needed(difference: float, discordant: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Pairs needed for a two-sided McNemar test to show a difference (Connor 1987, unconditional).

    Args:
        difference: Of the two proportions, not 0.
        discordant: Share of pairs the two disagree about, at least the size of the difference.
        alpha: Size of the test.
        power: Probability of showing the difference.

    Raises:
        ValueError: No difference, or a larger one than the discordant pairs allow.
    """
    size = abs(difference)
    if not 0 < size <= discordant <= 1:
        raise ValueError(f"a difference of {difference} cannot come from a share of {discordant} discordant pairs")
    z_size, z_power = normal_quantile(1 - alpha / 2), normal_quantile(power)
    spread = z_size * math.sqrt(discordant) + z_power * math.sqrt(max(0.0, discordant - size * size))
    return max(1.0, (spread / size) ** 2)


def minimum_detectable_effect(count: int, discordant: float, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Smallest difference of paired proportions that a two-sided McNemar test shows with that power.

    Args:
        count: Pairs.
        discordant: Share of pairs the two disagree about.
        alpha: Size of the test.
        power: Probability of showing the difference.

    Returns:
        The difference, or None if not even a one-sided outcome of all discordant pairs would show.
    """
    if count < 1 or not 0 < discordant <= 1 or pairs_needed(discordant, discordant, alpha, power) > count:
        return None
    low, high = 0.0, discordant
    for _ in range(60):
        middle = (low + high) / 2
        if pairs_needed(max(middle, 1e-12), discordant, alpha, power) > count:
            low = middle
        else:
            high = middle
    return high


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure of two models on the same items.

    Attributes:
        before: Mean of the first.
        after: Mean of the second.
        low: Lower end of the interval of the difference.
        high: Upper end.
        n: Items.
        groups: Clusters of items.
        p: Two-sided p-value of no difference.
        detectable: Smallest difference that would have shown with a power of 80 %, or None if none would.
        needed: Items that the observed difference would need to show, or None where there is none.
        method: What interval and p-value rest on.
    """

    before: float
    after: float
    low: float
    high: float
    n: int
    groups: int
    p: float
    detectable: float | None
    needed: int | None
    method: str

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.after - self.before

    def decide(self, alpha: float = 0.05, margin: float | None = None) -> Decision:
        """Better or worse only if test and interval agree; not worse if the whole interval lies above minus the margin."""
        if self.p <= alpha and self.low > 0:
            return "better"
        if margin is not None and self.low >= -margin:
            return "not_worse"
        if self.p <= alpha and self.high < 0:
            return "worse"
        return "inconclusive"


def compare(
    before: Mapping[str, float],
    after: Mapping[str, float],
    groups: Mapping[str, str] | None = None,
    *,
    alpha: float = 0.05,
    seed: int = 0,
) -> Comparison:
    """Compare two sets of outcomes (1 right, 0 wrong, one half a tie) item by item.

    Where every item is its own group and nothing ties, the interval is Newcombe's and the test McNemar's; otherwise a bootstrap
    over groups and the exact sign-flip test over groups.

    Args:
        before: Outcome by item of the first.
        after: Outcome by item of the second.
        groups: Group by item; default every item by itself.
        alpha: Size of the test; the interval covers `1 - alpha`.
        seed: Of the bootstrap.

    Raises:
        ValueError: No items, different items, or an outcome other than 0, one half and 1.
    """
    if not before or before.keys() != after.keys():
        raise ValueError("both must be measured on the same items, at least one")
    names = sorted(before)
    if not all(outcome in {0, 0.5, 1} for outcomes in (before, after) for outcome in outcomes.values()):
        raise ValueError("an outcome is 0, one half or 1")
    group_of = {name: name for name in names} if groups is None else {name: groups[name] for name in names}
    differences = [after[name] - before[name] for name in names]
    count, clusters = len(names), len(set(group_of.values()))
    tied = any(outcomes[name] == 0.5 for outcomes in (before, after) for name in names)
    gained = sum(difference > 0 for difference in differences)
    lost = sum(difference < 0 for difference in differences)
    if tied or clusters < count:
        labels = [group_of[name] for name in names]
        interval, p = bootstrap(differences, labels, alpha=alpha, seed=seed), sign_flip(differences, labels)
        method = f"sign-flip test and bootstrap over {clusters} groups"
    else:
        both = sum(before[name] == after[name] == 1 for name in names)
        interval = newcombe_paired(both, gained, lost, count - both - gained - lost, alpha)
        p, method = mcnemar(gained, lost), "exact McNemar test, Newcombe interval"
    mean_before, mean_after = sum(before.values()) / count, sum(after.values()) / count
    discordant = (gained + lost) / count
    difference = mean_after - mean_before
    needed = None
    if difference and discordant:
        # Where nothing was lost the two are equal but for rounding.
        needed = math.ceil(pairs_needed(min(abs(difference), discordant), discordant, alpha))
    return Comparison(
        before=mean_before,
        after=mean_after,
        low=interval.low,
        high=interval.high,
        n=count,
        groups=clusters,
        p=p,
        detectable=minimum_detectable_effect(clusters, discordant, alpha) if discordant else None,
        needed=needed,
        method=method,
    )
