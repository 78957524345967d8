"""Static shapes give what free shapes give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aifw.errors import InputInvalid
from aifw.export import StaticDecoder
from aifw.export.static import answer_graph, prompt_graph
from aifw.hardware.libraries.backend import backend_for
from aifw.models.answer import next_tokens
from aifw.models.openvino_model import OpenvinoLanguageModel, in_fp32, load_openvino

PROMPTS, POSITIONS = (4, 12), 24


@pytest.fixture(scope="module", params=["fp32", "int8"])
def both(
    request: pytest.FixtureRequest, exported: Callable[[str], Path]
) -> tuple[StaticDecoder, OpenvinoLanguageModel]:
    folder, backend = exported(request.param), in_fp32(backend_for("cpu", "fp32", library="openvino"))
    return StaticDecoder(folder, backend, PROMPTS, POSITIONS), load_openvino(folder, backend)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 11, 12])
def test_prompts_of_every_length_and_what_follows(
    length: int, both: tuple[StaticDecoder, OpenvinoLanguageModel]
) -> None:
    static, free = both
    prompt = [(length * 37 + index * 11) % 259 for index in range(length)]
    for decoder in both:
        decoder.forget()
    assert static.read(prompt) == pytest.approx(free.read(prompt), abs=2e-4)
    for token in range(40, 40 + POSITIONS - length):
        assert static.read([token]) == pytest.approx(free.read([token]), abs=2e-4)
    assert list(next_tokens(static, prompt, 50)) == list(next_tokens(free, prompt, POSITIONS - length))


def test_the_next_text_sees_nothing_of_the_last(both: tuple[StaticDecoder, OpenvinoLanguageModel]) -> None:
    static, _ = both
    static.forget()
    fresh = static.read([1, 2, 3])
    static.forget()
    static.read(list(range(100, 112)))
    static.read([4])
    static.forget()
    assert np.array_equal(static.read([1, 2, 3]), fresh)


def test_a_text_that_goes_on_by_several_tokens(both: tuple[StaticDecoder, OpenvinoLanguageModel]) -> None:
    static, free = both
    for decoder in both:
        decoder.forget()
        decoder.read([1, 2, 3])
    assert static.read([7, 8, 9]) == pytest.approx(free.read([7, 8, 9]), abs=2e-4)


def test_texts_that_do_not_fit(both: tuple[StaticDecoder, OpenvinoLanguageModel]) -> None:
    static, _ = both
    static.forget()
    with pytest.raises(InputInvalid, match="the prompt has 13 tokens, and the longest it may have here is 12"):
        static.read([1] * 13)
    static.forget()
    static.read([1] * 12)
    with pytest.raises(InputInvalid, match="there is room for 24 positions, and the text has 25"):
        static.read([1] * 13)


def test_every_shape_is_known(exported: Callable[[str], Path]) -> None:
    for graph in (prompt_graph(exported("int8"), 8), answer_graph(exported("int8"), 16)):
        assert all(port.partial_shape.is_static for port in [*graph.inputs, *graph.outputs])
        assert all(min(port.shape) > 0 for port in graph.inputs)
        assert not graph.get_sinks()
