"""What aifw forecasts for a run of `forecast_grid.py`: memory, and time after one other run of its task."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import Literal

from forecast_grid import MODELS, Run

from aifw.hardware.allocator import find_jemalloc
from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.kind import Estimate, Forecast, History, Past
from aifw.models.memory import Batch, bytes_each, is_mapped
from aifw.models.memory_inference import embedding, generation, openvino, openvino_conversion, scoring
from aifw.models.memory_training import Training, merging, on_pairs, training
from aifw.models.size import Shape
from aifw.models.speed import seconds_for
from aifw.models.work import (
    Work,
    embedding_work,
    generation_work,
    micro_step,
    openvino_conversion_work,
    openvino_work,
    optimizer_step,
    scoring_work,
)
from aifw.plan.forecast import corrected

TRAINING = ("dpo", "trl_dpo", "trl_sft", "sft")
STEPS = 3
SCORED_PAIRS = 24
MACHINE = Machine("nobody has measured it", Cpu("unknown", 1), Memory(0, 0), reuses_memory=find_jemalloc() is not None)
JOB = 1000
"""Steps, calls or conversions of the job whose time is forecast, so that starting it does not matter."""
_MEAN_LENGTH = 13 / 16
"""Of the longest: of varied lengths one in four is the longest, the others lie between half of that and all of it."""


@cache
def shape_of(name: str) -> Shape:
    """Shape of a model of the grid, from the facts its configuration gives."""
    model = MODELS[name]
    facts = {
        "layers": model.layers,
        "hidden": model.hidden,
        "intermediate": model.intermediate,
        "heads": model.heads,
        "kv_heads": model.kv_heads,
        "vocabulary": model.vocabulary,
        "dtype": model.stored,
        "architecture": model.architecture,
    }
    bare = Shape.of({**facts, "parameters": 0})
    norms = model.hidden * (2 * model.layers + 1)
    count = bare.linear + bare.embedding * (1 if model.tied else 2) + norms
    return Shape.of({**facts, "parameters": count})


def parts_of(run: Run) -> dict[str, float]:
    """Parts of the memory, in bytes."""
    shape = shape_of(run.model)
    mapped = is_mapped(shape, "cpu", run.precision)
    if run.task in TRAINING:
        worker: Literal["training", "adapting"] = "adapting" if run.task == "dpo" else "training"
        moments = [training(shape, _training(run), mapped=mapped, worker=worker)]
        if run.task == "dpo":
            assert run.rank is not None
            moments.append(merging(shape, run.rank, mapped=is_mapped(shape, "cpu"), worker=worker))
        return max(moments, key=lambda parts: sum(parts.values()))
    if run.task == "score":
        return scoring(shape, run.prompt, run.answer, mapped=mapped, shared=False, varied=run.varied)
    if run.task == "generate":
        return generation(shape, run.batch, run.prompt, run.answer, mapped=mapped)
    if run.task == "embed":
        return embedding(shape, Batch(run.batch, run.prompt, padded=False, attention=run.attention), mapped=mapped)
    if run.task == "openvino_convert":
        return openvino_conversion(shape, mapped=mapped, compressed=run.weights == "int8", example=2 * run.prompt)
    return openvino(shape, Batch(run.batch, run.prompt), weight_bytes=1 if run.weights == "int8" else 4)


def _training(run: Run) -> Training:
    width = bytes_each(run.precision)
    if run.task == "dpo":
        assert run.rank is not None
        return on_pairs(
            run.batch, run.prompt, run.answer, rank=run.rank, accumulates=run.accumulate > 1, bytes_each=width
        )
    rows = run.batch * (2 if run.task == "trl_dpo" else 1)
    return Training(
        Batch(rows, run.prompt + run.answer, run.varied, run.attention, width),
        rank=run.rank,
        accumulates=run.accumulate > 1,
        checkpointing=run.checkpointing,
        head="whole" if run.task == "sft" else "tiled",
        reference=run.rank is None and not run.stored_reference,
    )


def work_of(run: Run) -> Work:
    """What a run's seconds are taken of: an optimiser step, one call, or the whole work."""
    shape = shape_of(run.model)
    if run.task in TRAINING:
        how = _training(run)
        step = micro_step(shape, how, computes_reference=not run.stored_reference).times(run.accumulate)
        return step + optimizer_step(shape, how)
    if run.task == "score":
        share = _MEAN_LENGTH if run.varied else 1.0
        return scoring_work(shape, SCORED_PAIRS, share * run.prompt, share * run.answer)
    if run.task == "generate":
        return generation_work(shape, run.batch, run.prompt, run.answer)
    if run.task == "embed":
        return embedding_work(shape, Batch(run.batch, run.prompt, padded=False, attention=run.attention))
    if run.task == "openvino_convert":
        return openvino_conversion_work(shape, compressed=run.weights == "int8")
    width = 1 if run.weights == "int8" else 4
    return openvino_work(shape, Batch(run.batch, run.prompt), weight_bytes=width, requests=STEPS).times(1 / STEPS)


def seconds_of(run: Run) -> float:
    """Seconds that the product's own function expects of one core nobody has measured."""
    precision = "int8" if run.task == "openvino_infer" and run.weights == "int8" else run.precision
    return seconds_for(work_of(run), MACHINE, precision, reuses_memory=run.task in TRAINING)[0]


def calibrated_seconds(run: Run, measured: float, by: Run) -> float:
    """Seconds of a run as the product forecasts them after one of another run of its task.

    Args:
        run: To forecast.
        measured: Seconds that the earlier run took.
        by: The earlier run.
    """

    def stated(each: Run) -> float:
        return JOB * seconds_of(each)

    nothing = Estimate.exact(0.0)
    forecast = Forecast(nothing, Estimate.around(stated(run), 0.8), work=work_of(run).operations)
    past = Past(0.0, JOB * measured, work_of(by).operations, settings=asdict(by), expected_seconds=stated(by))
    return corrected(forecast, History((past,)), "cpu", asdict(run)).seconds.mid / JOB
