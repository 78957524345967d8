"""One of the models that are measured: opened when it is first needed, its results kept between runs where they are certain."""

from __future__ import annotations

import gc
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from aifw.errors import JobError
from aifw.evaluation.kinds import EvaluateSettings
from aifw.hardware.libraries.backend import Backend, backend_for, measured_beside
from aifw.job import Input, Job
from aifw.models.answer import Decoder, TorchDecoder, ends_of_turn, next_tokens
from aifw.models.generate import Generated, generate
from aifw.models.load import LanguageModel, load, load_tokenizer, quiet
from aifw.models.memory_inference import BATCH_LOGITS, BATCH_TOKENS
from aifw.models.openvino_model import (
    OpenvinoLanguageModel,
    configuration,
    context_of,
    is_openvino,
    load_openvino,
)

Tell = Callable[[int], None]
Tokens = Sequence[int]

PROMPTS_AT_ONCE = 8
"""Prompts that are continued together where nothing is timed."""


@dataclass(frozen=True, slots=True)
class AnswerLikelihood:
    """How a model sees an answer that is there.

    Attributes:
        log_probability: Sum over its tokens, natural logarithm.
        entropy: Mean entropy of the next token at each of them, in nats.
    """

    log_probability: float
    entropy: float


class Side:
    """Subject or baseline.

    Args:
        job: The evaluation.
        name: `subject` or `baseline`.
        tell: Called with the number of items a run has done; it may raise to stop.
    """

    def __init__(self, job: Job[EvaluateSettings], name: str, tell: Tell = lambda _: None) -> None:
        self.job = job
        self.name = name
        self.tell = tell
        self.source: Input = job.inputs[name]
        self.backend = backend_of(job, self.source)

    @cached_property
    def tokenizer(self) -> Any:
        """Of transformers."""
        with quiet():
            return load_tokenizer(self.source.path)

    @cached_property
    def context(self) -> int:
        """Most positions."""
        return int(self.source.facts.get("context") or context_of(configuration(self.source.path)))

    @cached_property
    def model(self) -> LanguageModel | OpenvinoLanguageModel:
        """The loaded model."""
        with quiet():
            if is_openvino(self.source.path):
                return load_openvino(self.source.path, self.backend)
            model = load(self.source.path, backend=self.backend)
            return replace(model, module=self.backend.optimised(model.module))

    @cached_property
    def decoder(self) -> Decoder:
        """The same, read piece by piece."""
        model = self.model
        return TorchDecoder(model) if isinstance(model, LanguageModel) else model

    @cached_property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return ends_of_turn(self.source.path, self.tokenizer)

    def no_numbers(self) -> JobError:
        """The error for a model whose arithmetic broke down."""
        return JobError(f"{self.source.address} gives scores that are not numbers", hint="try `precision: fp32`")

    def close(self) -> None:
        """Let go of the model; it is loaded again if it is needed again."""
        for name in ("decoder", "model"):
            self.__dict__.pop(name, None)
        gc.collect()

    def kept(self, what: str, identity: Any, compute: Callable[[], Any]) -> Any:
        """What a model that is known by its digest computes of something, computed once and kept between runs.

        Args:
            what: Part of the name it is kept by.
            identity: All it depends on besides model, precision and device. A JSON value.
            compute: Gives a JSON value.
        """
        if not self.source.digest:
            return compute()
        state = [what, self.source.digest, self.backend.precision, self.job.device, identity]
        key = hashlib.sha256(json.dumps(state).encode()).hexdigest()

        def make(into: Path) -> None:
            (into / f"{what}.json").write_text(json.dumps(compute()), encoding="utf-8")

        folder = self.job.cache(f"{what}-{key[:32]}", make)
        return json.loads((folder / f"{what}.json").read_text(encoding="utf-8"))

    def answers(
        self, prompts: Sequence[Tokens], *, new: int, temperature: float = 0.0, seed: int = 0
    ) -> list[Generated]:
        """Continue prompts; kept between runs.

        Args:
            prompts: Token ids, which leave room for the answers.
            new: Most tokens of an answer.
            temperature: 0 takes the most probable token.
            seed: Of the choice.
        """

        def compute() -> list[Any]:
            try:
                found = self._answers(prompts, new, temperature, seed)
            except (RuntimeError, ValueError) as error:
                # What torch and numpy say where a probability to draw by is not a number.
                if "probabilit" not in str(error):
                    raise
                raise self.no_numbers() from error
            return [[list(each.tokens), each.ended] for each in found]

        found = self.kept("answers", [[*map(list, prompts)], new, temperature, seed], compute)
        return [Generated(tuple(tokens), bool(ended)) for tokens, ended in found]

    def _answers(self, prompts: Sequence[Tokens], new: int, temperature: float, seed: int) -> list[Generated]:
        model = self.model
        found: list[Generated] = []
        with quiet():
            for start in range(0, len(prompts), PROMPTS_AT_ONCE):
                self.tell(start)
                batch, own = prompts[start : start + PROMPTS_AT_ONCE], seed + start
                if isinstance(model, LanguageModel):
                    found += generate(model, batch, temperature=temperature, max_new=new, seed=own)
                    continue
                for number, prompt in enumerate(batch):
                    tokens = tuple(
                        next_tokens(model, prompt, new, ends=self.ends, temperature=temperature, seed=own + number)
                    )
                    found.append(Generated(tokens, bool(tokens) and tokens[-1] in self.ends))
        return found

    def log_probabilities(self, rows: Sequence[tuple[Tokens, Tokens]]) -> list[float]:
        """Sum of log-probabilities of each answer given its prompt, natural logarithm; kept between runs."""

        def compute() -> list[float]:
            found: dict[int, float] = {}
            order = sorted(range(len(rows)), key=lambda at: (sum(map(len, rows[at])), at))
            with quiet():
                for batch in _batches(order, rows, self.model.vocabulary):
                    self.tell(len(found))
                    found.update(zip(batch, self.model.score_rows([rows[at] for at in batch]), strict=True))
            return [found[at] for at in range(len(rows))]

        identity = [[list(prompt), list(answer)] for prompt, answer in rows]
        return [float(each) for each in self.kept("likelihoods", identity, compute)]

    def likelihoods(self, rows: Sequence[tuple[Tokens, Tokens]]) -> list[AnswerLikelihood]:
        """How the model sees answers: their probability, and how certain it is of each token; one after the other."""
        found = []
        with quiet():
            for number, (prompt, answer) in enumerate(rows):
                self.tell(number)
                found.append(self._likelihood(prompt, answer))
        return found

    def _likelihood(self, prompt: Tokens, answer: Tokens) -> AnswerLikelihood:
        import numpy as np

        logits = self._logits(prompt, answer).astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        entropy = -(np.exp(logits) * logits).sum(-1)
        chosen = logits[np.arange(len(answer)), np.asarray(answer)]
        return AnswerLikelihood(float(chosen.sum()), float(entropy.mean()))

    def _logits(self, prompt: Tokens, answer: Tokens) -> Any:
        """Logits before each token of an answer: positions x vocabulary."""
        model, ids = self.model, [[*prompt, *answer]]
        if not isinstance(model, LanguageModel):
            return model.logits(ids, len(prompt) - 1)[0, :-1]
        import torch

        with torch.inference_mode():
            output = model.module(
                input_ids=torch.tensor(ids, device=model.device), use_cache=False, logits_to_keep=len(answer) + 1
            )
            return output.logits[0, -len(answer) - 1 : -1].float().cpu().numpy()


def _batches(order: Sequence[int], rows: Sequence[tuple[Tokens, Tokens]], vocabulary: int) -> list[list[int]]:
    """Rows of about the same length, as many at once as `aifw.models.score` takes."""
    batches: list[list[int]] = []
    for at in order:
        if batches:
            batch = [*batches[-1], at]
            longest = max(sum(map(len, rows[each])) for each in batch)
            kept = longest - min(len(rows[each][0]) for each in batch) + 1
            if len(batch) * longest <= BATCH_TOKENS and len(batch) * kept * vocabulary <= BATCH_LOGITS:
                batches[-1] = batch
                continue
        batches.append([at])
    return batches


def backend_of(job: Job[EvaluateSettings], source: Input) -> Backend:
    """How one of the models is run: OpenVINO has no part for some of the devices that torch computes on."""
    measured = measured_beside(job.cache_root)
    wanted = job.settings.precision
    if not is_openvino(source.path):
        return backend_for(job.device, wanted, threads=job.threads, measured=measured)
    device = job.device if job.device.partition(":")[0] in {"cpu", "xpu"} else "cpu"
    return backend_for(device, wanted, library="openvino", threads=job.threads, measured=measured)


def is_finite(*values: float) -> bool:
    """Whether all of them are numbers."""
    return all(math.isfinite(value) for value in values)
