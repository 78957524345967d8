"""Suite `language_model`: how probable text is under a model, and how near its answers come to references.

Fields of a row, one of the pairs at least:

log_probability   of the item's text under the model, summed over its tokens, in nats
tokens            their number, at least 1

answer            what the model wrote
references        texts that would be right, at least one

perplexity        exp of minus the mean log-probability per token, over the tokens of all items
exact_match       the answer equals a reference, both normalised as SQuAD does (see `aifw.evaluation.suites.answers`)
token_f1          F1 of the words shared with the nearest reference, normalised likewise
bleu              corpus BLEU of sacrebleu with its defaults: 13a tokens, case kept, exponential smoothing, 0 to 100
rouge_1, _2, _l   F-measure of rouge-score without stemming against the nearest reference

BLEU is computed from each item's counts of n-grams, which sacrebleu adds up over a corpus, so that weighing items costs one product. It
is not defined where no item's reference (of several the one nearest in length) has four tokens. ROUGE's words are runs of letters and digits of any script, where rouge-score by itself
knows ASCII only and would give 0 to all other text; on ASCII the two are the same. An item whose references have no word has no ROUGE.
Both take words to be separated: for languages written without spaces neither says much.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from aifw.errors import DependencyMissing, InputInvalid
from aifw.evaluation.suites import Defaults, Row, Statistic
from aifw.evaluation.suites.answers import exact, token_f1
from aifw.evaluation.suites.fields import has, item, listed, number, refused, text, whole
from aifw.evaluation.suites.weights import Floats, quotient, weights_of

_ROUNDING = 1e-3
_ORDER = 4
_ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
_WORD = re.compile(r"[^\W_]+")
_REFERENCES = "a list of texts, at least one and none of them blank"


class LanguageModel(Defaults):
    """See the module."""

    name = "language_model"

    def check(self, row: Row) -> None:
        """Refuse a row with neither a log-probability nor an answer, or with half of a pair."""
        scored = has(row, "log_probability") or has(row, "tokens")
        answered = has(row, "answer") or has(row, "references")
        if not scored and not answered:
            raise InputInvalid(
                f"{item(row)} has neither `log_probability` and `tokens` nor `answer` and `references`",
                hint="give one of the two pairs, or both",
            )
        if scored:
            wanted = "a log-probability summed over tokens, in nats, so at most 0"
            number(row, "log_probability", wanted, most=_ROUNDING)
            whole(row, "tokens", "the number of tokens, at least 1", least=1)
        if answered:
            text(row, "answer", "the text of the answer", empty=True)
            for reference in listed(row, "references", _REFERENCES):
                if not isinstance(reference, str) or not reference.strip():
                    raise refused(row, "references", _REFERENCES)

    def values(self, row: Row) -> dict[str, float]:
        """Of one answer; nothing for an item that is scored only."""
        if not has(row, "answer"):
            return {}
        answer, references = row["answer"], row["references"]
        values = {"exact_match": float(exact(answer, references)), "token_f1": token_f1(answer, references)}
        worded = [reference for reference in references if _WORD.search(reference)]
        if worded:
            scores = _rouge().score_multi(worded, answer)
            values |= {name: float(scores[theirs].fmeasure) for name, theirs in _ROUGE.items()}
        return values

    def statistics(self, rows: Sequence[Row]) -> dict[str, Statistic]:
        """Of all items together, as far as some have the fields."""
        found: dict[str, Statistic] = {}
        if any(has(row, "log_probability") for row in rows):
            found["perplexity"] = _perplexity(rows)
        if any(has(row, "answer") for row in rows):
            found["bleu"] = _bleu(rows)
        return found

    def incomparable(self, before: Sequence[Row], after: Sequence[Row]) -> dict[str, str]:
        """Perplexity is per token, so both must have cut every text into as many; and both must have answered the same items."""
        found = {}
        if [row.get("tokens") for row in before] != [row.get("tokens") for row in after]:
            found["perplexity"] = "the two cut the same items into different numbers of tokens, and it is per token"
        if [has(row, "answer") for row in before] != [has(row, "answer") for row in after]:
            found["bleu"] = "not known for the same items on both sides"
        return found

    def details(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Numbers of items and tokens behind the measures, and how BLEU was computed."""
        scored = [row for row in rows if has(row, "log_probability")]
        answered = [row for row in rows if has(row, "answer")]
        details: dict[str, Any] = {
            "scored": len(scored),
            "tokens": sum(row["tokens"] for row in scored),
            "answered": len(answered),
            "empty_answers": sum(not row["answer"].strip() for row in answered),
        }
        notes = {} if scored else {"perplexity": "no item has `log_probability`"}
        if answered:
            details["bleu_signature"] = _signature(answered)
            if math.isnan(_bleu(answered)(None)):
                notes["bleu"] = "no reference has four tokens"
        else:
            notes["bleu"] = "no item has `answer`"
        return {**details, "notes": notes}


def _perplexity(rows: Sequence[Row]) -> Statistic:
    scored = [has(row, "log_probability") for row in rows]
    sums = np.array([row["log_probability"] if there else 0.0 for row, there in zip(rows, scored, strict=True)], float)
    tokens = np.array([row["tokens"] if there else 0 for row, there in zip(rows, scored, strict=True)], float)

    def perplexity(weights: Floats | None) -> float:
        each = weights_of(weights, len(tokens))
        mean = quotient(-float(each @ sums), float(each @ tokens))
        # Beyond what a float holds it is no number to compare by.
        return math.exp(mean) if mean < 700 else math.nan

    return perplexity


def _bleu(rows: Sequence[Row]) -> Statistic:
    answered = [row if has(row, "answer") else None for row in rows]
    counts = np.zeros((len(rows), 3 + 2 * _ORDER))
    # The effective order keeps sacrebleu from warning about single sentences; it changes none of their counts.
    bleu = _sacrebleu()(effective_order=True)
    for place, row in zip(counts, answered, strict=True):
        if row is not None:
            score = bleu.sentence_score(row["answer"], list(row["references"]))
            possible = max(0, score.ref_len - _ORDER + 1)
            place[:] = [score.sys_len, score.ref_len, possible, *score.counts, *score.totals]

    def corpus(weights: Floats | None) -> float:
        total = weights_of(weights, len(counts)) @ counts
        if not total[2] > 0:
            return math.nan
        correct, all_ngrams = total[3 : 3 + _ORDER].tolist(), total[3 + _ORDER :].tolist()
        # sacrebleu prints the lengths as integers, which they are for the draws of a bootstrap.
        lengths = [round(float(length)) for length in total[:2]]
        return float(_sacrebleu().compute_bleu(correct, all_ngrams, *lengths, smooth_method="exp").score)

    return corpus


def _signature(rows: Sequence[Row]) -> str:
    """How the score of the corpus is written in papers: sacrebleu gives it after it has seen how many references there are."""
    bleu, references = _sacrebleu()(), [len(row["references"]) for row in rows]
    fewest, most = min(references), max(references)
    bleu.corpus_score(["x", "x"], [["x", "x" if place < fewest else None] for place in range(most)])
    return f"BLEU|{bleu.get_signature()}"


def _sacrebleu() -> Any:
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise DependencyMissing(f"sacrebleu cannot be used: {error}", hint="pip install 'aifw[evaluate]'") from error
    return BLEU


class _Words:
    """Words as the scorer of rouge-score asks for them."""

    def tokenize(self, text: str) -> list[str]:
        """Runs of letters and digits, in lower case."""
        return _WORD.findall(text.lower())


@cache
def _rouge() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise DependencyMissing(f"rouge-score cannot be used: {error}", hint="pip install 'aifw[evaluate]'") from error
    return RougeScorer(list(_ROUGE.values()), tokenizer=_Words())


SUITE = LanguageModel()
