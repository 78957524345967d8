"""From a causal language model of torch to a graph of OpenVINO that keeps its own keys and values.

The model is traced with the keys and values of earlier positions as inputs and those of all positions as outputs; each such pair
then becomes a variable of the graph. What remains are the inputs and the output that OpenVINO GenAI expects of a language model:

| name | shape | what it is |
|---|---|---|
| `input_ids` | rows x new | the tokens that are new |
| `attention_mask` | rows x all | 1 for every position that counts, earlier ones included |
| `position_ids` | rows x new | their positions |
| `beam_idx` | rows | which row of the variables each row goes on from |
| `logits` | rows x new x vocabulary | of the token after each |
"""

from __future__ import annotations

import re
import sys
import warnings
from collections import Counter
from typing import Any

from aifw.errors import DependencyMissing, InputInvalid, JobError
from aifw.hardware.libraries.backend import backend_for
from aifw.models.load import LanguageModel
from aifw.models.openvino_model import compiled, in_fp32

_LEAST = -65504.0
"""What is added to scores of positions that are not looked at: the least number of fp16. Infinity would make rows that look at nothing,
as padding before a text does, no numbers, and with them every row that is multiplied by them."""
_EXAMPLE = (2, 3, 5)
"""Rows, new and earlier positions of the input a model is traced with. All differ, so that no size is taken for another."""
_NUMBER = re.compile(r"(_\d+)+(?=$|[/.])")
"""What OpenVINO adds to the name of a node."""
_MOST_DIFFERENCE = 2e-3
"""Between logits of the graph and of torch, in shares of their range. Both compute in fp32."""


def import_openvino() -> Any:
    """OpenVINO, without the part of it that reports its use to the network.

    Raises:
        DependencyMissing: It is not installed.
    """
    # OpenVINO and NNCF both go on without this module where importing it fails.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except (ImportError, OSError) as error:
        raise DependencyMissing(f"OpenVINO cannot be used: {error}", hint="pip install 'aifw[openvino]'") from error
    return openvino


def convert(model: LanguageModel, name: str) -> Any:
    """The graph of a model, with its weights in fp32.

    Args:
        model: In fp32, on the processor.
        name: What to call it in an error.

    Returns:
        An `openvino.Model` that shares its weights with the module.

    Raises:
        InputInvalid: The model keeps something else than keys and values of all positions, or cannot be traced.
    """
    import torch

    openvino = import_openvino()
    module = model.module
    shapes = _cache_shapes(module, name)
    rows, new, earlier = _EXAMPLE
    example = {
        "input_ids": torch.ones(rows, new, dtype=torch.long),
        "attention_mask": torch.ones(rows, earlier + new, dtype=torch.long),
        "position_ids": torch.arange(earlier, earlier + new).repeat(rows, 1),
        "earlier": [torch.zeros(rows, heads, earlier, width) for heads, width in shapes],
    }
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            # Of sizes that are constant in the trace; the comparison with torch below would show one that must not be.
            warnings.simplefilter("ignore")
            graph = openvino.convert_model(_step(module), example_input=example)
    except Exception as error:  # Tracing runs the code of the model, which raises what it likes.
        raise InputInvalid(f"{name} cannot be traced for OpenVINO: {_first_line(error)}") from error
    _name_and_free(graph, shapes)
    _keep_inside(graph, len(shapes))
    return graph


def check(graph: Any, model: LanguageModel, name: str, threads: int = 1) -> float:
    """Compare a graph with the model it was made of: a prompt in two parts, and rows of different lengths.

    Returns:
        The largest difference of logits, in shares of their range.

    Raises:
        JobError: They differ by more than arithmetic explains.
    """
    import numpy as np
    import torch

    backend = in_fp32(backend_for("cpu", "fp32", library="openvino", threads=threads))
    request = compiled(graph, backend).create_infer_request()
    generator = torch.Generator().manual_seed(0)
    size = int(model.module.config.get_text_config().vocab_size)
    ids = torch.randint(0, size, (2, 12), generator=generator)
    with torch.inference_mode():
        wanted = model.module(input_ids=ids, use_cache=False).logits.float().numpy()
    # The second row begins three positions late.
    late, mask = 3, np.ones((2, 12), dtype=np.int64)
    padded = ids.numpy().copy()
    padded[1, late:], padded[1, :late], mask[1, :late] = ids[1, :-late].numpy(), 0, 0
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    found = []
    for part in (slice(0, 7), slice(7, 12)):
        result = request.infer(
            {
                "input_ids": padded[:, part],
                "attention_mask": mask[:, : part.stop],
                "position_ids": positions[:, part],
                "beam_idx": np.arange(2, dtype=np.int32),
            }
        )
        found.append(np.array(result["logits"]))
    logits = np.concatenate(found, axis=1)
    span = float(wanted.max() - wanted.min()) or 1.0
    differences = (logits[0] - wanted[0], logits[1, late:] - wanted[1, :-late])
    worst = max(float(np.abs(each).max()) for each in differences) / span
    if not worst <= _MOST_DIFFERENCE:
        raise JobError(
            f"the graph made of {name} does not compute what the model does: logits differ by {worst:.2%} of their range",
            hint="this architecture is not supported; nothing was written",
        )
    return worst


def number_names(graph: Any, name: str) -> None:
    """Name a graph, and number what has no name by its order there. OpenVINO numbers it by how many nodes the process has made so far."""
    seen: Counter[str] = Counter()
    graph.set_friendly_name(name)
    for node in graph.get_ordered_ops():
        kind, stem = node.get_type_name(), _NUMBER.sub("", node.get_friendly_name())
        if kind == "Parameter" and stem == node.get_friendly_name():
            continue
        seen[stem] += 1
        node.set_friendly_name(f"{stem}_{seen[stem]}")
        for port in node.outputs():
            names = port.get_tensor().get_names()
            given = {each for each in names if not _NUMBER.search(each)}
            if names != given:
                port.get_tensor().set_names(given or ({node.get_friendly_name()} if kind == "Parameter" else set()))


def _cache_shapes(module: Any, name: str) -> list[tuple[int, int]]:
    """Heads and width of the keys and of the values of every block, in turn."""
    import torch
    from transformers.cache_utils import DynamicCache, DynamicLayer

    config = module.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if kinds or getattr(config, "is_encoder_decoder", False):
        what = ", ".join(sorted(kinds)).replace("_", " ") or "an encoder"
        raise InputInvalid(
            f"{name} ({config.model_type}) has {what}; only decoders that look at all earlier positions are exported"
        )
    with torch.inference_mode():
        kept = module(input_ids=torch.ones(1, 2, dtype=torch.long), use_cache=True).past_key_values
    if not isinstance(kept, DynamicCache) or not all(type(layer) is DynamicLayer for layer in kept.layers):
        raise InputInvalid(f"{name} ({config.model_type}) keeps something else between tokens than keys and values")
    return [(int(each.shape[1]), int(each.shape[3])) for layer in kept.layers for each in (layer.keys, layer.values)]


def _step(module: Any) -> Any:
    """A module that goes on from keys and values it is given, and gives back those of all positions."""
    import torch
    from transformers.cache_utils import DynamicCache, DynamicLayer

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(
            self,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor,
            position_ids: torch.Tensor,
            earlier: list[torch.Tensor],
        ) -> tuple[torch.Tensor, ...]:
            cache = DynamicCache()
            for keys, values in zip(earlier[::2], earlier[1::2], strict=True):
                layer = DynamicLayer()
                layer.lazy_initialization(keys, values)
                layer.keys, layer.values = keys, values
                cache.layers.append(layer)
            output = self.module(
                input_ids=input_ids,
                attention_mask=_mask(attention_mask, input_ids.shape[1], earlier[0].shape[2]),
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=True,
            )
            kept = [each for layer in output.past_key_values.layers for each in (layer.keys, layer.values)]
            return (output.logits, *kept)

    return Step().eval()


def _mask(attention_mask: Any, new: Any, earlier: Any) -> Any:
    """What is added to scores, rows x 1 x new x all. Made here, since what transformers makes depends on the example's sizes."""
    import torch

    positions = torch.arange(earlier + new)
    seen = positions[None, :] <= positions[earlier:, None]
    counts = seen[None, None] & attention_mask.to(torch.bool)[:, None, None, :]
    return torch.where(counts, torch.tensor(0.0), torch.tensor(_LEAST))


def _name_and_free(graph: Any, shapes: list[tuple[int, int]]) -> None:
    """Give inputs and outputs their names, and free what is not fixed by the model."""
    import openvino

    names = ["input_ids", "attention_mask", "position_ids"]
    free: list[list[int]] = [[-1, -1]] * 3
    outputs = ["logits"]
    for index, (heads, width) in enumerate(shapes):
        part = f"{index // 2}.{'value' if index % 2 else 'key'}"
        names.append(f"past_key_values.{part}")
        free.append([-1, heads, -1, width])
        outputs.append(f"present.{part}")
    if len(graph.inputs) != len(names) or len(graph.outputs) != len(outputs):
        raise JobError("the traced graph does not have the inputs and outputs of a decoder")
    for port, name in zip(graph.inputs, names, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
    for port, name in zip(graph.outputs, outputs, strict=True):
        port.get_tensor().set_names({name})
    graph.reshape({port: openvino.PartialShape(shape) for port, shape in zip(graph.inputs, free, strict=True)})
    graph.validate_nodes_and_infer_types()


def _keep_inside(graph: Any, count: int) -> None:
    """Make variables of keys and values; rows are taken in the order of `beam_idx`, and before the first request there is nothing."""
    import openvino
    from openvino import opset13 as ops
    from openvino._offline_transformations import apply_make_stateful_transformation

    order = ops.parameter([-1], openvino.Type.i32, name="beam_idx")
    order.output(0).get_tensor().set_names({"beam_idx"})
    axis = ops.constant(0, openvino.Type.i64)
    for port in graph.inputs[3 : 3 + count]:
        readers = list(port.get_target_inputs())
        chosen = ops.gather(port, order, axis)
        for reader in readers:
            reader.replace_source_output(chosen.output(0))
    graph.add_parameters([order])
    pairs = {
        kept.any_name: given.any_name
        for kept, given in zip(graph.inputs[3 : 3 + count], graph.outputs[1 : 1 + count], strict=True)
    }
    apply_make_stateful_transformation(graph, pairs)
    rows = ops.gather(
        ops.shape_of(graph.input("input_ids"), output_type="i64"), ops.constant([0], openvino.Type.i64), axis
    )
    nothing = ops.constant(0.0, openvino.Type.f32)
    for node in graph.get_ordered_ops():
        if node.get_type_name() == "ReadValue":
            # Without this a variable is empty in every direction at first, and no row can be taken from it.
            _, heads, _, width = (size.get_min_length() for size in node.get_output_partial_shape(0))
            sizes = [rows, *(ops.constant([size], openvino.Type.i64) for size in (heads, 0, width))]
            node.set_arguments([ops.broadcast(nothing, ops.concat(sizes, 0))])
    graph.validate_nodes_and_infer_types()


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in f"{error}".splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
