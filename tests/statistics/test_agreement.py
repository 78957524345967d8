"""Agreement with scipy and statsmodels, on a thousand random tables each, where they offer the same."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.descriptivestats import sign_test
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import normal_sample_size_one_tail
from statsmodels.stats.proportion import proportion_confint

from aifw.statistics import (
    compare,
    groups_needed,
    holm,
    mcnemar,
    minimum_detectable_mean,
    normal_quantile,
    pairs_needed,
    sign_flip,
    wilson,
)
from aifw.statistics.clusters import Clusters
from aifw.statistics.distributions import student_quantile, student_tail
from aifw.statistics.sign_flip import flip_all
from aifw.statistics.student import t_test

TABLES = 1000


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(20)


def _near(value: float, rel: float = 1e-9) -> object:
    return pytest.approx(value, rel=rel, abs=1e-15)


def test_mcnemar(generator: np.random.Generator) -> None:
    for _ in range(TABLES):
        both, gained, lost, neither = (int(each) for each in generator.integers(0, generator.integers(2, 300), 4))
        theirs = min(1.0, float(their_mcnemar([[both, lost], [gained, neither]], exact=True).pvalue))
        assert mcnemar(gained, lost) == _near(theirs)


def test_compare_is_mcnemar(generator: np.random.Generator) -> None:
    for _ in range(TABLES):
        before, after = generator.integers(0, 2, (2, generator.integers(1, 60))).astype(float)
        table = [[int(((before == b) & (after == a)).sum()) for a in (1, 0)] for b in (1, 0)]
        found = compare(*({str(i): float(each) for i, each in enumerate(side)} for side in (before, after)))
        assert found.p == _near(min(1.0, float(their_mcnemar(table, exact=True).pvalue)))


def test_sign_test(generator: np.random.Generator) -> None:
    for _ in range(TABLES):
        signs = generator.choice([-1.0, 0.0, 1.0], generator.integers(1, 400), p=generator.dirichlet([2, 2, 2]))
        gained, lost = int((signs > 0).sum()), int((signs < 0).sum())
        found = sign_flip(signs.tolist())
        if gained + lost:
            assert found == _near(max(1e-30, float(stats.binomtest(gained, gained + lost).pvalue)))
            assert found == _near(max(1e-30, float(sign_test(signs)[1])))


def test_wilson(generator: np.random.Generator) -> None:
    for _ in range(TABLES):
        count = int(generator.integers(1, 2000))
        successes, alpha = int(generator.integers(0, count + 1)), float(10 ** generator.uniform(-5, -0.5))
        found = wilson(successes, count, alpha)
        theirs = proportion_confint(successes, count, alpha, method="wilson")
        scipys = stats.binomtest(successes, count).proportion_ci(1 - alpha, method="wilson")
        assert (found.low, found.high) == pytest.approx(tuple(map(float, theirs)), rel=1e-9, abs=1e-12)
        assert (found.low, found.high) == pytest.approx((scipys.low, scipys.high), rel=1e-9, abs=1e-12)


def test_t_test(generator: np.random.Generator) -> None:
    for _ in range(TABLES):
        size, shift = int(generator.integers(2, 300)), float(generator.uniform(0, 1))
        before, after = generator.normal([[0.0], [shift]], 1, (2, size))
        found = Clusters.gather((after - before).tolist(), None).estimate()
        theirs = stats.ttest_rel(after, before)
        assert t_test(found) == _near(float(theirs.pvalue))
        assert found.value / found.error == _near(float(theirs.statistic))


def test_clustered_t_test(generator: np.random.Generator) -> None:
    for _ in range(TABLES):
        size = int(generator.integers(6, 120))
        groups = generator.integers(0, max(3, size // 3), size)
        values = generator.normal(0.3, 1, size) + generator.normal(0, 1, size)[groups]
        if len(set(groups.tolist())) < 2:
            continue
        theirs = OLS(values, np.ones(size)).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
        found = Clusters.gather(values.tolist(), [str(group) for group in groups]).estimate()
        assert found.error == _near(float(theirs.bse[0]))
        assert t_test(found) == _near(float(theirs.pvalues[0]))


def test_skewness(generator: np.random.Generator) -> None:
    for _ in range(TABLES):
        values = generator.exponential(size=int(generator.integers(3, 200)))
        found = Clusters.gather(values.tolist(), None).estimate().skewness
        assert found * len(values) ** 0.5 == pytest.approx(float(stats.skew(values)), rel=1e-9, abs=1e-12)


def test_sign_flips_of_any_size(generator: np.random.Generator) -> None:
    for _ in range(TABLES):
        sums = generator.normal(0.5, 1, int(generator.integers(2, 8)))
        theirs = stats.permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=np.inf)
        assert flip_all(sums) == _near(float(theirs.pvalue))


def test_holm(generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    # Theirs collects garbage at each call, which takes longer than everything else here.
    monkeypatch.setattr(gc, "collect", lambda: 0)
    for _ in range(TABLES):
        p = generator.uniform(0, 1, int(generator.integers(1, 12))) ** generator.uniform(1, 8)
        theirs = multipletests(p, method="holm")[1]
        found = holm({str(index): float(each) for index, each in enumerate(p)})
        assert list(found.values()) == pytest.approx(theirs.tolist(), rel=1e-9)


def test_quantiles_and_tails(generator: np.random.Generator) -> None:
    for _ in range(TABLES):
        probability = float(10 ** generator.uniform(-12, -1e-4))
        freedom = int(10 ** generator.uniform(0, 6))
        value = float(generator.choice([-1, 1]) * 10 ** generator.uniform(-3, 1.5))
        assert normal_quantile(probability) == pytest.approx(float(stats.norm.ppf(probability)), rel=1e-9, abs=1e-12)
        assert student_quantile(probability, freedom) == pytest.approx(
            float(stats.t.ppf(probability, freedom)), rel=1e-9, abs=1e-10
        )
        assert student_tail(value, freedom) == pytest.approx(float(stats.t.sf(value, freedom)), rel=1e-9)


def test_power(generator: np.random.Generator) -> None:
    for _ in range(TABLES):
        discordant, alpha = float(generator.uniform(0.01, 1)), float(10 ** generator.uniform(-5, -1))
        difference, power = float(generator.uniform(0.05, 0.9) * discordant), float(generator.uniform(0.5, 0.95))
        theirs = normal_sample_size_one_tail(
            difference, power, alpha / 2, discordant**0.5, (discordant - difference**2) ** 0.5
        )
        assert pairs_needed(difference, discordant, alpha, power) == _near(max(1.0, float(theirs)))
        groups, error = int(generator.integers(2, 2000)), float(generator.uniform(0.01, 10))
        effect = error * (stats.t.ppf(1 - alpha / 2, groups - 1) + stats.t.ppf(power, groups - 1))
        assert minimum_detectable_mean(error, groups, alpha, power) == _near(float(effect))


def test_groups_needed_is_the_normal_formula_and_a_few_more(generator: np.random.Generator) -> None:
    for _ in range(TABLES):
        ratio, alpha = float(generator.uniform(2, 1000)), float(10 ** generator.uniform(-5, -1))
        theirs = float(normal_sample_size_one_tail(1 / ratio, 0.8, alpha / 2, 1.0))
        more = groups_needed(1.0, ratio, alpha) - theirs
        # Guenther 1981: about half the square of the normal quantile.
        assert 0 <= more <= 2 + 2 * stats.norm.isf(alpha / 2) ** 2
