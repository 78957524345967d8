"""What an evaluation will need: memory of the moment that needs most, and the time of everything a suite has to run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aifw.hardware.libraries.precision import expected_precision
from aifw.hardware.machine import Machine
from aifw.kind import Estimate, Forecast, InputFacts
from aifw.models.memory import bytes_each, estimated, is_mapped
from aifw.models.memory_inference import generation, openvino_scoring, scoring
from aifw.models.size import TEMPLATE_TOKENS, Shape, tokens_of
from aifw.models.speed import seconds_for
from aifw.models.work import Work, generation_work, scoring_work

if TYPE_CHECKING:
    from aifw.evaluation.kinds import EvaluateSettings

_SECONDS_TO_START = 10.0
"""Importing, measured to take 5 s of a core, and an allowance for loading both models."""
_UNKNOWN_ROWS = 500
_TIMED = frozenset({"latency", "throughput", "resources", "cost"})
_CLOCK = frozenset({"latency", "throughput"})
_CONTINUED_AT_ONCE = 8
"""Prompts that `aifw.evaluation.runs.side` continues together."""
_HARNESS_ITEMS, _HARNESS_REQUESTS, _HARNESS_TOKENS = 1000, 4, 128
"""Of a task whose size nobody knows before it is loaded: items, texts that are scored for each, and tokens of one. Assumed."""

_METRICS_BYTES = 88e6
"""What sacrebleu and rouge-score load; most of it is nltk's. Measured."""

_READING_BYTES = 32 * 1024**2
_READING_BYTES_OF_ROW = 4_000
_SECONDS_TO_READ = 1.0
_SECONDS_OF_ROW = 2e-4
"""Rows that are read, checked and drawn from again and again."""


def evaluation_forecast(settings: EvaluateSettings, inputs: Mapping[str, InputFacts], machine: Machine) -> Forecast:
    """What `evaluate` will need at the place a machine is seen from."""
    model: Mapping[str, Any] = inputs["subject"].facts if "subject" in inputs else {}
    if "suite" in model:
        rows = _at_most(float(model["rows"]), settings.max_items) if "rows" in model else None
        return reading_forecast(rows, "evaluation", "items")
    data: Mapping[str, Any] = inputs["data"].facts if "data" in inputs else {}
    shape, device = Shape.of(model), machine.devices[0]
    suites = settings.of_a_model()
    items = _at_most(float(data.get("rows", _UNKNOWN_ROWS)), settings.max_items) if settings.data is not None else 0.0
    sides = 1 if settings.baseline is None else 2
    prompt = tokens_of(data, "chars_prompt", settings.max_prompt_tokens, 60) + TEMPLATE_TOKENS
    named = ("chars_answer",) * 2 if "chars_answer" in data else ("chars_chosen", "chars_rejected")
    answers = sum(tokens_of(data, name, settings.max_completion_tokens, 80) for name in named)
    precision = expected_precision(settings.precision, device, machine)
    work, told = _work(settings, suites, shape, items, prompt, answers / 2, sides, bytes_each(precision))
    parts = _memory(settings, suites, shape, data, model, prompt, answers, precision, device)
    seconds, measured = seconds_for(work, machine, precision)
    known = shape.certain and "rows" in data and "chars_longest" in data
    speed = "measured speed of this device" if measured else "a default speed of this device"
    middle = _SECONDS_TO_START + seconds
    spread = 2.0 if "lm_eval" in suites else 1.0
    return Forecast(
        memory=estimated(parts, certain=known),
        seconds=Estimate(
            middle / (2.5 if measured else 4) / spread, middle, middle * (1.5 if measured else 2) * spread
        ),
        basis=f"{told} under {'two models' if sides == 2 else 'one model'}, {speed}"
        + ("" if known else "; model or data not known yet, so sizes are assumed"),
        work=work.operations,
        facts={"evaluation": {"items": round(items)}},
        parts=parts,
        startup=_SECONDS_TO_START,
    )


def _work(
    settings: EvaluateSettings,
    suites: tuple[str, ...],
    shape: Shape,
    items: float,
    prompt: float,
    answer: float,
    sides: int,
    size: int,
) -> tuple[Work, str]:
    """Work of all suites, and what it is in words."""
    work, told = Work(), []

    def continued(count: float, at_once: int, new: float) -> Work:
        return generation_work(shape, at_once, prompt, new).times(count / at_once)

    if "preference" in suites:
        work += scoring_work(shape, items, prompt, answer, bytes_each=size)
        told.append(f"{items:,.0f} pairs")
    elif "language_model" in suites:
        work += scoring_work(shape, items, prompt, answer, bytes_each=size).times(0.5)
        told.append(f"{items:,.0f} answers")
    asked = 0.0
    if "language_model" in suites and settings.language_model.generate:
        count = _at_most(items, settings.language_model.max_items)
        work += continued(count, _CONTINUED_AT_ONCE, settings.language_model.max_tokens)
        asked += count
    if "generation" in suites:
        count, new = _at_most(items, settings.generation.prompts), settings.generation.max_tokens
        # Sampled, looked at by the model itself, and by the baseline.
        work += continued(count, _CONTINUED_AT_ONCE, new)
        work += scoring_work(shape, count, prompt, new, bytes_each=size)
        asked += count
    if _TIMED & set(suites):
        # In turn with the baseline for what depends on the clock, alone for the rest.
        passes = 1 if sides == 1 else bool(_CLOCK & set(suites)) + bool(_TIMED - _CLOCK & set(suites))
        count = passes * (settings.timing.warm_up + (settings.timing.requests or items))
        work += continued(count, 1, settings.timing.max_tokens)
        asked += count
    if asked:
        told.append(f"{asked:,.0f} prompts answered")
    if settings.harness is not None:
        texts = len(settings.harness.tasks) * (settings.harness.limit or _HARNESS_ITEMS) * _HARNESS_REQUESTS
        work += scoring_work(shape, texts / 2, _HARNESS_TOKENS, 16, bytes_each=size)
        told.append(f"{texts:,.0f} texts of tasks whose size is assumed")
    return work.times(sides), " and ".join(told) or "no item"


def _memory(
    settings: EvaluateSettings,
    suites: tuple[str, ...],
    shape: Shape,
    data: Mapping[str, Any],
    model: Mapping[str, Any],
    prompt: float,
    answers: float,
    precision: str,
    device: str,
) -> Mapping[str, float]:
    """Parts of the moment that needs most."""
    whole = 2 * (prompt + answers / 2)
    if "chars_longest" in data:
        most = settings.max_prompt_tokens + settings.max_completion_tokens
        whole = tokens_of(data, "chars_longest", most, 0) + TEMPLATE_TOKENS
    longest_prompt = min(settings.max_prompt_tokens, whole * prompt / (prompt + answers / 2))
    longest_answer = min(settings.max_completion_tokens, max(1.0, whole - longest_prompt))
    mapped = is_mapped(shape, device, precision)
    moments = [scoring(shape, longest_prompt, longest_answer, mapped=mapped, bytes_each=bytes_each(precision))]
    if "generation" in suites or ("language_model" in suites and settings.language_model.generate):
        new = max(settings.generation.max_tokens, settings.language_model.max_tokens)
        moments.append(generation(shape, _CONTINUED_AT_ONCE, longest_prompt, new, mapped=mapped))
    if "share_of_fp32" in model:
        weight_bytes = 1 if str(model.get("precision")).startswith("int") else 4
        moments.append(openvino_scoring(shape, longest_prompt, longest_answer, weight_bytes=weight_bytes))
    if settings.baseline is not None and _CLOCK & set(suites):
        new = settings.timing.max_tokens
        both = generation(shape, 1, longest_prompt, new, mapped=mapped)
        moments.append({**both, "weights": 2 * both["weights"], "cache": 2 * both["cache"]})
    largest = max(moments, key=lambda each: sum(each.values()))
    if "language_model" in suites and settings.language_model.generate:
        largest = {**largest, "metrics": _METRICS_BYTES}
    return largest


def reading_forecast(
    rows: float | None, output: str, count: str, *, facts: Mapping[str, Any] | None = None
) -> Forecast:
    """What reading rows and computing with them needs.

    Args:
        rows: How many, or None if that is not known.
        output: Name of what is made of them.
        count: The fact that says how many there are.
        facts: What else is known of it.
    """
    expected = float(_UNKNOWN_ROWS) if rows is None else rows
    return Forecast(
        memory=Estimate.around(_READING_BYTES + _READING_BYTES_OF_ROW * expected, 0.4),
        seconds=Estimate.around(_SECONDS_TO_READ + _SECONDS_OF_ROW * expected, 1.0),
        basis="the number of rows is not known yet" if rows is None else f"{expected:,.0f} rows",
        work=expected,
        startup=_SECONDS_TO_READ,
        facts={output: {**(facts or {}), count: round(expected)}},
    )


def _at_most(count: float, most: int | None) -> float:
    return count if most is None else min(count, most)
