"""How large a language model is and what running it takes, from facts alone.

Facts are those of a `TextModel`. Where they are missing a shape is guessed from the number of parameters, and where that is
missing too a wide range is assumed; `certain` says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from aifw.kind import Facts

GIB = 1024**3
INTERPRETER_BYTES = 0.5 * GIB
"""A worker with torch and transformers imported, before a model is loaded."""
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
UNKNOWN_PARAMETERS = 0.3e9
CHARACTERS_PER_TOKEN = 4.2
"""English prose with a vocabulary of about 50,000; smaller vocabularies make more tokens."""
TEMPLATE_TOKENS = 32
"""Role markers and a default system prompt."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What memory and time depend on.

    Attributes:
        parameters: Number of weights.
        stored: Bytes of the weights on disk.
        certain: False if parts of it are guessed.
    """

    parameters: float
    layers: float
    hidden: float
    intermediate: float
    vocabulary: float
    stored: float
    certain: bool

    @classmethod
    def of(cls, facts: Facts) -> Shape:
        """Read facts; guess what is missing."""
        parameters = float(facts.get("parameters", UNKNOWN_PARAMETERS))
        # Published decoders from 0.1 to 10 billion weights have a depth near 4.6 * (P / 1e6)^0.33 and P close to 12 * layers * hidden^2.
        layers = float(facts.get("layers", round(4.6 * (parameters / 1e6) ** 0.33)))
        hidden = float(facts.get("hidden", sqrt(parameters / 12 / max(1.0, layers))))
        return cls(
            parameters=parameters,
            layers=layers,
            hidden=hidden,
            intermediate=float(facts.get("intermediate", 3 * hidden)),
            vocabulary=float(facts.get("vocabulary", 50_000)),
            stored=parameters * BYTES.get(str(facts.get("dtype", "float32")), 4),
            certain=all(key in facts for key in ("parameters", "layers", "hidden", "intermediate", "vocabulary")),
        )

    def weights(self, bytes_each: int = 4) -> float:
        """Bytes of the weights in memory."""
        return self.parameters * bytes_each

    def lora(self, rank: int, modules: int = 7) -> float:
        """Number of weights of a LoRA adapter on the linear layers of every block."""
        per_module = rank * (2 * self.hidden + (self.intermediate - self.hidden) * 3 / 7)
        return self.layers * modules * per_module

    def activations(self, tokens: float) -> float:
        """Bytes kept for the backward pass of `tokens` positions in fp32 with LoRA on every linear layer, without checkpointing."""
        return tokens * self.layers * (30 * self.hidden + 6 * self.intermediate) * 4


def tokens_of(facts: Facts, name: str, limit: float, default: float) -> float:
    """Mean tokens of a text column from its mean characters (`chars_prompt`), cut at a limit."""
    characters = facts.get(name)
    tokens = default if characters is None else float(characters) / CHARACTERS_PER_TOKEN + 2
    return min(limit, tokens)
