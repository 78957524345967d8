"""Weights in INT8 with a scale and a zero point for every few inputs of every output.

A weight is stored as q in 0 … 255 and read as (q - z) · s, with s and z in half precision and of their own for each group: s is a 255th
of the group's range, which always holds zero, and z is where zero lies. NNCF knows INT8 only with one scale for a whole output, and whole
numbers for zero points; a group's own range makes the step smaller, and a zero point between two steps keeps a group that lies on a grid
of few levels, as weights from a 4-bit file do, on that grid. OpenVINO's processor plugin multiplies by such weights as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LEVELS = 255
_ROWS_AT_ONCE = 4096
_USERS = {"MatMul", "Gather"}


def compress_by_group(graph: Any, group_size: int) -> Any:
    """Replace every matrix in fp32 that is looked up in or multiplied by.

    Args:
        graph: An `openvino.Model`; it is changed.
        group_size: Inputs that share a scale. A row it does not divide is cut by the largest power of two that divides both; one it does
            not divide at all has one scale.
    """
    for matrix in _matrices(graph):
        rows, inputs = matrix.shape
        group = divisor(inputs, group_size)
        codes, zeros, scales = quantised(matrix.data.reshape(rows, inputs // group, group))
        _replace(matrix, codes, zeros, scales)
    return graph


def divisor(inputs: int, group_size: int) -> int:
    """Inputs that share a scale: the group size, a power of two below it, or all."""
    if inputs % group_size == 0:
        return group_size
    power = min(inputs & -inputs, 1 << (group_size.bit_length() - 1))
    return power if power >= 16 else inputs


def quantised(weights: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float16], NDArray[np.float16]]:
    """Codes, zero points and scales of weights.

    Args:
        weights: (rows, groups, inputs of a group).

    Returns:
        Codes in the same shape, zero points and scales (rows, groups, 1).
    """
    import numpy as np

    codes = np.empty(weights.shape, np.uint8)
    zeros = np.empty((*weights.shape[:2], 1), np.float16)
    scales = np.empty_like(zeros)
    for start in range(0, len(weights), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        each = weights[part].astype(np.float32)
        low = np.minimum(each.min(-1, keepdims=True), 0)
        width = np.maximum(each.max(-1, keepdims=True), 0) - low
        scale = (width / _LEVELS).astype(np.float16)
        # Half precision is coarse below its normal numbers; a step rounded down there would leave the ends of the range outside.
        coarse = (scale < np.finfo(np.float16).tiny) & (scale.astype(np.float32) * _LEVELS < width)
        scale = np.where(coarse, np.nextafter(scale, np.float16(1)), scale)
        scale = np.maximum(scale, np.finfo(np.float16).smallest_subnormal)
        zero = (-low / scale.astype(np.float32)).astype(np.float16)
        each /= scale.astype(np.float32)
        each += zero.astype(np.float32)
        codes[part] = np.clip(np.rint(each), 0, _LEVELS)
        zeros[part], scales[part] = zero, scale
    return codes, zeros, scales


def _matrices(graph: Any) -> list[Any]:
    """Constants of two dimensions in fp32 that nothing but products and look-ups read."""
    found = []
    for node in graph.get_ops():
        if node.get_type_name() != "Constant" or len(node.shape) != 2:
            continue
        readers = {target.get_node().get_type_name() for target in node.output(0).get_target_inputs()}
        if node.get_element_type().get_type_name() == "f32" and readers and readers <= _USERS:
            found.append(node)
    return found


def _replace(matrix: Any, codes: Any, zeros: Any, scales: Any) -> None:
    import numpy as np
    from openvino import opset13 as ops

    readers = list(matrix.output(0).get_target_inputs())
    read = ops.subtract(ops.convert(ops.constant(codes), "f16"), ops.constant(zeros))
    read = ops.multiply(read, ops.constant(scales))
    read = ops.reshape(read, ops.constant(np.array(list(matrix.shape), np.int64)), special_zero=False)
    read = ops.convert(read, "f32")
    for reader in readers:
        reader.replace_source_output(read.output(0))
