"""A language model of OpenVINO at work: logits of what is asked for, with keys and values kept from request to request.

How it computes stands in the graph (`runtime_options`), so that whoever loads it, OpenVINO GenAI included, computes what was validated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifw.errors import InputInvalid, JobError
from aifw.hardware.libraries.backend import Backend
from aifw.hardware.libraries.openvino_core import shared_core
from aifw.models.kinds import OPENVINO_GRAPH
from aifw.models.load import load_tokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

Compile = Callable[[Any, str, dict[str, str]], Any]
"""Compiles a graph for a target with a configuration."""


def is_openvino(folder: Path) -> bool:
    """Whether a folder holds an `OpenvinoModel`."""
    return (folder / OPENVINO_GRAPH).is_file()


@dataclass(frozen=True, slots=True)
class OpenvinoLanguageModel:
    """A compiled model and its tokenizer. What `LanguageModel` is for torch; `read` and `forget` make it a `Decoder`.

    Attributes:
        request: An infer request; only this object uses it.
        tokenizer: Of transformers.
        device: Where it computes.
        precision: The format of its arithmetic.
        context: Most positions it was made for.
        vocabulary: Number of logits.
        held: The tokens whose keys and values are kept.
    """

    request: Any
    tokenizer: Any
    device: str
    precision: str
    context: int
    vocabulary: int
    held: list[int]

    def forget(self) -> None:
        """Begin a new text."""
        self.request.reset_state()
        self.held.clear()

    def read(self, tokens: Sequence[int]) -> NDArray[Any]:
        """Go on with a text.

        Args:
            tokens: What comes next in it, at least one.

        Returns:
            Logits of the token after it, fp32.
        """
        self.held.extend(tokens)
        found: NDArray[Any] = self._ask([list(tokens)], len(self.held) - len(tokens), [len(tokens) - 1])[0, 0]
        return found

    def logits(self, rows: Sequence[Sequence[int]], start: int) -> NDArray[Any]:
        """Logits of whole texts, begun anew.

        Args:
            rows: Token ids; shorter rows are filled up behind, where nothing before looks.
            start: The first position wanted.

        Returns:
            Rows x positions from `start` x vocabulary, fp32.
        """
        self.forget()
        longest = max(map(len, rows))
        padding = self.tokenizer.pad_token_id
        filled = [[*row, *[padding] * (longest - len(row))] for row in rows]
        found = self._ask(filled, 0, range(start, longest))
        self.forget()
        return found

    def score_rows(self, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[float]:
        """Sum of log-probabilities of each answer given its prompt, computed as one batch.

        Args:
            rows: Prompt and answer as token ids; neither may be empty.
        """
        import numpy as np

        start = min(len(prompt) for prompt, _ in rows) - 1
        logits = self.logits([[*prompt, *answer] for prompt, answer in rows], start)
        sums = []
        for each, (prompt, answer) in zip(logits, rows, strict=True):
            first = len(prompt) - 1 - start
            part = each[first : first + len(answer)].astype(np.float64)
            part -= part.max(-1, keepdims=True)
            scores = np.take_along_axis(part, np.asarray(answer)[:, None], -1)[:, 0] - np.log(np.exp(part).sum(-1))
            sums.append(float(scores.sum()))
        return sums

    def _ask(self, rows: list[list[int]], before: int, wanted: Sequence[int]) -> NDArray[Any]:
        import numpy as np

        ids = np.array(rows, dtype=np.int64)
        count, new = ids.shape
        inputs = {
            "input_ids": ids,
            "attention_mask": np.ones((count, before + new), dtype=np.int64),
            "position_ids": np.arange(before, before + new)[None].repeat(count, 0),
            "beam_idx": np.arange(count, dtype=np.int32),
            "wanted": np.array(wanted, dtype=np.int64),
        }
        # A copy, since the request writes its next answer over this one.
        return np.array(self.request.infer(inputs)["logits"], dtype=np.float32)


def load_openvino(folder: Path, backend: Backend, compile_graph: Compile | None = None) -> OpenvinoLanguageModel:
    """Load an `OpenvinoModel` for a device that takes any shapes.

    Args:
        folder: Where it is.
        backend: From `aifw.hardware.libraries.backend.backend_for(..., library="openvino")`.
        compile_graph: Default: OpenVINO's own.

    Raises:
        InputInvalid: The folder holds no such model that can be read.
        JobError: The device does not take it.
    """
    graph = read_graph(folder)
    want_positions(graph)
    request = compiled(graph, backend, compile_graph).create_infer_request()
    described = configuration(folder)
    return OpenvinoLanguageModel(
        request,
        load_tokenizer(folder),
        backend.device,
        backend.precision,
        context_of(described),
        int(graph.output("logits").partial_shape[2].get_length()),
        [],
    )


def read_graph(folder: Path) -> Any:
    """The graph of an `OpenvinoModel`, as it is on disk.

    Raises:
        InputInvalid: It cannot be read.
    """
    try:
        return shared_core().read_model(folder / OPENVINO_GRAPH)
    except RuntimeError as error:
        raise InputInvalid(f"{folder / OPENVINO_GRAPH} cannot be read: {first_line(error)}") from error


def compiled(graph: Any, backend: Backend, compile_graph: Compile | None = None) -> Any:
    """A graph compiled for a device.

    Raises:
        JobError: The device does not take it.
    """
    try:
        return (compile_graph or shared_core().compile_model)(graph, backend.target, dict(backend.config))
    except RuntimeError as error:
        raise JobError(f"the model cannot be compiled for {backend.device}: {first_line(error)}") from error


def want_positions(graph: Any) -> None:
    """Have a graph compute logits of those new positions only that the input `wanted` names; all of them would take gigabytes."""
    import openvino
    from openvino import opset13 as ops

    node = graph.output("logits").get_node().input_value(0).get_node()
    while node.get_type_name() != "MatMul":
        node = node.input_value(0).get_node()
    wanted = ops.parameter([-1], openvino.Type.i64, name="wanted")
    wanted.output(0).get_tensor().set_names({"wanted"})
    chosen = ops.gather(node.input_value(0), wanted, ops.constant(1, openvino.Type.i64))
    node.input(0).replace_source_output(chosen.output(0))
    graph.add_parameters([wanted])
    graph.validate_nodes_and_infer_types()


def configuration(folder: Path) -> dict[str, Any]:
    """`config.json` of a model.

    Raises:
        InputInvalid: It cannot be read.
    """
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputInvalid(f"{folder / 'config.json'} cannot be read: {error}") from error
    assert isinstance(found, dict)
    return found


def context_of(described: dict[str, Any]) -> int:
    """Most positions a model was made for, by its configuration."""
    return int(described.get("max_position_embeddings") or described.get("n_positions") or 2**31)


def first_line(error: BaseException) -> str:
    """What a library says is wrong, without where in its sources."""
    lines = [line.strip() for line in f"{error}".splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (telling or lines or [type(error).__name__])[-1]


def in_fp32(backend: Backend) -> Backend:
    """The same device, computing nothing in fewer bits than fp32: no keys and values in INT8, no activations rounded on the way."""
    exact = {"KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    return replace(backend, config={**backend.config, **exact})
