"""How large a language model is, from facts alone.

Facts are those of a `TextModel`. Where they are missing a shape is guessed from the number of parameters, and where that is
missing too a model of a third of a billion weights is assumed; `certain` says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from aifw.kind import Facts

BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of one number."""
UNKNOWN_PARAMETERS = 0.3e9
CHARACTERS_PER_TOKEN = 4.2
"""English prose with a vocabulary of about 50,000; smaller vocabularies make more tokens."""
TEMPLATE_TOKENS = 32
"""Role markers and a default system prompt."""
_PLAIN = frozenset(
    {
        "bert",
        "bloom",
        "distilbert",
        "gpt2",
        "gpt_bigcode",
        "gpt_neo",
        "gpt_neox",
        "gptj",
        "mpnet",
        "opt",
        "phi",
        "roberta",
    }
)
"""Architectures whose feed-forward part is two matrices around an activation, without a gate."""
_SHAPE_FACTS = ("parameters", "layers", "hidden", "intermediate", "vocabulary")


@dataclass(frozen=True, slots=True)
class Shape:
    """What memory and time depend on. Sizes are numbers of elements, `float` where guessed.

    Attributes:
        parameters: Number of weights.
        heads: Of queries.
        kv_heads: Of keys and values.
        head_dim: Width of a head.
        tied: Input and output embeddings are one matrix.
        gated: The feed-forward part has a third matrix, whose product gates the first.
        stored: Number format of the weights on disk.
        certain: False if parts of it are guessed.
    """

    parameters: float
    layers: float
    hidden: float
    intermediate: float
    heads: float
    kv_heads: float
    head_dim: float
    vocabulary: float
    tied: bool
    gated: bool
    stored: str
    certain: bool

    @classmethod
    def of(cls, facts: Facts) -> Shape:
        """Read facts; guess what is missing."""
        parameters = float(facts.get("parameters", UNKNOWN_PARAMETERS))
        # Published decoders from 0.1 to 10 billion weights have a depth near 4.6 * (P / 1e6)^0.33 and P close to 12 * layers * hidden^2.
        layers = float(facts.get("layers", round(4.6 * (parameters / 1e6) ** 0.33)))
        hidden = float(facts.get("hidden", sqrt(parameters / 12 / max(1.0, layers))))
        heads = float(facts.get("heads") or max(1.0, round(hidden / 64)))
        vocabulary = float(facts.get("vocabulary", 50_000))
        shape = cls(
            parameters=parameters,
            layers=layers,
            hidden=hidden,
            intermediate=float(facts.get("intermediate", 3 * hidden)),
            heads=heads,
            kv_heads=float(facts.get("kv_heads") or heads),
            head_dim=float(facts.get("head_dim") or hidden / heads),
            vocabulary=vocabulary,
            tied=True,
            gated=str(facts.get("architecture", "")) not in _PLAIN,
            stored=str(facts.get("dtype", "float32")),
            certain=all(key in facts for key in _SHAPE_FACTS),
        )
        # The matrix is there once or twice; halfway between the two counts lies what biases and norms can never make up.
        return shape if parameters < shape.linear + 1.5 * shape.embedding else _untied(shape)

    @property
    def queries(self) -> float:
        """Width of all queries of a position."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> float:
        """Width of all keys of a position; values have the same."""
        return self.kv_heads * self.head_dim

    @property
    def embedding(self) -> float:
        """Number of weights of the embedding of tokens."""
        return self.vocabulary * self.hidden

    @property
    def linear(self) -> float:
        """Number of weights of the linear layers of all blocks."""
        attention = 2 * self.hidden * (self.queries + self.keys)
        return self.layers * (attention + (3 if self.gated else 2) * self.hidden * self.intermediate)

    @property
    def stored_bytes(self) -> float:
        """Bytes of the weights on disk."""
        return self.parameters * BYTES.get(self.stored, 4)

    def weights(self, bytes_each: int = 4) -> float:
        """Bytes of the weights in memory."""
        return self.parameters * bytes_each

    @property
    def outputs(self) -> float:
        """Outputs of all linear layers of a block."""
        return 2 * self.hidden + (2 if self.gated else 1) * self.intermediate + self.queries + 2 * self.keys

    def lora(self, rank: int) -> float:
        """Number of weights of a LoRA adapter on all linear layers of every block: `rank` rows and columns of each matrix."""
        attention = 4 * self.hidden + 2 * self.queries + 2 * self.keys
        feed_forward = (3 if self.gated else 2) * (self.hidden + self.intermediate)
        return rank * self.layers * (attention + feed_forward)


def _untied(shape: Shape) -> Shape:
    from dataclasses import replace

    return replace(shape, tied=False)


def tokens_of(facts: Facts, name: str, limit: float, default: float) -> float:
    """Mean tokens of a text column from its mean characters (`chars_prompt`), cut at a limit."""
    characters = facts.get(name)
    tokens = default if characters is None else float(characters) / CHARACTERS_PER_TOKEN + 2
    return min(limit, tokens)
