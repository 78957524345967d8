"""Intervals, paired tests, and levels for looking more than once. Nothing imports numpy before it computes with it.

wilson                      interval of a proportion (Wilson 1927)
mcnemar                     exact test of paired binary outcomes (McNemar 1947; mid-p: Fagerland, Lydersen, Laake 2013)
sign_flip                   exact paired test where outcomes tie or come in clusters; equals `mcnemar` where they do not
newcombe_paired             interval of the difference of paired proportions (Newcombe 1998, method 10)
bootstrap                   interval of a mean, resampled by cluster (percentile method)
interval_of_mean            the same, right for few clusters and small levels too
interval_of_statistic       of any number of all items together, such as F1 or a percentile
minimum_detectable_effect   smallest difference a paired binary comparison would show (Connor 1987)
minimum_detectable_mean     smallest difference of means that would show (Bloom 1995)
pairs_needed                how many pairs a difference of outcomes needs to show
groups_needed               how many clusters a difference of means needs to show
compare                     all of it for outcomes: right, wrong or a tie
compare_means               for numbers that each item has
compare_statistic           for numbers of all items together
holm                        p-values of several tests, adjusted (Holm 1979)
spending                    the level of each look at a hold-out
sketch                      which hold-out it is
"""

from aifw.statistics import sketch, spending
from aifw.statistics.bootstrap import bootstrap, interval_of_mean
from aifw.statistics.comparison import Comparison, Decision
from aifw.statistics.distributions import normal_quantile
from aifw.statistics.holm import holm
from aifw.statistics.interval import Interval
from aifw.statistics.means import compare_means
from aifw.statistics.outcomes import compare
from aifw.statistics.power import groups_needed, minimum_detectable_effect, minimum_detectable_mean, pairs_needed
from aifw.statistics.proportions import mcnemar, newcombe_paired, quotient, wilson
from aifw.statistics.sign_flip import sign_flip
from aifw.statistics.statistic import compare_statistic, interval_of_statistic, paired_bootstrap

__all__ = [
    "Comparison",
    "Decision",
    "Interval",
    "bootstrap",
    "compare",
    "compare_means",
    "compare_statistic",
    "groups_needed",
    "holm",
    "interval_of_mean",
    "interval_of_statistic",
    "mcnemar",
    "minimum_detectable_effect",
    "minimum_detectable_mean",
    "newcombe_paired",
    "normal_quantile",
    "paired_bootstrap",
    "pairs_needed",
    "quotient",
    "sign_flip",
    "sketch",
    "spending",
    "wilson",
]
