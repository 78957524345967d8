"""The runs `forecast.py` measures: what is computed, on a model of which shape, and which of them nothing may be fitted to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Task = Literal["dpo", "trl_dpo", "trl_sft", "sft", "generate", "score", "openvino_convert", "openvino_infer", "embed"]
"""`dpo` and `score` are the product's own code, `trl_*` TRL's trainers, `sft` the trainer of transformers, which holds all logits."""

Part = Literal["fit", "held-out", "fresh"]
"""`fit`: constants may be fitted to it. `held-out`: they may not. `fresh`: nor was it measured before it was written down."""


@dataclass(frozen=True)
class Model:
    """A model with random weights.

    Attributes:
        tied: Input and output embeddings are one matrix.
        stored: Number format of the weights on disk; they are computed with in fp32.
        architecture: `llama`, or `bert` for an encoder.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool = True
    stored: Literal["float32", "bfloat16"] = "float32"
    architecture: Literal["llama", "bert"] = "llama"
    context: int = 2048


MODELS = {
    "small": Model(6, 256, 688, 4, 4, 8_000),
    "vocabulary_32k": Model(12, 384, 1024, 6, 2, 32_000),
    "deep": Model(30, 384, 1024, 6, 3, 16_000, stored="bfloat16"),
    "wide": Model(6, 1024, 2816, 16, 4, 16_000, tied=False),
    "vocabulary_128k": Model(6, 512, 1408, 8, 8, 128_000, tied=False),
    "smollm2_135m": Model(30, 576, 1536, 9, 3, 49_152),
    "grouped_200m": Model(16, 896, 2432, 14, 2, 50_000, stored="bfloat16"),
    "smollm2_360m": Model(32, 960, 2560, 15, 5, 49_152, stored="bfloat16"),
    "minilm": Model(6, 384, 1536, 12, 12, 30_522, architecture="bert", context=512),
    "bert_base": Model(12, 768, 3072, 12, 12, 30_522, architecture="bert", context=512),
    "middling": Model(24, 512, 1536, 8, 4, 32_000, stored="bfloat16"),
    "shallow": Model(4, 1280, 3584, 20, 4, 24_000),
    "vocabulary_100k": Model(8, 640, 1792, 10, 2, 100_000),
    "bert_narrow": Model(4, 512, 2048, 8, 8, 20_000, architecture="bert", context=512),
}


@dataclass(frozen=True)
class Run:
    """One process.

    Attributes:
        batch: Rows computed at once; for preferences pairs, of two rows each.
        prompt: Tokens of each prompt, or of each text.
        answer: Tokens of each answer, or to generate.
        rank: Of the LoRA adapter on all linear layers; None trains every weight.
        accumulate: Micro-batches per optimiser step.
        checkpointing: Activations are computed again in the backward pass.
        attention: Implementation in transformers.
        stored_reference: Reference log-probabilities were computed beforehand; otherwise they are computed beside the training.
        varied: Lengths vary between half of what is stated and all of it.
        weights: Format of OpenVINO's weights.
        precision: Format of the arithmetic; only `dpo` takes another than fp32, and only where the processor has it.
    """

    task: Task
    model: str
    batch: int
    prompt: int
    answer: int = 0
    rank: int | None = None
    accumulate: int = 1
    checkpointing: bool = False
    attention: Literal["sdpa", "eager"] = "sdpa"
    stored_reference: bool = True
    varied: bool = False
    weights: Literal["fp32", "int8"] = "fp32"
    precision: Literal["fp32", "bf16"] = "fp32"

    @property
    def name(self) -> str:
        """Everything that tells it from the others."""
        words = [self.task, self.model, f"{self.batch}x{self.prompt}" + (f"+{self.answer}" if self.answer else "")]
        if self.task in {"dpo", "trl_dpo", "trl_sft", "sft"}:
            words.append("full" if self.rank is None else f"lora{self.rank}")
        if self.accumulate > 1:
            words.append(f"accumulate{self.accumulate}")
        words += ["checkpointing"] if self.checkpointing else []
        words += ["eager"] if self.attention == "eager" else []
        words += [] if self.stored_reference else ["reference"]
        words += ["varied"] if self.varied else []
        words += [self.weights] if self.task.startswith("openvino") else []
        words += [self.precision] if self.precision != "fp32" else []
        return "-".join(words)

    @property
    def part(self) -> Part:
        """What it is for: a third of the names of `FIRST` is held out, by their hash."""
        if self in FRESH:
            return "fresh"
        if self in MORE:
            return "fit"
        return "held-out" if int(hashlib.sha256(self.name.encode()).hexdigest(), 16) % 3 == 0 else "fit"


FIRST = (
    # Preferences, the product's own training: LoRA, stored reference, its merge at the end.
    Run("dpo", "smollm2_135m", 1, 96, 40, rank=16, accumulate=2),
    Run("dpo", "smollm2_135m", 2, 128, 64, rank=8),
    Run("dpo", "deep", 4, 128, 64, rank=16),
    Run("dpo", "wide", 4, 160, 96, rank=32, accumulate=2),
    Run("dpo", "vocabulary_128k", 2, 128, 96, rank=8),
    Run("dpo", "grouped_200m", 2, 96, 64, rank=16, varied=True),
    Run("dpo", "vocabulary_32k", 8, 128, 64, rank=16),
    Run("dpo", "small", 16, 128, 96, rank=8, varied=True),
    Run("dpo", "smollm2_360m", 1, 128, 64, rank=16),
    # Preferences through TRL.
    Run("trl_dpo", "smollm2_135m", 2, 96, 64, rank=16, stored_reference=False),
    Run("trl_dpo", "smollm2_135m", 1, 192, 64, rank=16, attention="eager"),
    Run("trl_dpo", "deep", 4, 192, 64, rank=16, checkpointing=True),
    Run("trl_dpo", "deep", 2, 128, 64),
    Run("trl_dpo", "wide", 2, 128, 64, stored_reference=False),
    Run("trl_dpo", "vocabulary_128k", 1, 96, 64),
    Run("trl_dpo", "vocabulary_32k", 8, 96, 32, rank=8, stored_reference=False, accumulate=2),
    # Texts through TRL.
    Run("trl_sft", "smollm2_135m", 2, 256, rank=16),
    Run("trl_sft", "smollm2_135m", 1, 256),
    Run("trl_sft", "deep", 4, 512, checkpointing=True),
    Run("trl_sft", "deep", 2, 512, rank=16, attention="eager"),
    Run("trl_sft", "wide", 4, 256, attention="eager"),
    Run("trl_sft", "wide", 8, 256, rank=64),
    Run("trl_sft", "grouped_200m", 1, 256),
    Run("trl_sft", "smollm2_360m", 2, 256, rank=16, checkpointing=True),
    Run("trl_sft", "vocabulary_32k", 16, 128, accumulate=2),
    # Texts through the trainer of transformers.
    Run("sft", "vocabulary_32k", 4, 256, rank=16),
    Run("sft", "vocabulary_32k", 4, 128, accumulate=2),
    Run("sft", "vocabulary_128k", 2, 256, rank=16),
    Run("sft", "vocabulary_128k", 2, 128),
    Run("sft", "smollm2_135m", 2, 128, rank=16, accumulate=2),
    Run("sft", "wide", 4, 256, rank=16, checkpointing=True),
    # Inference.
    Run("generate", "smollm2_135m", 8, 256, 48),
    Run("generate", "smollm2_360m", 1, 512, 32),
    Run("generate", "vocabulary_128k", 16, 1024, 16),
    Run("generate", "wide", 32, 512, 16),
    Run("score", "smollm2_135m", 1, 128, 64, varied=True),
    Run("score", "vocabulary_128k", 1, 160, 96),
    Run("score", "smollm2_360m", 1, 128, 48),
    Run("score", "grouped_200m", 1, 256, 32),
    Run("openvino_convert", "smollm2_135m", 1, 16, weights="int8"),
    Run("openvino_convert", "wide", 1, 16, weights="fp32"),
    Run("openvino_convert", "vocabulary_128k", 1, 16, weights="int8"),
    Run("openvino_convert", "grouped_200m", 1, 16, weights="int8"),
    Run("openvino_infer", "smollm2_135m", 1, 256, weights="int8"),
    Run("openvino_infer", "smollm2_135m", 4, 128, weights="fp32"),
    Run("openvino_infer", "wide", 4, 256, weights="fp32"),
    Run("openvino_infer", "vocabulary_128k", 1, 128, weights="int8"),
    Run("openvino_infer", "smollm2_360m", 1, 128, weights="int8"),
    Run("embed", "minilm", 64, 256),
    Run("embed", "minilm", 32, 256, attention="eager"),
    Run("embed", "bert_base", 32, 256),
    Run("embed", "bert_base", 64, 128, attention="eager"),
)
"""Written down before anything was fitted."""

FRESH = (
    Run("dpo", "middling", 2, 160, 80, rank=8),
    Run("dpo", "vocabulary_100k", 3, 96, 64, rank=16, accumulate=2),
    Run("dpo", "shallow", 6, 112, 48, rank=16, varied=True),
    Run("dpo", "middling", 3, 96, 64, rank=8, precision="bf16"),
    Run("dpo", "shallow", 4, 128, 64, rank=16, accumulate=2, precision="bf16"),
    Run("dpo", "vocabulary_100k", 2, 120, 72, rank=16, varied=True, precision="bf16"),
    Run("trl_dpo", "middling", 2, 144, 48, stored_reference=False),
    Run("trl_dpo", "vocabulary_100k", 2, 160, 64, rank=8, checkpointing=True),
    Run("trl_dpo", "shallow", 3, 96, 32, rank=32, attention="eager"),
    Run("trl_sft", "shallow", 6, 192),
    Run("trl_sft", "vocabulary_100k", 3, 320, rank=32),
    Run("trl_sft", "middling", 2, 384, accumulate=2, checkpointing=True),
    Run("sft", "middling", 3, 192, rank=16, attention="eager"),
    Run("sft", "shallow", 4, 160),
    Run("sft", "vocabulary_100k", 2, 192, rank=8, checkpointing=True),
    Run("generate", "vocabulary_100k", 4, 384, 32),
    Run("generate", "middling", 12, 192, 24),
    Run("score", "middling", 1, 200, 56, varied=True),
    Run("score", "vocabulary_100k", 1, 96, 96),
    Run("score", "shallow", 1, 300, 100, varied=True),
    Run("openvino_convert", "middling", 1, 16, weights="fp32"),
    Run("openvino_convert", "shallow", 1, 16, weights="int8"),
    Run("openvino_convert", "vocabulary_100k", 1, 16, weights="int8"),
    Run("openvino_infer", "middling", 2, 192, weights="fp32"),
    Run("openvino_infer", "shallow", 8, 128, weights="int8"),
    Run("openvino_infer", "vocabulary_100k", 1, 256, weights="int8"),
    Run("embed", "bert_narrow", 48, 192),
    Run("embed", "bert_narrow", 24, 320, attention="eager"),
    Run("embed", "bert_base", 12, 384),
)
"""Other shapes, batches and lengths over the same tasks, written down before any of them was measured."""

MORE = (
    Run("dpo", "smollm2_135m", 2, 128, 64, rank=8, precision="bf16"),
    Run("dpo", "deep", 4, 128, 64, rank=16, precision="bf16"),
    Run("dpo", "vocabulary_128k", 2, 128, 96, rank=8, precision="bf16"),
    Run("dpo", "grouped_200m", 2, 96, 64, rank=16, varied=True, precision="bf16"),
    Run("dpo", "vocabulary_32k", 8, 128, 64, rank=16, precision="bf16"),
    Run("generate", "deep", 4, 128, 32),
    Run("score", "vocabulary_32k", 1, 160, 80, varied=True),
    Run("score", "deep", 1, 96, 48, varied=True),
    Run("openvino_convert", "deep", 1, 16, weights="fp32"),
    Run("openvino_convert", "vocabulary_32k", 1, 16, weights="fp32"),
    Run("openvino_convert", "vocabulary_128k", 1, 16, weights="fp32"),
    Run("openvino_convert", "wide", 1, 16, weights="int8"),
    Run("openvino_infer", "vocabulary_32k", 4, 128, weights="fp32"),
    Run("openvino_infer", "deep", 2, 256, weights="fp32"),
    Run("embed", "minilm", 16, 128),
    Run("embed", "bert_base", 8, 128),
)
"""Runs that constants may be fitted to, of tasks that have few of them in `FIRST`."""

GRID = FIRST + FRESH + MORE
