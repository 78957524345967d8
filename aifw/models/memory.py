"""What memory a process that computes with a model needs at its peak, as named parts in bytes; sizes of batches that fit.

Everything here and in `memory_training` and `memory_inference` is arithmetic on a `Shape`: which tensors transformers, PEFT, TRL, PyTorch
and OpenVINO hold at the moment that needs most. Few constants are measured, each with what it stands for.

What is counted is anonymous memory: weights that stay in the mapped file they were read from cost nothing here, since the
system can drop them and read them again. That is so on the processor as long as they are used in the format they are stored in
and nobody writes to them.

Tensors are given back to the system when they are freed: so `aifw.run.launch` has workers allocate. In glibc's heap they would leave holes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from aifw.kind import Estimate
from aifw.models.size import BYTES, Shape

FLOAT = 4
"""Bytes of a number in fp32."""
FORMATS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Formats of arithmetic by the names files use for them."""

WORKERS = {
    "training": 359e6,
    "adapting": 303e6,
    "torch": 294e6,
    "embedding": 288e6,
    "conversion": 318e6,
    "openvino": 29e6,
}
"""Anonymous bytes of a worker that has imported what a job needs and does nothing: with transformers, PEFT and TRL; without TRL; with transformers;
with an encoder of it; with OpenVINO and NNCF beside it; with OpenVINO alone. Measured with Python 3.11 and torch 2.13 for the processor."""

_SPREAD = {True: (0.9, 1.15), False: (0.4, 2.2)}
"""Ends of the range over its middle, of the part above the worker: where shape and lengths are known, and where they are guessed."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences that are computed at once.

    Attributes:
        rows: How many; a pair of answers is two.
        length: Tokens of each, padding included.
        padded: They differ in length, so attention is given a mask.
        attention: Implementation in transformers.
        bytes_each: Of a number in the format computed in.
        masks_once: The mask is made in that format once, where else every block converts it and keeps what comes out.
    """

    rows: float
    length: float
    padded: bool = True
    attention: Literal["sdpa", "eager"] = "sdpa"
    bytes_each: int = FLOAT
    masks_once: bool = False

    @property
    def tokens(self) -> float:
        """Positions computed."""
        return self.rows * self.length


def is_mapped(shape: Shape, device: str, precision: str = "fp32") -> bool:
    """Whether weights that are only read stay in the file: on the processor, in the format they are stored in."""
    return device.partition(":")[0] == "cpu" and shape.stored == FORMATS.get(precision)


def bytes_each(precision: str) -> int:
    """Bytes of a number in a format of arithmetic (`fp32`, `bf16`)."""
    return BYTES[FORMATS[precision]]


def estimated(parts: Mapping[str, float], *, certain: bool) -> Estimate:
    """A range around the sum of the parts. The worker is known; the rest is less so.

    Args:
        parts: In bytes; `worker` is what is there before the job does anything.
        certain: Shape and lengths are known.
    """
    worker = parts.get("worker", 0.0)
    job = sum(parts.values()) - worker
    low, high = _SPREAD[certain]
    return Estimate(worker + low * job, worker + job, worker + high * job)


def largest_batch(bytes_of: Callable[[int], float], limit: float, effective: int, most: int | None = None) -> int:
    """The largest divisor of the effective batch that fits, 1 if none does.

    Args:
        bytes_of: Bytes at the peak by size of the micro-batch; it never falls as the size grows.
        limit: Bytes that may be used.
        effective: Rows per optimiser step.
        most: A size never to be exceeded.
    """
    sizes = [size for size in range(1, effective + 1) if effective % size == 0 and (most is None or size <= most)]
    found = 1
    for size in sizes:
        if bytes_of(size) > limit:
            break
        found = size
    return found
