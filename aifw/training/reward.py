"""A reward model learnt from preferences: the chosen answer of a pair shall have the higher reward.

The loss of a pair is -log sigmoid(r(chosen) - r(rejected) - margin), the negative log-likelihood of the preference under Bradley and Terry's
model (1952; Ouyang et al. 2022, arXiv:2203.02155, equation 1; the margin: Touvron et al. 2023, arXiv:2307.09288, equation 2). A LoRA
adapter and the new output layer are trained; the prompt of a pair is computed once for both answers where the model allows that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aifw.errors import InputInvalid, JobError
from aifw.hardware.libraries.backend import Backend
from aifw.job import Job
from aifw.models.chat import EncodedPair, has_template
from aifw.models.describe import weights
from aifw.models.load import quiet
from aifw.models.pairs import Encoded, Pair, choose, encode, read_pairs
from aifw.models.size import Shape
from aifw.training import checkpoint
from aifw.training.adapter import drop_in_adapter_only, lora_config, naming_the_setting
from aifw.training.course import lay_out
from aifw.training.descent import attempts, backend_of, descend, identity, keep_off_sealed, tell_division, write_course
from aifw.training.kinds import micro_batch
from aifw.training.merge import save_adapter
from aifw.training.reward_kinds import RewardSettings, fitting
from aifw.training.reward_model import HEAD, Rewards, load_reward_model, merge_reward_adapter

_MEASURED_TOKENS = 4096
"""Of pairs whose rewards are computed at once when nothing is learnt."""


def train(job: Job[RewardSettings]) -> None:
    """Train, measure, and write the outputs `model` and `adapter`.

    Raises:
        InputInvalid: No pair can be used, a pair of the evaluation is trained on, or a LoRA target matches no layer.
        CheckpointInvalid: `job.resume` belongs to another run.
        JobStopped: Stopped on request, after a checkpoint.
        JobError: The loss or a reward is not a number.
    """
    settings, base, backend = job.settings, job.inputs["model"], backend_of(job)
    keep_off_sealed(job)
    with quiet():
        model = load_reward_model(base.path, backend, job.seed)
        if not has_template(model.tokenizer):
            job.note("the model has no chat template: messages are joined by blank lines")
        encoded = _usable(job, model.tokenizer, model.context, "data", settings.max_pairs)
        heldout = None
        if "evaluation" in job.inputs:
            heldout = _usable(job, model.tokenizer, model.context, "evaluation", None)
            _require_apart(job, encoded.pairs, heldout.pairs)
        way = Rewards.of(model, max(encoded.tokens, key=_sequence))
        if not way.shares:
            job.note("prompts are computed for each answer: this model gives other numbers where both share one")
        micro = _micro_batch(job, encoded.tokens, backend.precision, shares=way.shares)
        del model, way
        lengths = [len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in encoded.tokens]
        order = lay_out(lengths, settings.epochs, settings.effective_batch, job.seed)
        without = ("micro_batch", "checkpoint_every", "model", "data", "evaluation")
        tokens = [[pair.prompt, pair.chosen, pair.rejected] for pair in encoded.tokens]
        run = identity(job, without=without, data=tokens, precision=backend.precision)

        def attempt(progress: checkpoint.Progress, resume: Path | None) -> Any:
            return _run(job, encoded.tokens, order, progress, resume, backend)

        (trained, way), progress = attempts(job, run, micro, attempt)
        rows: dict[str, Any] = {"pairs": len(encoded.pairs), "dropped": dict(sorted(encoded.dropped.items()))}
        rows |= _accuracies(job, way, encoded, heldout)
        save_adapter(trained, job.output("adapter"))
        del trained, way
        merge_reward_adapter(base.path, job.output("adapter"), job.output("model"), job.seed)
    write_course(job, progress, "a reward model", rows, "pairs")
    job.fact("parameters", weights(job.output("model")).total(), "model")
    for name in ("accuracy", "heldout_accuracy", "heldout_pairs"):
        if name in rows:
            job.fact(name, rows[name], "model")


def _usable(job: Job[RewardSettings], tokenizer: Any, context: int, name: str, most: int | None) -> Encoded:
    settings, source = job.settings, job.inputs[name]
    pairs = read_pairs(source.path)
    usable = [pair for pair in choose(pairs, most) if pair.chosen.strip() and pair.rejected.strip()]
    encoded = encode(
        usable,
        tokenizer,
        max_prompt=settings.max_prompt_tokens,
        max_answer=settings.max_completion_tokens,
        context=context,
        keep_equal=False,
    )
    empty = (len(pairs) if most is None else min(most, len(pairs))) - len(usable)
    if empty:
        encoded.dropped["an answer is empty"] += empty
    notes = list(encoded.notes())
    for note in notes:
        job.note(note)
    if not encoded.pairs:
        raise InputInvalid(
            f"none of the {len(pairs)} pairs of {source.address} can be used for {'training' if name == 'data' else name}",
            hint="; ".join(notes) or "the data set is empty; is `min_confidence` too high?",
        )
    return encoded


def _require_apart(job: Job[RewardSettings], trained: Sequence[Pair], heldout: Sequence[Pair]) -> None:
    seen = {tuple((turn["role"], turn["content"]) for turn in pair.prompt) for pair in trained}
    shared = sum(tuple((turn["role"], turn["content"]) for turn in pair.prompt) in seen for pair in heldout)
    if shared:
        raise InputInvalid(
            f"{shared} of {len(heldout)} pairs of {job.inputs['evaluation'].address} have a prompt that is trained on",
            hint="use the output `heldout` of the data set whose output `train` is trained on",
        )


def _run(
    job: Job[RewardSettings],
    pairs: Sequence[EncodedPair],
    order: Sequence[int],
    progress: checkpoint.Progress,
    resume: Path | None,
    backend: Backend,
) -> tuple[Any, Rewards]:
    """Train from `progress.step` to the end.

    Returns:
        The trained model, the adapter beside its weights, and how to ask it.
    """
    import torch
    from peft import get_peft_model

    settings = job.settings
    loaded = load_reward_model(job.inputs["model"].path, backend, job.seed)
    config = lora_config(settings.lora)
    config.task_type, config.modules_to_save = "SEQ_CLS", [HEAD]
    torch.manual_seed(job.seed)
    with naming_the_setting():
        model = get_peft_model(loaded.module, config)
    adapted = replace(loaded, module=loaded.module.eval())
    way = Rewards.of(adapted, max(pairs, key=_sequence))
    drop_in_adapter_only(model)

    def gradients(rows: Sequence[int], at_once: int) -> dict[str, float]:
        return step_gradients(way, [pairs[row] for row in rows], at_once, settings)

    descend(job, model, order, progress, resume, gradients, rows="pairs")
    model.eval()
    return model, way


def step_gradients(
    way: Rewards, pairs: Sequence[EncodedPair], at_once: int, settings: RewardSettings
) -> dict[str, float]:
    """The method itself: add the gradients of the loss of one step to those of the parameters.

    Args:
        way: Computes rewards.
        pairs: Of the step.
        at_once: How many to compute at once.
        settings: Margin and centring.

    Returns:
        Means over the pairs: loss, margin (difference of the rewards), accuracy.
    """
    from torch.nn.functional import logsigmoid

    loss = margin = accuracy = 0.0
    for first in range(0, len(pairs), at_once):
        rewards = way.of_pairs(pairs[first : first + at_once])
        chosen, rejected = rewards.unbind(1)
        losses = -logsigmoid(chosen - rejected - settings.margin)
        if settings.centring:
            losses = losses + settings.centring * (chosen + rejected) ** 2
        (losses.sum() / len(pairs)).backward()  # type: ignore[no-untyped-call]
        difference = (chosen - rejected).detach()
        loss += float(losses.detach().sum()) / len(pairs)
        margin += float(difference.sum()) / len(pairs)
        accuracy += float((difference > 0).sum()) / len(pairs)
    return {"loss": loss, "margin": margin, "accuracy": accuracy}


def _accuracies(job: Job[RewardSettings], way: Rewards, encoded: Encoded, heldout: Encoded | None) -> dict[str, Any]:
    found: dict[str, Any] = {"accuracy": _accuracy(job, way, encoded.tokens, "pair measured")}
    if heldout is not None:
        found["heldout_accuracy"] = _accuracy(job, way, heldout.tokens, "held-out pair measured")
        found["heldout_pairs"] = len(heldout.pairs)
    return found


def _accuracy(job: Job[RewardSettings], way: Rewards, pairs: Sequence[EncodedPair], unit: str) -> float:
    """Share of pairs whose chosen answer has the higher reward."""
    import torch

    order = sorted(range(len(pairs)), key=lambda index: (_sequence(pairs[index]), index))
    right = done = 0
    while done < len(order):
        size = max(1, _MEASURED_TOKENS // (2 * _sequence(pairs[order[done]])))
        batch = [pairs[index] for index in order[done : done + size]]
        with torch.inference_mode():
            rewards = way.of_pairs(batch).tolist()
        if not all(math.isfinite(each) for row in rewards for each in row):
            raise JobError("a reward is not a number", hint="lower `learning_rate`, or use `precision: fp32`")
        right += sum(chosen > rejected for chosen, rejected in rewards)
        done += len(batch)
        job.obey()
        job.progress(done, len(order), unit)
    return right / len(order)


def _micro_batch(job: Job[RewardSettings], pairs: Sequence[EncodedPair], precision: str, *, shares: bool) -> int:
    """As set, or what suits the device and fits the memory; always a divisor of the effective batch."""
    settings = job.settings
    prompts = 1 if shares else 2
    mean = sum(prompts * len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs) / len(pairs)
    shape = Shape.of(job.inputs["model"].facts)
    micro = micro_batch(settings.micro_batch, settings.effective_batch, mean, job.device, shape.hidden)
    if settings.micro_batch == "auto" and job.memory is not None:
        longest = max(pairs, key=_sequence)
        tokens = (float(prompts * len(longest.prompt)), float(max(len(longest.chosen), len(longest.rejected))))
        micro = fitting(shape, settings, tokens, job.device, precision, job.memory, micro)
    return tell_division(job, micro)


def _sequence(pair: EncodedPair) -> int:
    """Tokens of the longer of the two sequences."""
    return len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))
