"""Benchmarks through torch: `python -P -m aifw.hardware.libraries.measure_torch TARGET MEMORY BUFFER TASK...`.

Run by `aifw.hardware.libraries.measure` alone. MEMORY is how many bytes all of it may take, BUFFER how many are read for a bandwidth.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from aifw.hardware.libraries.benchmark import Run, Wrong, check, factors, figure, largest_side, perform, sides, times
from aifw.hardware.libraries.child import answers
from aifw.hardware.libraries.versions import CUDA_ORDER

_ROW = 8192
_LARGEST_ON_CPU, _LARGEST = 4096, 8192
_FORMATS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def main(arguments: list[str]) -> None:
    """Measure and answer line by line."""
    answer = answers()
    target, memory, buffer, *tasks = arguments
    os.environ.setdefault(*CUDA_ORDER)
    import torch

    family = target.partition(":")[0]
    torch.set_grad_enabled(False)
    bench = _Bench(torch, target, getattr(torch, family) if family != "cpu" else None, int(memory), int(buffer))
    perform(answer, tasks, bench.measure)


class _Bench:
    def __init__(self, torch: Any, target: str, module: Any, memory: int, buffer: int) -> None:
        self._torch = torch
        self._target = target
        self._module = module
        self._memory = memory
        self._buffer = buffer

    def measure(self, quantity: str, precision: str, threads: int) -> dict[str, Any]:
        if self._module is None:
            self._torch.set_num_threads(threads)
            told = threads
        else:
            told = None
        return self._bandwidth(told) if quantity == "bandwidth" else self._product(precision, told)

    def _done(self) -> None:
        if self._module is not None:
            self._module.synchronize()

    def _bandwidth(self, threads: int | None) -> dict[str, Any]:
        """Reads a matrix of whole numbers once: its product with a vector of ones is the sum of each row, and exact."""
        torch = self._torch
        rows = max(1, self._buffer // (4 * _ROW))
        matrix = torch.empty((rows, _ROW), dtype=torch.float32, device=self._target)
        pattern = (torch.arange(_ROW, dtype=torch.float32) % 16).to(self._target)
        added = (torch.arange(rows, dtype=torch.float32) % 8).to(self._target)
        torch.add(pattern, added[:, None], out=matrix)
        ones = torch.ones(_ROW, dtype=torch.float32, device=self._target)
        sums = torch.empty(rows, dtype=torch.float32, device=self._target)

        def run() -> None:
            torch.mv(matrix, ones, out=sums)
            self._done()

        seconds = times(run)
        whole = torch.arange(_ROW, dtype=torch.int64) % 16
        expected = whole.sum() + _ROW * (torch.arange(rows, dtype=torch.int64) % 8)
        if not torch.equal(sums.cpu().to(torch.int64), expected):
            raise Wrong("the sums of the rows that were read are wrong")
        size = matrix.numel() * matrix.element_size()
        return figure("fp32", "bandwidth", size, seconds, threads, size, "the sum of every row, exact")

    def _product(self, precision: str, threads: int | None) -> dict[str, Any]:
        most = largest_side(self._memory, _LARGEST_ON_CPU if self._module is None else _LARGEST)

        side = sides(most, lambda side: self._run(precision, *self._factors(precision, side), []))
        left, right = self._factors(precision, side)
        kept: list[Any] = []
        seconds = times(self._run(precision, left, right, kept))
        how = check(_array(self._torch, kept[0]), _array(self._torch, left), _array(self._torch, right), precision)
        return figure(precision, "product", 2.0 * side**3, seconds, threads, side, how)

    def _run(self, precision: str, left: Any, right: Any, kept: list[Any]) -> Run:
        def run() -> None:
            # torch has no public product of int8 matrices; this is the one that quantising libraries call.
            kept[:] = [self._torch._int_mm(left, right) if precision == "int8" else left @ right]
            self._done()

        return run

    def _factors(self, precision: str, side: int) -> tuple[Any, Any]:
        torch = self._torch
        dtype = torch.int8 if precision == "int8" else getattr(torch, _FORMATS[precision])
        left, right = (torch.from_numpy(each).to(dtype).to(self._target) for each in factors(precision, side))
        return left, right


def _array(torch: Any, tensor: Any) -> Any:
    return tensor.cpu().to(torch.float64).numpy()


if __name__ == "__main__":
    main(sys.argv[1:])
