"""The graph computes what the model does, however the text comes to it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM, Qwen3Config, Qwen3ForCausalLM

from aifw.errors import InputInvalid, JobError
from aifw.export.graph import check, convert
from aifw.hardware.libraries.backend import backend_for
from aifw.job import Input
from aifw.models.answer import TorchDecoder, next_tokens
from aifw.models.load import LanguageModel, load, load_tokenizer
from aifw.models.openvino_model import OpenvinoLanguageModel, compiled, in_fp32, read_graph
from aifw.models.score import score_rows

SIZES: dict[str, Any] = {
    "vocab_size": 259,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def _wrapped(module: Any, source: Input) -> LanguageModel:
    return LanguageModel(module.eval(), load_tokenizer(source.path), "cpu", "fp32", 64)


def _tokens(most: int, least: int = 1) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, 258), min_size=least, max_size=most)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(_tokens(6), min_size=1, max_size=5))
def test_a_text_read_in_parts(
    parts: list[list[int]], exact: OpenvinoLanguageModel, torch_decoder: TorchDecoder
) -> None:
    exact.forget()
    torch_decoder.forget()
    for part in parts:
        assert exact.read(part) == pytest.approx(torch_decoder.read(part), abs=2e-4)
    whole = [token for part in parts for token in part]
    torch_decoder.forget()
    assert exact.held == whole
    exact.forget()
    assert exact.read(whole) == pytest.approx(torch_decoder.read(whole), abs=2e-4)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(_tokens(9), _tokens(5)), min_size=1, max_size=4))
def test_scores_of_rows_of_any_lengths(
    rows: list[tuple[list[int], list[int]]], exact: OpenvinoLanguageModel, source: Input
) -> None:
    assert exact.score_rows(rows) == pytest.approx(score_rows(load(source.path), rows), abs=1e-3)


def test_what_was_read_before_is_forgotten(exact: OpenvinoLanguageModel) -> None:
    exact.forget()
    fresh = exact.read([5, 6, 7])
    exact.read([8, 9])
    exact.forget()
    assert np.array_equal(exact.read([5, 6, 7]), fresh)
    rows = [([5, 6], [7]), ([1, 2, 3], [4, 5])]
    assert exact.score_rows(rows) == exact.score_rows(rows)


def test_rows_may_be_taken_in_another_order(exported: Callable[[str], Path]) -> None:
    """Beam search: `beam_idx` says which row each one goes on from, and how many there are."""
    backend = in_fp32(backend_for("cpu", "fp32", library="openvino"))
    request = compiled(read_graph(exported("fp32")), backend).create_infer_request()

    def ask(ids: list[list[int]], before: int, order: list[int]) -> Any:
        count, new = len(ids), len(ids[0])
        inputs = {
            "input_ids": np.array(ids),
            "attention_mask": np.ones((count, before + new), dtype=np.int64),
            "position_ids": np.arange(before, before + new)[None].repeat(count, 0),
            "beam_idx": np.array(order, dtype=np.int32),
        }
        return np.array(request.infer(inputs)["logits"])

    ask([[3, 4, 5], [6, 7, 8]], 0, [0, 1])
    swapped = ask([[9], [9], [9]], 3, [1, 0, 1])
    request.reset_state()
    ask([[3, 4, 5], [6, 7, 8]], 0, [0, 1])
    straight = ask([[9], [9]], 3, [0, 1])
    assert swapped[1] == pytest.approx(straight[0], abs=1e-4)
    assert swapped[0] == pytest.approx(straight[1], abs=1e-4)
    assert np.array_equal(swapped[0], swapped[2])
    assert np.abs(swapped[0] - swapped[1]).max() > 0.01


def test_padding_before_a_text_leaves_no_trace(exported: Callable[[str], Path]) -> None:
    """A row that is all padding looks at nothing; were that no number, every other would become none as well."""
    backend = in_fp32(backend_for("cpu", "fp32", library="openvino"))
    request = compiled(read_graph(exported("fp32")), backend).create_infer_request()
    inputs = {
        "input_ids": np.array([[0, 0, 7, 8]]),
        "attention_mask": np.array([[0, 0, 1, 1]]),
        "position_ids": np.array([[0, 0, 0, 1]]),
        "beam_idx": np.zeros(1, dtype=np.int32),
    }
    padded = np.array(request.infer(inputs)["logits"])[0, 2:]
    request.reset_state()
    inputs = {
        "input_ids": np.array([[7, 8]]),
        "attention_mask": np.ones((1, 2), dtype=np.int64),
        "position_ids": np.array([[0, 1]]),
        "beam_idx": np.zeros(1, dtype=np.int32),
    }
    assert np.isfinite(padded).all()
    assert padded == pytest.approx(np.array(request.infer(inputs)["logits"])[0], abs=2e-4)


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2"])
def test_other_architectures(architecture: str, source: Input) -> None:
    torch.manual_seed(3)
    if architecture == "gpt2":
        module: Any = GPT2LMHeadModel(GPT2Config(vocab_size=259, n_embd=32, n_layer=2, n_head=4, n_positions=64))
    else:
        module = Qwen3ForCausalLM(Qwen3Config(**SIZES, intermediate_size=64, head_dim=16))
    model = _wrapped(module, source)
    assert check(convert(model, architecture), model, architecture) < 1e-4


def test_a_model_that_forgets_earlier_positions_is_refused(source: Input) -> None:
    module = MistralForCausalLM(MistralConfig(**SIZES, intermediate_size=64, sliding_window=8))
    with pytest.raises(InputInvalid, match=r"mine \(mistral\)"):
        convert(_wrapped(module, source), "mine")


def test_a_graph_that_computes_something_else_is_not_written(source: Input) -> None:
    model = load(source.path)
    graph = convert(model, "mine")
    other = load(source.path)
    with torch.no_grad():
        other.module.model.layers[1].mlp.down_proj.weight.mul_(1.5)
    assert check(graph, model, "mine") < 1e-4
    with pytest.raises(JobError, match="the graph made of mine does not compute what the model does"):
        check(graph, other, "mine")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_openvino_genai_generates_the_same_tokens(precision: str, exported: Callable[[str], Path]) -> None:
    """In a process of its own: the library takes all processors for itself, and ends the process where it may use one only."""
    folder = exported(precision)
    backend = backend_for("cpu", "fp32", library="openvino")
    from aifw.models.openvino_model import load_openvino

    ours = load_openvino(folder, backend)
    prompt = ours.tokenizer("Hello, world")["input_ids"]
    script = textwrap.dedent(
        f"""
        import os
        os.sched_setaffinity(0, range(os.cpu_count()))
        import numpy, openvino, openvino_genai
        pipe = openvino_genai.LLMPipeline({str(folder)!r}, "CPU", INFERENCE_PRECISION_HINT="f32", ATTENTION_BACKEND="SDPA")
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens, config.do_sample, config.ignore_eos = 24, False, True
        print(*pipe.generate(openvino.Tensor(numpy.array([{prompt}])), config).tokens[0])
        config.apply_chat_template = False
        print(repr(pipe.get_tokenizer().encode("Hello, world").input_ids.data.tolist()[0]))
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tokens, encoded = done.stdout.splitlines()[-2:]
    assert [int(token) for token in tokens.split()] == list(next_tokens(ours, prompt, 24))
    assert encoded == str(prompt)
