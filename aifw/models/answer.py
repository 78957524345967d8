"""Continues a text token by token, with whatever model: of torch or of OpenVINO, with shapes of any size or fixed ones."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from aifw.errors import InputInvalid, UsageError
from aifw.hardware.libraries.backend import Wanted, backend_for, use_threads
from aifw.models.chat import Message, encode_prompt, has_template
from aifw.models.load import LanguageModel, load, quiet
from aifw.models.openvino_model import is_openvino, load_openvino

if TYPE_CHECKING:
    from numpy.typing import NDArray

_UNFINISHED = "\ufffd"
"""What a tokenizer writes for a character of which some bytes are still to come."""


class Decoder(Protocol):
    """A model that reads a text piece by piece."""

    @property
    def tokenizer(self) -> Any:
        """Of transformers."""

    @property
    def context(self) -> int:
        """Most positions it was made for."""

    def forget(self) -> None:
        """Begin a new text."""

    def read(self, tokens: Sequence[int]) -> NDArray[Any]:
        """Go on with a text by at least one token; gives the logits of the token after it, fp32."""


class TorchDecoder:
    """A model of torch as a `Decoder`.

    Args:
        model: As loaded.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.tokenizer = model.tokenizer
        self.context = model.context
        self._model = model
        self._cache: Any = None

    def forget(self) -> None:
        """Begin a new text."""
        self._cache = None

    def read(self, tokens: Sequence[int]) -> NDArray[Any]:
        """Go on with a text by at least one token; gives the logits of the token after it, fp32."""
        import torch

        with torch.inference_mode():
            ids = torch.tensor([list(tokens)], device=self._model.device)
            output = self._model.module(input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._cache = output.past_key_values
        found: NDArray[Any] = output.logits[0, -1].float().cpu().numpy()
        return found


@dataclass(frozen=True, slots=True)
class Answer:
    """What was generated.

    Attributes:
        text: Without special tokens.
        tokens: Ids, without the one that ended it.
        prompt_tokens: How many the prompt had.
        stopped: `end` if the model ended its turn, `length` if it was not allowed more.
    """

    text: str
    tokens: tuple[int, ...]
    prompt_tokens: int
    stopped: str


def open_decoder(folder: Path, device: str = "cpu", precision: Wanted = "fp32", threads: int = 1) -> Decoder:
    """Load a `TextModel` or an `OpenvinoModel`.

    Args:
        folder: Where it is.
        device: As a spec names it.
        precision: Of the arithmetic.
        threads: Of the processor.

    Raises:
        InputInvalid: The folder holds no model that can be read.
        JobError: The device is not here.
    """
    with quiet():
        if is_openvino(folder):
            return load_openvino(folder, backend_for(device, precision, library="openvino", threads=threads))
        use_threads(threads)
        return TorchDecoder(load(folder, backend_for(device, precision, threads=threads)))


def ends_of_turn(folder: Path, tokenizer: Any) -> frozenset[int]:
    """Tokens after which a model has finished: those its configuration for generating names, and its tokenizer's own."""
    import json

    found = {tokenizer.eos_token_id}
    try:
        named = json.loads((folder / "generation_config.json").read_text(encoding="utf-8")).get("eos_token_id")
    except (OSError, ValueError):
        named = None
    found.update(named if isinstance(named, list) else [named])
    return frozenset(token for token in found if isinstance(token, int))


def next_tokens(
    decoder: Decoder,
    prompt: Sequence[int],
    most: int,
    *,
    ends: frozenset[int] = frozenset(),
    temperature: float = 0.0,
    seed: int = 0,
) -> Iterator[int]:
    """Continue a prompt.

    Args:
        decoder: Whose text so far is forgotten.
        prompt: Token ids, at least one.
        most: Tokens to generate at most.
        ends: Tokens that end it; one of them is the last that is given.
        temperature: Logits are divided by it; 0 always takes the most probable token.
        seed: Of the choice.

    Raises:
        InputInvalid: The prompt leaves no room in the model's window.
    """
    import numpy as np

    if len(prompt) >= decoder.context:
        raise InputInvalid(
            f"the prompt has {len(prompt):,} tokens, the model's window {decoder.context:,}",
            hint="shorten the prompt",
        )
    random = np.random.default_rng(seed)
    decoder.forget()
    logits = decoder.read(prompt)
    for count in range(min(most, decoder.context - len(prompt))):
        token = _chosen(logits, temperature, random)
        yield token
        if token in ends:
            return
        if count + 1 < min(most, decoder.context - len(prompt)):
            logits = decoder.read([token])


def _chosen(logits: NDArray[Any], temperature: float, random: Any) -> int:
    import numpy as np

    if temperature == 0:
        return int(logits.argmax())
    scaled = logits.astype(np.float64) / temperature
    odds = np.exp(scaled - scaled.max())
    return int(random.choice(len(odds), p=odds / odds.sum()))


def generate(
    folder: Path,
    messages: Sequence[Message],
    *,
    max_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
    device: str = "cpu",
    precision: Wanted = "fp32",
    threads: int = 1,
    tell: Callable[[str], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
) -> Answer:
    """Answer a conversation with a model on disk.

    Args:
        folder: Of a `TextModel` or an `OpenvinoModel`.
        messages: Of `role` and `content`, the last one of the user; the chat template is applied.
        max_tokens: Tokens to generate at most.
        temperature: 0 always takes the most probable token.
        seed: Of the choice.
        device: Where to compute.
        precision: Of the arithmetic.
        threads: Of the processor.
        tell: Called with each piece of text as soon as it is there.
        note: Called with what a user should know.

    Raises:
        InputInvalid: The folder holds no model, the template refuses the messages, or they do not fit the window.
        UsageError: A number is out of its range.
    """
    if max_tokens < 1 or temperature < 0:
        raise UsageError("`max_tokens` must be at least 1, and `temperature` not negative")
    decoder = open_decoder(folder, device, precision, threads)
    if not has_template(decoder.tokenizer):
        note("the tokenizer has no chat template; the prompt is given to the model as it is")
    # Whole: one that does not fit is refused below, and not cut.
    prompt = encode_prompt(decoder.tokenizer, messages, max_prompt=sys.maxsize)
    if not prompt:
        raise InputInvalid("the prompt has no token")
    ends = ends_of_turn(folder, decoder.tokenizer)
    tokens: list[int] = []
    told, stopped = "", "length"
    for token in next_tokens(decoder, prompt, max_tokens, ends=ends, temperature=temperature, seed=seed):
        if token in ends:
            stopped = "end"
            break
        tokens.append(token)
        text = decoder.tokenizer.decode(tokens, skip_special_tokens=True)
        if not text.endswith(_UNFINISHED):
            tell(text[len(told) :])
            told = text
    text = decoder.tokenizer.decode(tokens, skip_special_tokens=True)
    tell(text[len(told) :])
    return Answer(text, tuple(tokens), len(prompt), stopped)
