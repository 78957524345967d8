"""The same model in shapes that are all known, for devices that take no others: one graph reads prompts, one writes answers.

A prompt is filled up to the smallest length there is that holds it, and keys and values are kept in room for a fixed number of
positions. What is filled up is masked, so the tokens are those of the graph whose shapes are free.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifw.errors import InputInvalid
from aifw.hardware.libraries.backend import Backend
from aifw.models.load import load_tokenizer
from aifw.models.openvino_model import Compile, compiled, configuration, context_of, read_graph, want_positions

if TYPE_CHECKING:
    from numpy.typing import NDArray


class StaticDecoder:
    """A `Decoder` on graphs of static shapes.

    Args:
        folder: Of an `OpenvinoModel`.
        backend: Where and how to compute.
        prompts: Lengths prompts are filled up to.
        positions: Keys and values that are kept.
        compile_graph: Default: OpenVINO's own.

    Raises:
        InputInvalid: The folder holds no model that can be read.
        JobError: The device does not take one of the graphs.
    """

    def __init__(
        self,
        folder: Path,
        backend: Backend,
        prompts: Sequence[int],
        positions: int,
        compile_graph: Compile | None = None,
    ) -> None:
        import numpy as np
        import openvino

        self.tokenizer = load_tokenizer(folder)
        self.context = min(positions, context_of(configuration(folder)))
        self.prompts = sorted(set(prompts))
        self._positions = positions
        self._held = 0
        self._reading = {
            length: compiled(prompt_graph(folder, length), backend, compile_graph).create_infer_request()
            for length in self.prompts
        }
        graph = answer_graph(folder, positions)
        kept = [port for port in graph.inputs if port.any_name.startswith("past_key_values.")]
        self._writing = compiled(graph, backend, compile_graph).create_infer_request()
        self._kept: dict[str, NDArray[Any]] = {}
        for port in kept:
            room = np.zeros(tuple(port.shape), dtype=np.float32)
            self._kept[port.any_name.removeprefix("past_key_values.")] = room
            self._writing.set_tensor(port.any_name, openvino.Tensor(room, shared_memory=True))

    def forget(self) -> None:
        """Begin a new text. What is kept of the last one is not looked at."""
        self._held = 0

    def read(self, tokens: Sequence[int]) -> NDArray[Any]:
        """Go on with a text by at least one token; gives the logits of the token after it, fp32.

        Raises:
            InputInvalid: The text is longer than the lengths this was made for.
        """
        if self._held + len(tokens) > self._positions:
            raise InputInvalid(
                f"there is room for {self._positions:,} positions, and the text has {self._held + len(tokens):,}",
                hint="raise `static.positions`",
            )
        if self._held == 0:
            return self._read_prompt(tokens)
        for token in tokens:
            found = self._read_one(token)
        return found

    def _read_prompt(self, tokens: Sequence[int]) -> NDArray[Any]:
        import numpy as np

        count = len(tokens)
        length = next((each for each in self.prompts if each >= count), None)
        if length is None:
            raise InputInvalid(
                f"the prompt has {count:,} tokens, and the longest it may have here is {self.prompts[-1]:,}",
                hint="add a length to `static.prompts`",
            )
        filled = length - count
        request = self._reading[length]
        request.infer(
            {
                "input_ids": np.array([[*tokens, *[self.tokenizer.pad_token_id] * filled]], dtype=np.int64),
                "attention_mask": np.array([[1] * count + [0] * filled], dtype=np.int64),
                "position_ids": np.arange(length)[None],
                "wanted": np.array([count - 1], dtype=np.int64),
            }
        )
        for part, room in self._kept.items():
            room[:, :, :count] = request.get_tensor(f"present.{part}").data[:, :, :count]
        self._held = count
        return np.array(request.get_tensor("logits").data[0, 0], dtype=np.float32)

    def _read_one(self, token: int) -> NDArray[Any]:
        import numpy as np

        mask = np.zeros((1, self._positions + 1), dtype=np.int64)
        mask[:, : self._held], mask[:, -1] = 1, 1
        request = self._writing
        request.infer(
            {
                "input_ids": np.array([[token]], dtype=np.int64),
                "attention_mask": mask,
                "position_ids": np.array([[self._held]], dtype=np.int64),
                "wanted": np.zeros(1, dtype=np.int64),
            }
        )
        for part, room in self._kept.items():
            room[:, :, self._held] = request.get_tensor(f"present.{part}").data[:, :, 0]
        self._held += 1
        return np.array(request.get_tensor("logits").data[0, 0], dtype=np.float32)


def prompt_graph(folder: Path, length: int) -> Any:
    """Reads a prompt of a length: logits at one position of it, and keys and values of all."""
    import numpy as np
    from openvino import opset13 as ops

    graph = _stateless(folder)
    for port in [port for port in graph.inputs if port.any_name.startswith("past_key_values.")]:
        # No device need take an input of no size: there is nothing before, so nothing is joined to what is new.
        shape = [1, *(port.partial_shape[axis].get_length() for axis in (1,)), 0, port.partial_shape[3].get_length()]
        for reader in list(port.get_target_inputs()):
            node = reader.get_node()
            if node.get_type_name() == "Concat":
                node.output(0).replace(node.input_value(1))
            else:
                node.output(0).replace(
                    ops.constant(np.array(shape, dtype=node.get_element_type().to_dtype())).output(0)
                )
        graph.remove_parameter(port.get_node())
    graph.reshape({"input_ids": [1, length], "attention_mask": [1, length], "position_ids": [1, length], "wanted": [1]})
    return graph


def answer_graph(folder: Path, positions: int) -> Any:
    """Writes one token after up to `positions` others: logits, and keys and values of that token."""
    graph = _stateless(folder)
    shapes: dict[str, list[int]] = {
        "input_ids": [1, 1],
        "attention_mask": [1, positions + 1],
        "position_ids": [1, 1],
        "wanted": [1],
    }
    for port in graph.inputs:
        if port.any_name.startswith("past_key_values."):
            heads, width = (port.partial_shape[axis].get_length() for axis in (1, 3))
            shapes[port.any_name] = [1, heads, positions, width]
    graph.reshape(shapes)
    return graph


def _stateless(folder: Path) -> Any:
    """The graph with keys and values as inputs, and those of the new positions alone as outputs."""
    from openvino._offline_transformations import stateful_to_stateless_transformation

    graph = read_graph(folder)
    stateful_to_stateless_transformation(graph)
    for port in graph.outputs:
        if port.any_name.startswith("present."):
            joined = port.get_node().input_value(0).get_node()
            assert joined.get_type_name() == "Concat", "keys and values are joined to earlier ones"
            name = port.any_name
            port.get_node().input(0).replace_source_output(joined.input_value(1))
            port.get_tensor().set_names({name})
    want_positions(graph)
    return graph
