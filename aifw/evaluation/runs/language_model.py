"""Probabilities of held-out answers, and greedy answers beside them where asked for: rows of suite `language_model`."""

from __future__ import annotations

from typing import Any

from aifw.evaluation.kinds import LanguageModelOptions
from aifw.evaluation.runs import Rows
from aifw.evaluation.runs.items import Items
from aifw.evaluation.runs.preference import PreferenceRun
from aifw.evaluation.runs.side import Side, is_finite
from aifw.models.chat import answer_text


class LanguageModelRun:
    """See the module.

    Args:
        steps: Items there are.
        options: Whether and how to generate.
        scored: The run of suite `preference`, where there is one: the probabilities of the answers are known by it.
    """

    suites: tuple[str, ...] = ("language_model",)

    def __init__(self, steps: int, options: LanguageModelOptions, scored: PreferenceRun | None) -> None:
        generated = 0
        if options.generate:
            generated = steps if options.max_items is None else min(steps, options.max_items)
        self.steps = (0 if scored is not None else steps) + generated
        self._options = options
        self._scored = scored
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def measure(self, side: Side, items: Items) -> None:
        """Score the answers people gave, and let the model answer."""
        tokens = items.encoded.tokens
        if self._scored is not None:
            found = [score.chosen for score in self._scored.scores[side.name]]
        else:
            found = side.log_probabilities([(each.prompt, each.chosen) for each in tokens])
        if not is_finite(*found):
            raise side.no_numbers()
        rows = [
            {**items.identified(position), "log_probability": value, "tokens": len(each.chosen)}
            for position, (value, each) in enumerate(zip(found, tokens, strict=True))
        ]
        options = self._options
        if options.generate:
            prompts = items.prompts(options.max_items, options.max_tokens)
            answers = side.answers(prompts, new=options.max_tokens)
            for position, answer in zip(items.chosen(options.max_items), answers, strict=True):
                rows[position]["answer"] = answer_text(side.tokenizer, answer.tokens)
                rows[position]["references"] = [items.encoded.pairs[position].chosen.strip()]
        self._rows[side.name] = rows

    def rows(self, side: str) -> Rows:
        """Log-probability and length of the answer, and the model's own answer with what it is compared with."""
        return {"language_model": self._rows[side]}
