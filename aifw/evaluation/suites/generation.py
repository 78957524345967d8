"""Suite `generation`: guards over what a model writes, whatever it is rewarded for.

Fields of a row:

tokens              of the answer: their ids, or how many there are
text                the answer
reference_tokens    how many tokens the reference model's answer to the same has; optional
entropy             mean entropy of the next token over the answer, in nats; optional
kl                  mean KL divergence from the reference model over the answer's tokens, in nats; optional

answer_tokens       mean number of tokens
length_drift        change of the total length against the reference, as a share and without its sign; `details` has the sign
duplicate_rate      share of answers that another item has too, but for case, punctuation and white space
repetition          share of an answer's 4-grams that occurred in it before; of token ids, or of words where only text is there

Whether an answer repeats another is settled once on all rows: a draw of a bootstrap, which takes rows twice and leaves others out,
neither makes nor unmakes duplicates. An answer too short for a 4-gram repeats nothing. A KL divergence that was estimated from
samples may come out below 0.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

from aifw.data.near_duplicates import normalised
from aifw.errors import InputInvalid
from aifw.evaluation.suites import Defaults, Row, Statistic
from aifw.evaluation.suites.fields import has, item, number, text, whole
from aifw.evaluation.suites.weights import Floats, ratio_of_totals, too_few, undefined, weights_of

GRAM = 4
_SHOWN = 10
_ROUNDING = 1e-6
_TOKENS = "the token ids of the answer, or their number"


class Generation(Defaults):
    """See the module."""

    name = "generation"

    def check(self, row: Row) -> None:
        """Refuse a row without tokens or text, or with a guard's value that is no number."""
        tokens = row.get("tokens")
        if isinstance(tokens, list | tuple):
            if any(isinstance(each, bool) or not isinstance(each, int) or each < 0 for each in tokens):
                raise InputInvalid(
                    f"`tokens` of {item(row)} has something that is no token id", hint=f"expected {_TOKENS}"
                )
        else:
            whole(row, "tokens", _TOKENS)
        text(row, "text", "the text of the answer", empty=True)
        if has(row, "reference_tokens"):
            whole(row, "reference_tokens", "a number of tokens, 0 or more")
        if has(row, "entropy"):
            number(row, "entropy", "an entropy in nats, at least 0", least=-_ROUNDING)
        if has(row, "kl"):
            number(row, "kl", "a finite number of nats")

    def values(self, row: Row) -> dict[str, float]:
        """Of one answer."""
        values = {"answer_tokens": float(_length(row)), "repetition": repetition(_units(row))}
        for measure, field in (("token_entropy", "entropy"), ("kl_to_reference", "kl")):
            if has(row, field):
                values[measure] = float(row[field])
        return values

    def statistics(self, rows: Sequence[Row]) -> dict[str, Statistic]:
        """Of all answers together."""
        repeats = duplicated(rows)
        whole_set = ratio_of_totals(repeats, [1.0] * len(rows)) if len(rows) > 1 else undefined
        return {"length_drift": _drift(rows), "duplicate_rate": whole_set}

    def details(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Sign of the drift, the most repeated answers, and how many answers are empty or too short to repeat themselves."""
        compared = [row for row in rows if has(row, "reference_tokens")]
        reference = sum(row["reference_tokens"] for row in compared)
        change = sum(_length(row) for row in compared) / reference - 1 if reference else None
        often = Counter(normalised(row["text"]) for row in rows)
        return {
            "answers": len(rows),
            "length_change": change,
            "length_compared": len(compared),
            "different_answers": len(often),
            "most_repeated": [
                {"text": shown[:120], "answers": count} for shown, count in often.most_common(_SHOWN) if count > 1
            ],
            "empty": sum(not row["text"].strip() for row in rows),
            "too_short_to_repeat": sum(len(_units(row)) < GRAM for row in rows),
            "notes": _notes(rows, compared, reference),
        }


def repetition(units: Sequence[Hashable]) -> float:
    """Share of 4-grams that occurred before in the same sequence; 0 where there are none."""
    count = len(units) - GRAM + 1
    if count < 1:
        return 0.0
    return 1 - len({tuple(units[at : at + GRAM]) for at in range(count)}) / count


def duplicated(rows: Sequence[Row]) -> list[float]:
    """1 for each answer that another item has too, but for case, punctuation and white space, else 0."""
    plain = [normalised(row["text"]) for row in rows]
    items: dict[str, set[str]] = defaultdict(set)
    for answer, row in zip(plain, rows, strict=True):
        items[answer].add(row["id"])
    return [float(len(items[answer]) > 1) for answer in plain]


def _length(row: Row) -> int:
    tokens = row["tokens"]
    return tokens if isinstance(tokens, int) else len(tokens)


def _units(row: Row) -> Sequence[Hashable]:
    units: list[Hashable] = row["text"].split() if isinstance(row["tokens"], int) else list(row["tokens"])
    return units


def _drift(rows: Sequence[Row]) -> Statistic:
    there = [has(row, "reference_tokens") for row in rows]
    change = ratio_of_totals(
        [_length(row) if known else 0 for row, known in zip(rows, there, strict=True)],
        [row["reference_tokens"] if known else 0 for row, known in zip(rows, there, strict=True)],
    )

    def drift(weights: Floats | None) -> float:
        return abs(change(weights_of(weights, len(rows))) - 1)

    return drift


def _notes(rows: Sequence[Row], compared: Sequence[Row], reference: int) -> dict[str, str]:
    notes = {}
    if not compared:
        notes["length_drift"] = "no answer has `reference_tokens`"
    elif not reference:
        notes["length_drift"] = "the reference's answers are empty"
    if len(rows) < 2:
        notes["duplicate_rate"] = too_few(len(rows), 2)
    for measure, field in (("token_entropy", "entropy"), ("kl_to_reference", "kl")):
        if not any(has(row, field) for row in rows):
            notes[measure] = f"no answer has `{field}`"
    return notes


SUITE = Generation()
