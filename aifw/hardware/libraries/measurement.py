"""What benchmarks found, as values: figures with their spread, and what planning makes of them.

Named tuples, like those of `aifw.hardware.libraries.runtime`: every plan imports them, and data classes would cost it three times as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from aifw.hardware.libraries.versions import OPENVINO, TORCH
from aifw.hardware.machine import Measured

_INFINITE = float("inf")
Quantity = Literal["bandwidth", "product"]


class Figure(NamedTuple):
    """One result, checked against a reference before it counted.

    Attributes:
        device: As a spec names it.
        library: What computed.
        quantity: `bandwidth`: bytes read per second; `product`: multiplications and additions per second, each counted, of a
            matrix product.
        precision: Number format of the factors; of a bandwidth, of what was read.
        value: The median of the repetitions.
        lowest: The worst of them.
        highest: The best of them.
        repetitions: How many were timed, after at least one that was not.
        threads: How many computed, or None where that is the device's own matter.
        size: Bytes read, or the side of the square factors.
        check: How the result was checked.
    """

    device: str
    library: str
    quantity: Quantity
    precision: str
    value: float
    lowest: float
    highest: float
    repetitions: int
    threads: int | None
    size: int
    check: str


class Measurement(NamedTuple):
    """What a run of the benchmarks found.

    Attributes:
        at: When, in UTC, ISO 8601.
        seconds: How long all of it took.
        cpu: Name of the processor it ran on.
        cores: How many processors it could use.
        figures: What was measured.
        failures: What was not, and why, in a sentence each.
        others: Share of the processors' time that other programs took meanwhile, or None if unknown.
    """

    at: str
    seconds: float
    cpu: str
    cores: int
    figures: tuple[Figure, ...] = ()
    failures: tuple[str, ...] = ()
    others: float | None = None


def summary(figures: Sequence[Figure]) -> Mapping[str, Measured]:
    """What planning uses, by device.

    Of several figures torch's count for fp32 and bf16, because training computes with it, and OpenVINO's for int8, because quantised
    models run there; of those the fastest, however many threads it took.
    """
    found: dict[str, Measured] = {}
    for device in dict.fromkeys(figure.device for figure in figures):
        own = [figure for figure in figures if figure.device == device]
        bandwidth = _best([each for each in own if each.quantity == "bandwidth"], TORCH)
        products = [each for each in own if each.quantity == "product"]
        throughput: dict[str, float] = {}
        for precision in dict.fromkeys(each.precision for each in products):
            favoured = OPENVINO if precision == "int8" else TORCH
            best = _best([each for each in products if each.precision == precision], favoured)
            assert best is not None
            throughput[precision] = best.value
        found[device] = Measured(None if bandwidth is None else bandwidth.value, throughput)
    return found


def _best(figures: Sequence[Figure], favoured: str) -> Figure | None:
    return max(figures, key=lambda each: (each.library == favoured, each.value), default=None)


def measurement_from(document: Any) -> Measurement:
    """The value a stored document describes.

    Raises:
        ValueError, TypeError, KeyError: It describes none.
    """
    return Measurement(
        _of(str, document["at"]),
        _positive(document["seconds"]),
        _of(str, document["cpu"]),
        _of(int, document["cores"]),
        tuple(figure_from(each) for each in document["figures"]),
        tuple(_of(str, each) for each in document["failures"]),
        None if document["others"] is None else _of(float, document["others"]),
    )


def figure_from(document: Any) -> Figure:
    """The same for one figure."""
    quantity = document["quantity"]
    if quantity not in {"bandwidth", "product"}:
        raise ValueError(f"{quantity!r} is not measured")
    threads = document["threads"]
    return Figure(
        _of(str, document["device"]),
        _of(str, document["library"]),
        quantity,
        _of(str, document["precision"]),
        _positive(document["value"]),
        _positive(document["lowest"]),
        _positive(document["highest"]),
        _of(int, document["repetitions"]),
        None if threads is None else _of(int, threads),
        _of(int, document["size"]),
        _of(str, document["check"]),
    )


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _INFINITE:
        raise ValueError(f"{value!r} is no figure")
    return float(value)


def _of(wanted: type[Any], value: Any) -> Any:
    if type(value) is not wanted:
        raise TypeError(f"{value!r} should be {wanted.__name__}")
    return value
