"""Benchmarks through OpenVINO: `python -P -m aifw.hardware.libraries.measure_openvino TARGET MEMORY BUFFER TASK...`.

Run by `aifw.hardware.libraries.measure` alone. MEMORY is how many bytes all of it may take, BUFFER how many are read for a bandwidth.
"""

from __future__ import annotations

import sys
from typing import Any

from aifw.hardware.libraries.benchmark import Run, Wrong, check, factors, figure, largest_side, perform, sides, times
from aifw.hardware.libraries.child import answers
from aifw.hardware.libraries.openvino_core import shared_core
from aifw.hardware.libraries.openvino_devices import device_name

_LARGEST = {"cpu": 4096, "npu": 2048}
_LARGEST_ELSEWHERE = 8192
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
_EXECUTED = {"fp32": {"f32"}, "bf16": {"bf16"}, "fp16": {"f16"}, "int8": {"i8", "u8"}}


def main(arguments: list[str]) -> None:
    """Measure and answer line by line."""
    answer = answers()
    target, memory, buffer, *tasks = arguments
    import openvino

    perform(answer, tasks, _Bench(openvino, target, int(memory), int(buffer)).measure)


class _Bench:
    def __init__(self, openvino: Any, target: str, memory: int, buffer: int) -> None:
        self._openvino = openvino
        self._core = shared_core()
        self._target = target
        self._family = device_name(target).partition(":")[0]
        self._memory = memory
        self._buffer = buffer

    def measure(self, quantity: str, precision: str, threads: int) -> dict[str, Any]:
        told = threads if self._family == "cpu" else None
        return self._bandwidth(precision, told) if quantity == "bandwidth" else self._product(precision, told)

    def _bandwidth(self, precision: str, threads: int | None) -> dict[str, Any]:
        """Reads the weights of one layer once, as every token of a decoder does."""
        width = 2 if precision == "fp16" else 4
        side = 1024
        while width * (side * 2) ** 2 <= self._buffer:
            side *= 2
        left, right = factors(precision, side, rows=1)
        run, result, _ = self._compiled(precision, left, right, threads)
        seconds = times(run)
        how = check(result(), *self._rounded(precision, left, right), precision)
        return figure(precision, "bandwidth", width * side**2, seconds, threads, width * side**2, how)

    def _product(self, precision: str, threads: int | None) -> dict[str, Any]:
        most = largest_side(self._memory, _LARGEST.get(self._family, _LARGEST_ELSEWHERE))

        side = sides(most, lambda side: self._compiled(precision, *factors(precision, side), threads)[0])
        left, right = factors(precision, side)
        run, result, told = self._compiled(precision, left, right, threads)
        seconds = times(run)
        how = check(result(), *self._rounded(precision, left, right), precision)
        return figure(precision, "product", 2.0 * side**3, seconds, threads, side, f"{how}; {told}")

    def _rounded(self, precision: str, left: Any, right: Any) -> tuple[Any, Any]:
        """The factors as the device sees them."""
        import numpy as np

        if precision == "fp16":
            return left.astype(np.float16), right.astype(np.float16)
        if precision == "bf16":
            return _to_bf16(left), _to_bf16(right)
        return left, right

    def _compiled(self, precision: str, left: Any, right: Any, threads: int | None) -> tuple[Run, Run, str]:
        """A way to run the product, one to see what came out, and the format it ran in, for people.

        Raises:
            Wrong: It ran in another format than asked for.
        """
        model = self._model(precision, left, right)
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[precision]}
        if self._family == "npu":
            # It computes in fp16 whatever the hint, and refuses others.
            config["INFERENCE_PRECISION_HINT"] = "f16"
        if threads is not None:
            config |= {"INFERENCE_NUM_THREADS": f"{threads}", "NUM_STREAMS": "1"}
        compiled = self._core.compile_model(model, self._target, config)
        told = self._executed(compiled, precision)
        request = compiled.create_infer_request()
        request.set_input_tensor(self._openvino.Tensor(left))
        return request.infer, lambda: request.get_output_tensor().data, told

    def _model(self, precision: str, left: Any, right: Any) -> Any:
        import numpy as np

        operations = self._openvino.opset13
        parameter = operations.parameter(list(left.shape), np.float32)
        if precision != "int8":
            product = operations.matmul(parameter, operations.constant(right), False, False)
            return self._openvino.Model([product], [parameter])
        # As a quantised model has it: activations through levels a step of one apart, weights of int8 with a scale.
        lowest, highest = np.float32(-128), np.float32(127)
        levels = operations.fake_quantize(parameter, lowest, highest, lowest, highest, 256)
        weights = operations.convert(operations.constant(right.astype(np.int8)), np.float32)
        scaled = operations.multiply(weights, operations.constant(np.float32(1)))
        return self._openvino.Model([operations.matmul(levels, scaled, False, False)], [parameter])

    def _executed(self, compiled: Any, precision: str) -> str:
        try:
            nodes = compiled.get_runtime_model().get_ops()
        except RuntimeError:
            return "the device does not say in which format it computed"
        formats = set()
        for node in nodes:
            information = node.get_rt_info()
            kind = information["layerType"].astype(str) if "layerType" in information else ""
            if kind.lower() in {"fullyconnected", "matmul", "gemm", "fully_connected"}:
                formats.add(information["runtimePrecision"].astype(str).lower())
        if not formats:
            return "the device does not say in which format it computed"
        if not formats <= _EXECUTED[precision]:
            raise Wrong(f"it was computed in {', '.join(sorted(formats))} instead")
        return f"computed in {', '.join(sorted(formats))}"


def _to_bf16(values: Any) -> Any:
    """Rounded to the nearest number of bf16, ties to even."""
    import numpy as np

    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.astype(np.uint32).view(np.float32)


if __name__ == "__main__":
    main(sys.argv[1:])
