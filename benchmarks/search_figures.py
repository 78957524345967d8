"""What the figures of `search.py` amount to: ratios, what they should be, and which way FAISS goes by default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

OURS = "aifw"
FAISS_SCAN, FAISS_BLAS = "FAISS scan", "FAISS BLAS"
METHODS = (OURS, FAISS_SCAN, FAISS_BLAS, "numpy", "torch", "usearch", "numkong")
LABELS = {"inner_product": "inner product", "cosine": "cosine", "l2": "L2"}


def target(batch: int, dimensions: int, metric: str) -> float | None:
    """How many times the processor time of the best peer ours must be below, with one thread; None where nothing was promised."""
    if batch == 1:
        return 3.8 if dimensions == 384 and metric != "l2" else 3.3
    return {8: 6.0, 64: 2.7, 1024: 1.8}.get(batch)


def ratios(methods: Mapping[str, Any]) -> dict[str, Any] | None:
    """How many times ours the least of all peers is, for each figure; and the peer with the least median of processor time."""
    measured = {name: each for name, each in methods.items() if "left_out" not in each}
    peers = {name: each for name, each in measured.items() if name != OURS}
    if OURS not in measured or not peers:
        return None
    ours = measured[OURS]
    names = ("cpu_min", "cpu_median", "wall_min", "wall_median")
    return {name: min(each[name] for each in peers.values()) / ours[name] for name in names} | {
        "peer": min(peers, key=lambda name: peers[name]["cpu_median"])
    }


def by_batch(figures: Sequence[Mapping[str, Any]], key: str = "batch") -> dict[int, dict[str, Mapping[str, Any]]]:
    """Figures of each method, under the batch size or the number of rows."""
    found: dict[int, dict[str, Mapping[str, Any]]] = {}
    for each in figures:
        found.setdefault(each[key], {})[each["method"]] = each
    return found


def faiss_default(threshold: int, batch: int, dimensions: int) -> str:
    """Which of its two ways FAISS goes unless told otherwise."""
    return FAISS_BLAS if batch * dimensions >= threshold else FAISS_SCAN
