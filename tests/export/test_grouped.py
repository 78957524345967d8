"""INT8 in groups: how near it stays to the weights, and that OpenVINO reads what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays

from aifw.export import export
from aifw.export.grouped import compress_by_group, divisor, quantised
from aifw.hardware.libraries.openvino_core import shared_core
from aifw.job import Input

WEIGHTS = arrays(
    np.float32,
    some.tuples(some.integers(1, 5), some.integers(1, 3), some.sampled_from([16, 32])),
    elements=some.floats(-8, 8, width=32, allow_subnormal=False),
)


def read(codes: Any, zeros: Any, scales: Any) -> Any:
    return (codes.astype(np.float64) - zeros.astype(np.float64)) * scales.astype(np.float64)


@given(WEIGHTS)
@example(np.full((1, 1, 16), 0.00047497, np.float32))
@example(np.full((1, 1, 16), 1e-6, np.float32))
def test_no_weight_moves_by_more_than_a_step(weights: Any) -> None:
    codes, zeros, scales = quantised(weights)
    assert np.isfinite(zeros).all()
    assert (scales > 0).all()
    # Half a step, the rounding of a range's ends to half precision, and of a zero point below 256.
    allowed = scales.astype(np.float64) * 0.75 + 1e-6
    assert (np.abs(read(codes, zeros, scales) - weights) <= allowed).all()


@given(some.integers(0, 2**32 - 1))
def test_weights_on_a_grid_of_sixteen_levels_stay_on_it(seed: int) -> None:
    generator = np.random.default_rng(seed)
    levels = generator.integers(0, 16, (4, 2, 32))
    levels[..., :2] = [0, 15]
    step = generator.uniform(0.001, 0.1, (4, 2, 1)).astype(np.float16).astype(np.float32)
    lowest = -step * generator.uniform(1, 14, (4, 2, 1)).astype(np.float32)
    weights = (levels * step + lowest).astype(np.float32)
    error = np.abs(read(*quantised(weights)) - weights)
    # A 255th of the range is a 17th of a step here; rounding the scale to half precision is all that is lost.
    assert (error <= step * 0.02).all()


@pytest.mark.parametrize(
    ("inputs", "size", "expected"),
    [(576, 32, 32), (96, 64, 32), (72, 32, 72), (48, 32, 16), (100, 32, 100), (64, 48, 32), (1536, 80, 64)],
)
def test_a_row_is_cut_evenly(inputs: int, size: int, expected: int) -> None:
    assert divisor(inputs, size) == expected


@pytest.mark.parametrize("shape", [(24, 64), (24, 72), (5000, 32)])
def test_openvino_multiplies_by_what_was_written(shape: tuple[int, int]) -> None:
    import openvino
    from openvino import opset13 as ops

    generator = np.random.default_rng(3)
    weights = generator.standard_normal(shape, np.float32)
    weights[1] = 0
    rows = generator.standard_normal((3, shape[1]), np.float32)
    entry = ops.parameter([3, shape[1]], openvino.Type.f32)
    graph = openvino.Model([ops.matmul(entry, ops.constant(weights), False, True)], [entry])
    compress_by_group(graph, 32)
    exact = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0", "INFERENCE_NUM_THREADS": "1"}
    found = shared_core().compile_model(graph, "CPU", exact)(rows)[0]
    group = divisor(shape[1], 32)
    expected = read(*quantised(weights.reshape(shape[0], -1, group))).reshape(shape)
    np.testing.assert_allclose(found, rows @ expected.T, rtol=2e-3, atol=2e-2)
    assert np.abs(found - rows @ weights.T).max() > 1e-4


def test_a_scale_for_each_output_is_nncf_s(source: Input, tmp_path: Path) -> None:
    sizes = {}
    for name, options in (("groups", {}), ("channel", {"group_size": "channel"}), ("sixteen", {"group_size": 16})):
        export(source.path, tmp_path / name, precision="int8", **options)
        document = json.loads((tmp_path / name / "export.json").read_text())
        sizes[name] = document["bytes"]
        assert document["group_size"] == {"groups": 32, "channel": None, "sixteen": 16}[name]
    assert sizes["channel"] < sizes["groups"] < sizes["sixteen"]
