"""Sampled answers to held-out prompts, compared with those of the baseline: rows of suite `generation`.

Answers are sampled at temperature 1 from the whole vocabulary, so that they are draws from what the model has learnt. The KL divergence
is estimated from these draws (Schulman, 2020, "Approximating KL divergence", estimator k1): log p(answer) - log q(answer), with p the
subject and q the baseline, divided by the answer's tokens so that long answers do not count more. Of one answer it may be below 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aifw.evaluation.kinds import GenerationOptions
from aifw.evaluation.runs import Rows
from aifw.evaluation.runs.items import Items
from aifw.evaluation.runs.side import AnswerLikelihood, Side, is_finite
from aifw.models.chat import answer_text
from aifw.models.generate import Generated


@dataclass(slots=True)
class _Sampled:
    """Answers of one side."""

    identities: list[dict[str, Any]]
    prompts: list[tuple[int, ...]]
    answers: list[Generated]
    texts: list[str]
    seen: list[AnswerLikelihood]
    held_out: list[int]
    vocabulary: dict[str, int]


class GenerationRun:
    """See the module.

    Args:
        steps: Items there are.
        options: How many prompts, how long the answers.
        seed: Of the choice.
    """

    suites: tuple[str, ...] = ("generation",)

    def __init__(self, steps: int, options: GenerationOptions, seed: int) -> None:
        prompts = min(steps, options.prompts)
        self.steps = 3 * prompts
        self._options = options
        self._seed = seed
        self._sampled: dict[str, _Sampled] = {}
        self._reference: list[float] | None = None

    def measure(self, side: Side, items: Items) -> None:
        """Sample answers, look how certain the model was; and have the baseline look at those of the subject."""
        options = self._options
        positions = items.chosen(options.prompts)
        prompts = items.prompts(options.prompts, options.max_tokens)
        answers = side.answers(prompts, new=options.max_tokens, temperature=1.0, seed=self._seed)
        seen = side.likelihoods([(prompt, each.tokens) for prompt, each in zip(prompts, answers, strict=True)])
        if not is_finite(*(value for each in seen for value in (each.log_probability, each.entropy))):
            raise side.no_numbers()
        sampled = self._sampled[side.name] = _Sampled(
            identities=[items.identified(position) for position in positions],
            prompts=prompts,
            answers=answers,
            texts=[answer_text(side.tokenizer, each.tokens) for each in answers],
            seen=seen,
            held_out=[min(options.max_tokens, len(items.encoded.tokens[at].chosen)) for at in positions],
            vocabulary=side.tokenizer.get_vocab(),
        )
        if side.name == "baseline":
            subject = self._sampled["subject"]
            if sampled.vocabulary != subject.vocabulary:
                side.job.note("the models have different vocabularies, so there is no KL divergence between them")
                return
            pairs = zip(subject.prompts, subject.answers, strict=True)
            self._reference = side.log_probabilities([(prompt, each.tokens) for prompt, each in pairs])

    def rows(self, side: str) -> Rows:
        """Answers, their lengths beside the baseline's (or else those held out), entropy and KL divergence."""
        sampled, baseline = self._sampled[side], self._sampled.get("baseline")
        rows = []
        for at, (answer, seen) in enumerate(zip(sampled.answers, sampled.seen, strict=True)):
            row = sampled.identities[at] | {
                "tokens": list(answer.tokens),
                "text": sampled.texts[at],
                "ended": answer.ended,
                "entropy": seen.entropy,
                "reference_tokens": sampled.held_out[at] if baseline is None else len(baseline.answers[at].tokens),
            }
            if side == "baseline" and self._reference is not None:
                row["kl"] = 0.0
            elif self._reference is not None:
                row["kl"] = (seen.log_probability - self._reference[at]) / len(answer.tokens)
            rows.append(row)
        return {"generation": rows}
