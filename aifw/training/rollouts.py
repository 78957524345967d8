"""Learning from rewards of the model's own answers, by TRL's trainers: what GRPO and RLOO share.

The prompts of pairs are answered several times each, a reward model judges the answers, and the model learns which of its answers to a prompt
are better than the others. A stopped run goes on from its last step as if it had not been stopped: order, learning rate and checkpoints are ours
(`aifw.training.trl_trainer`), and the random state, which answers are drawn with, is put back before the next step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aifw.errors import InputInvalid, JobError
from aifw.job import Job
from aifw.models.chat import Message, encode_pair, has_template, render
from aifw.models.describe import context_of
from aifw.models.load import LanguageModel, load_tokenizer, quiet
from aifw.models.pairs import choose, read_pairs
from aifw.models.size import Shape
from aifw.training import checkpoint
from aifw.training.course import lay_out
from aifw.training.descent import attempts, backend_of, content, identity, keep_off_sealed, tell_division, write_course
from aifw.training.kinds import micro_batch
from aifw.training.merge import merge_adapter, save_adapter
from aifw.training.reward_model import Rewards, load_reward_model
from aifw.training.trl_kinds import RolloutSettings, rollout_fitting
from aifw.training.trl_trainer import train_with

_JUDGED_TOKENS = 4096
"""Of answers with their prompts that are judged at once."""
_KEPT = {
    "reward": "reward",
    "reward_std": "reward_deviation",
    "kl": "divergence",
    "entropy": "entropy",
    "completions/mean_length": "answer_tokens",
}
"""What TRL logs for a step, and what it is called in the course of a training."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt.

    Attributes:
        messages: What is asked.
        text: The same as the model's template writes it.
        tokens: Its length.
        templated: The model has a template.
    """

    messages: tuple[Message, ...]
    text: str
    tokens: int
    templated: bool


def train(
    job: Job[Any], what: str, trainer_class: type[Any], config_class: type[Any], options: Mapping[str, Any]
) -> None:
    """Train and write the outputs `model` and `adapter`.

    Args:
        job: Its settings are `RolloutSettings`.
        what: Name of the method.
        trainer_class: TRL's trainer.
        config_class: Its configuration.
        options: Of the configuration, beyond what both methods share.

    Raises:
        InputInvalid: No prompt can be used, the reward model cannot be read, or a LoRA target matches no layer.
        CheckpointInvalid: `job.resume` belongs to another run.
        JobStopped: Stopped on request, after a checkpoint.
        JobError: The loss or a reward is not a number.
    """
    settings, base, backend = job.settings, job.inputs["model"], backend_of(job)
    keep_off_sealed(job, "prompts")
    with quiet():
        prompts, dropped = _usable(job)
        lengths = [prompt.tokens for prompt in prompts]
        order = lay_out(lengths, settings.epochs, settings.effective_batch // settings.generations, job.seed)
        judge = Judge(load_reward_model(job.inputs["reward"].path, backend))
        micro = _micro_batch(job, max(lengths), backend.precision)
        run = identity(
            job,
            without=("micro_batch", "checkpoint_every", "model", "prompts", "reward"),
            data=[prompt.text for prompt in prompts],
            precision=backend.precision,
            reward=job.inputs["reward"].digest or content(job.inputs["reward"].path),
        )

        def attempt(progress: checkpoint.Progress, resume: Path | None) -> Any:
            groups = settings.effective_batch // settings.generations
            return train_with(
                trainer_class,
                config_class,
                job,
                [_row(prompts[index]) for index in order[progress.step * groups :]],
                progress,
                resume,
                backend,
                steps=len(order) // groups,
                counted="answers",
                measures=_measures,
                options={**_shared_options(settings), **options},
                parts={"reward_funcs": [judge.reward]},
            )

        trained, progress = attempts(job, run, micro, attempt)
        save_adapter(trained, job.output("adapter"))
        del trained
        merge_adapter(base.path, job.output("adapter"), job.output("model"))
    write_course(job, progress, what, {"prompts": len(prompts), "dropped": dropped}, "prompts")
    job.fact("reward", progress.history[-1]["reward"], "adapter")


class Judge:
    """A reward model that reads what was asked and answered by its own template.

    Args:
        model: From `load_reward_model`.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.rewards = Rewards(model.module, model.tokenizer.pad_token_id, model.device, model.precision)

    def reward(self, *, completions: Sequence[Any], asked: Sequence[Sequence[Message]], **_: object) -> list[float]:
        """Rewards of answers, as TRL asks for them.

        Args:
            completions: Answers, as text or as a list of one message.
            asked: The messages each of them answers.

        Raises:
            JobError: A reward is not a number.
        """
        import torch

        answers = [each if isinstance(each, str) else str(each[0]["content"]) for each in completions]
        texts = [self._tokens(messages, answer) for messages, answer in zip(asked, answers, strict=True)]
        longest = max(len(prompt) + len(answer) for prompt, answer in texts)
        size = max(1, _JUDGED_TOKENS // longest)
        found: list[float] = []
        with torch.inference_mode():
            for first in range(0, len(texts), size):
                found += self.rewards.of_answers(texts[first : first + size]).tolist()
        if not all(math.isfinite(each) for each in found):
            raise JobError("the reward model gives a reward that is not a number", hint="use `precision: fp32`")
        return found

    def _tokens(self, messages: Sequence[Message], answer: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        most = max(1, self.model.context - 1)
        asked = [{"role": each["role"], "content": each["content"]} for each in messages]
        pair = encode_pair(self.model.tokenizer, asked, answer, answer, max_prompt=most, max_answer=most)
        return pair.prompt[-max(1, self.model.context - len(pair.chosen)) :], pair.chosen


def _usable(job: Job[RolloutSettings]) -> tuple[list[Prompt], dict[str, int]]:
    """Prompts that fit, each once, and how many do not."""
    settings, source = job.settings, job.inputs["prompts"]
    tokenizer = load_tokenizer(job.inputs["model"].path)
    if not has_template(tokenizer):
        job.note("the model has no chat template: messages are joined by blank lines")
    pairs = read_pairs(source.path)
    window = min(settings.max_prompt_tokens, context_of(job.inputs["model"].path) - settings.max_completion_tokens)
    found: dict[str, Prompt] = {}
    dropped = 0
    for pair in choose(pairs, settings.max_prompts):
        text, _ = render(tokenizer, pair.prompt, "")
        tokens = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        if 0 < tokens <= window:
            found.setdefault(text, Prompt(pair.prompt, text, tokens, has_template(tokenizer)))
        else:
            dropped += 1
    reasons = {f"its prompt is longer than {window} tokens": dropped} if dropped else {}
    for reason, count in reasons.items():
        job.note(f"{count} pairs not used: {reason}")
    if not found:
        raise InputInvalid(
            f"none of the {len(pairs)} prompts of {source.address} can be used for training",
            hint=next(iter(reasons), "the data set is empty; is `min_confidence` too high?"),
        )
    return list(found.values()), reasons


def _row(prompt: Prompt) -> dict[str, Any]:
    messages = [dict(each) for each in prompt.messages]
    # TRL writes messages by the template as we do; text it would begin with a token that the template has written already.
    return {"prompt": messages if prompt.templated else prompt.text, "asked": messages}


def _shared_options(settings: RolloutSettings) -> dict[str, Any]:
    return {
        "num_generations": settings.generations,
        "max_completion_length": settings.max_completion_tokens,
        "temperature": settings.temperature,
        "epsilon": settings.epsilon,
        "shuffle_dataset": False,
        "disable_dropout": settings.lora.dropout == 0,
    }


def _measures(logs: Mapping[str, Any]) -> dict[str, float]:
    return {ours: float(logs[theirs]) for theirs, ours in _KEPT.items() if logs.get(theirs) is not None}


def _micro_batch(job: Job[RolloutSettings], longest: int, precision: str) -> int:
    """As set, or what suits the device and fits the memory; always a divisor of the effective batch."""
    settings, tokens = job.settings, longest + job.settings.max_completion_tokens
    shape = Shape.of(job.inputs["model"].facts)
    micro = micro_batch(settings.micro_batch, settings.effective_batch, tokens, job.device, shape.hidden)
    if settings.micro_batch == "auto" and job.memory is not None:
        micro = rollout_fitting(shape, settings, tokens, job.device, precision, job.memory, micro)
    return tell_division(job, micro)
