"""What aifw forecasts for a run of `forecast_grid.py`, and how many operations it needs."""

from __future__ import annotations

from functools import cache

from forecast_grid import MODELS, Run

from aifw.models.memory import Batch, is_mapped
from aifw.models.memory_inference import embedding, generation, openvino, openvino_conversion, scoring
from aifw.models.memory_training import Training, merging, training
from aifw.models.size import Shape

TRAINING = ("dpo", "trl_dpo", "trl_sft", "sft")
STEPS = 3
SCORED_PAIRS = 24


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
    mapped = is_mapped(shape, "cpu")
    length = run.prompt + run.answer
    if run.task in TRAINING:
        pairs = run.task in {"dpo", "trl_dpo"}
        how = Training(
            Batch(run.batch * (2 if pairs else 1), length, padded=run.varied, attention=run.attention),
            rank=run.rank,
            accumulates=run.accumulate > 1,
            checkpointing=run.checkpointing,
            head="whole" if run.task == "sft" else "tiled",
            reference=run.rank is None and not run.stored_reference,
        )
        moments = [training(shape, how, mapped=mapped)]
        if run.task == "dpo":
            moments.append(scoring(shape, run.prompt, run.answer, mapped=mapped, worker="training"))
            moments.append(merging(shape, mapped=mapped))
        return max(moments, key=lambda parts: sum(parts.values()))
    if run.task == "score":
        return scoring(shape, run.prompt, run.answer, mapped=mapped, shared=False)
    if run.task == "generate":
        return generation(shape, run.batch, run.prompt, run.answer, mapped=mapped)
    if run.task == "embed":
        return embedding(shape, Batch(run.batch, run.prompt, padded=False, attention=run.attention), mapped=mapped)
    if run.task == "openvino_convert":
        return openvino_conversion(shape, mapped=mapped, compressed=run.weights == "int8")
    return openvino(shape, Batch(run.batch, run.prompt), weight_bytes=1 if run.weights == "int8" else 4)


def operations(run: Run) -> float:
    """Multiplications and additions of what a run's seconds are taken of: an optimiser step, one call, or the whole work."""
    shape = shape_of(run.model)
    length = run.prompt + run.answer
    attention = 4 * shape.layers * shape.queries * length
    if run.task in TRAINING:
        pairs = run.task in {"dpo", "trl_dpo"}
        tokens = run.batch * run.accumulate * length * (2 if pairs else 1)
        passes = (2 if run.rank is not None else 3) + run.checkpointing + (not run.stored_reference)
        output = 2 + (run.task != "sft") + (run.rank is None) + (not run.stored_reference)
        return tokens * (2 * passes * shape.linear + passes * attention + 2 * output * shape.embedding)
    if run.task == "openvino_convert":
        return shape.parameters
    tokens, answered = run.batch * length, run.batch * (run.answer + 1)
    if run.task == "score":
        tokens, answered = 2 * SCORED_PAIRS * length, 2 * SCORED_PAIRS * run.answer
    elif run.task == "embed":
        answered = 0
    elif run.task == "openvino_infer":
        answered = tokens
    return tokens * (2 * shape.linear + attention) + 2 * answered * shape.embedding
