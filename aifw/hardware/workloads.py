"""The words of the placement matrix: sorts of work, sorts of devices, and how well one does the other.

Apart from the matrix itself, so that reading a spec takes no more than these words.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

Column = Literal["npu", "integrated_gpu", "discrete_gpu", "ncs2", "performance_cores", "efficient_cores", "cloud"]
"""Sorts of devices."""
Rating = Literal["best", "good", "acceptable", "fallback", "never"]
"""How well a sort of device does a workload, best first."""
Workload = Literal[
    "embeddings",
    "vector_search",
    "lora_training",
    "dpo",
    "sft",
    "full_training",
    "ppo",
    "inference",
    "int8_inference",
    "reranking",
    "gating",
    "data",
]
"""Sorts of work."""

COLUMNS: tuple[Column, ...] = get_args(Column)
RATINGS: tuple[Rating, ...] = get_args(Rating)
WORKLOADS: tuple[Workload, ...] = get_args(Workload)

WORKLOAD_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "embeddings": "embedding",
        "vector_search": "vector search",
        "lora_training": "LoRA training",
        "dpo": "DPO",
        "sft": "supervised fine-tuning",
        "full_training": "training of all weights",
        "ppo": "PPO",
        "inference": "inference",
        "int8_inference": "INT8 inference",
        "reranking": "reranking",
        "gating": "gating",
        "data": "reading and preparing data",
    }
)
"""Workloads for people, to follow "best for"."""

COLUMN_WORDS: Mapping[Column, str] = MappingProxyType(
    {
        "npu": "an NPU",
        "integrated_gpu": "a GPU that computes in the machine's memory",
        "discrete_gpu": "a GPU with memory of its own",
        "ncs2": "a Neural Compute Stick 2",
        "performance_cores": "the performance cores, or all cores where they are of one kind",
        "efficient_cores": "the efficient and low-power cores",
        "cloud": "a rented machine",
    }
)
"""Columns for people."""
