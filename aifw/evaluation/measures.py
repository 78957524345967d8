"""What can be measured: every measure of every suite, in words, with the direction that is better and how two subjects are compared.

This table is light, so that a spec's `require` and `targets` are checked against it while planning. The modules in `suites` compute.

A measure has one of four forms, which decide its interval and its test:

outcome     0, one half or 1 for each item: Wilson's interval; paired by item, an exact test
mean        a number for each item, whose mean counts: bootstrap over groups
statistic   a number of all items together, such as F1 or a percentile: bootstrap over groups
observed    a number without items behind it, such as the peak memory: no interval, so it can be bounded but never be `better`
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Form = Literal["outcome", "mean", "statistic", "observed"]
Better = Literal["higher", "lower", "neither"]
Unit = Literal[
    "share", "number", "seconds", "tokens_per_second", "items_per_second", "bytes", "joules", "dollars", "nats"
]


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that is measured.

    Attributes:
        name: As written in a spec; no two suites share one.
        title: For people.
        form: What there is for each item; see the module.
        better: Which direction is an improvement.
        unit: What the value counts. A margin of a `share` is in points, of anything else in parts of the incumbent's value.
    """

    name: str
    title: str
    form: Form
    better: Better
    unit: Unit


def _table(*rows: tuple[str, str, Form, Better, Unit]) -> dict[str, Measure]:
    return {row[0]: Measure(*row) for row in rows}


SUITES: Mapping[str, Mapping[str, Measure]] = {
    "preference": _table(
        ("preference_accuracy", "preference accuracy", "outcome", "higher", "share"),
        ("preference_accuracy_sum", "preference accuracy, summed", "outcome", "higher", "share"),
        ("margin_per_token", "margin per token", "mean", "higher", "nats"),
        ("length_controlled_win_rate", "length-controlled win rate", "statistic", "higher", "share"),
    ),
    "language_model": _table(
        ("perplexity", "perplexity", "statistic", "lower", "number"),
        ("exact_match", "exact match", "outcome", "higher", "share"),
        ("token_f1", "token F1", "mean", "higher", "share"),
        ("bleu", "BLEU", "statistic", "higher", "number"),
        ("rouge_1", "ROUGE-1", "mean", "higher", "share"),
        ("rouge_2", "ROUGE-2", "mean", "higher", "share"),
        ("rouge_l", "ROUGE-L", "mean", "higher", "share"),
    ),
    "classification": _table(
        ("accuracy", "accuracy", "outcome", "higher", "share"),
        ("precision_macro", "macro precision", "statistic", "higher", "share"),
        ("recall_macro", "macro recall", "statistic", "higher", "share"),
        ("f1_macro", "macro F1", "statistic", "higher", "share"),
        ("calibration_error", "calibration error", "statistic", "lower", "share"),
        ("brier", "Brier score", "mean", "lower", "number"),
    ),
    "retrieval": _table(
        ("precision_at_k", "precision at k", "mean", "higher", "share"),
        ("recall_at_k", "recall at k", "mean", "higher", "share"),
        ("mrr", "mean reciprocal rank", "mean", "higher", "share"),
        ("ndcg_at_k", "nDCG at k", "mean", "higher", "share"),
    ),
    "reflection": _table(
        ("retrieve_accuracy", "retrieve-or-not accuracy", "outcome", "higher", "share"),
        ("relevance_accuracy", "relevance accuracy", "outcome", "higher", "share"),
        ("support_accuracy", "support accuracy", "outcome", "higher", "share"),
        ("utility_accuracy", "utility accuracy", "outcome", "higher", "share"),
        ("relevance_f1", "relevance macro F1", "statistic", "higher", "share"),
        ("support_f1", "support macro F1", "statistic", "higher", "share"),
        ("reflection_calibration_error", "calibration error of judgements", "statistic", "lower", "share"),
    ),
    "rag": _table(
        ("answer_match", "answer match", "outcome", "higher", "share"),
        ("citation_precision", "citation precision", "mean", "higher", "share"),
        ("citation_recall", "citation recall", "mean", "higher", "share"),
        ("abstention_rate", "share abstained", "outcome", "neither", "share"),
        ("abstention_accuracy", "right to abstain or answer", "outcome", "higher", "share"),
        ("risk_coverage_area", "area under risk against coverage", "statistic", "lower", "share"),
        ("retrievals", "retrievals per question", "mean", "lower", "number"),
    ),
    "routing": _table(
        ("routing_top_1", "top-1 routing accuracy", "outcome", "higher", "share"),
        ("routing_top_2", "top-2 routing accuracy", "outcome", "higher", "share"),
        ("load_entropy", "load entropy", "statistic", "higher", "share"),
        ("max_violation", "largest load above its even share", "statistic", "lower", "number"),
        ("dead_experts", "experts that get nothing", "statistic", "lower", "number"),
        ("regret", "regret to the oracle", "mean", "lower", "number"),
    ),
    "adaptation": _table(
        ("accuracy_after_0", "accuracy before adapting", "mean", "higher", "share"),
        ("accuracy_after_1", "accuracy after 1 step", "mean", "higher", "share"),
        ("accuracy_after_5", "accuracy after 5 steps", "mean", "higher", "share"),
        ("over_fine_tuning", "accuracy above plain fine-tuning", "mean", "higher", "share"),
        ("over_prototypes", "accuracy above prototypes", "mean", "higher", "share"),
    ),
    "search": _table(
        ("search_speedup", "speed-up against the best peer", "statistic", "higher", "number"),
        ("search_recall", "recall of the exact neighbours", "mean", "higher", "share"),
    ),
    "latency": _table(
        ("latency_p50", "median latency", "statistic", "lower", "seconds"),
        ("latency_p95", "p95 latency", "statistic", "lower", "seconds"),
        ("latency_p99", "p99 latency", "statistic", "lower", "seconds"),
    ),
    "throughput": _table(
        ("tokens_per_second", "tokens per second", "statistic", "higher", "tokens_per_second"),
        ("items_per_second", "items per second", "statistic", "higher", "items_per_second"),
    ),
    "resources": _table(
        ("peak_memory", "peak memory", "observed", "lower", "bytes"),
        ("gpu_memory", "peak memory of the GPU", "observed", "lower", "bytes"),
        ("cpu_seconds_per_item", "processor time per item", "observed", "lower", "seconds"),
        ("gpu_seconds_per_item", "GPU time per item", "observed", "lower", "seconds"),
        ("energy_per_item", "energy per item", "observed", "lower", "joules"),
    ),
    "cost": _table(
        ("local_cost", "local cost per million tokens", "observed", "lower", "dollars"),
        ("cloud_cost", "cloud cost per million tokens", "observed", "lower", "dollars"),
    ),
    "generation": _table(
        ("answer_tokens", "tokens per answer", "mean", "neither", "number"),
        ("length_drift", "change of length against the reference", "statistic", "lower", "share"),
        ("duplicate_rate", "share of repeated answers", "statistic", "lower", "share"),
        ("repetition", "share of repeated 4-grams in an answer", "mean", "lower", "share"),
        ("token_entropy", "entropy of the next token", "mean", "neither", "nats"),
        ("kl_to_reference", "KL divergence from the reference", "mean", "lower", "nats"),
    ),
    "contamination": _table(
        ("contamination", "share of held-out items that training saw", "outcome", "lower", "share"),
    ),
    "lm_eval": {},
}
"""Measures by suite and name. Those of `lm_eval` are as many as there are tasks; see `named`."""

MEASURES: Mapping[str, Measure] = {name: measure for table in SUITES.values() for name, measure in table.items()}
"""Measures by name."""


_CORPUS = frozenset(
    {"bits_per_byte", "bleu", "brier_score", "byte_perplexity", "chrf", "mcc", "perplexity", "ter", "word_perplexity"}
)
"""Metrics of lm-evaluation-harness that are one number of all items together."""
_LOWER = frozenset(
    {"bits_per_byte", "brier_score", "byte_perplexity", "cer", "perplexity", "ter", "wer", "word_perplexity"}
)
_SHARES = frozenset({"acc", "acc_mutual_info", "acc_norm", "em", "exact_match", "f1", "pass@1"})


def named(name: str) -> Measure:
    """The measure of that name. One of lm-evaluation-harness is written `TASK/METRIC`, or `TASK/METRIC/FILTER` where answers were filtered.

    Raises:
        KeyError: There is no such measure.
    """
    if name in MEASURES:
        return MEASURES[name]
    task, *parts = name.split("/")
    if not task or not 1 <= len(parts) <= 2 or not all(parts):
        raise KeyError(name)
    metric = parts[0]
    return Measure(
        name,
        f"{task} {metric}" + (f" ({parts[1]})" if parts[1:] else ""),
        "observed" if metric in _CORPUS else "mean",
        "lower" if metric in _LOWER else "higher",
        "share" if metric in _SHARES else "number",
    )


def table(suite: str, rows: Iterable[Mapping[str, Any]] = ()) -> Mapping[str, Measure]:
    """Measures of a suite by name, those that only its rows name included.

    Args:
        suite: Its name.
        rows: Rows of one side, or of both.

    Raises:
        KeyError: There is no such suite.
    """
    if suite != "lm_eval":
        return SUITES[suite]
    names = {name for row in rows for key in ("values", "corpus") for name in row.get(key, ())}
    return {name: named(name) for name in sorted(names)}


def suite_of(measure: str) -> str:
    """The suite a measure belongs to.

    Raises:
        KeyError: There is no such measure.
    """
    if measure not in MEASURES:
        named(measure)
        return "lm_eval"
    return next(suite for suite, measures in SUITES.items() if measure in measures)


def measures_of(suites: Iterator[str] | tuple[str, ...]) -> list[Measure]:
    """Measures of some suites, in their order."""
    return [measure for suite in suites for measure in SUITES[suite].values()]
