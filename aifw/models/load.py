"""A language model from a folder of the store, in the number format the device is good at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aifw.errors import DependencyMissing, InputInvalid
from aifw.hardware.libraries.backend import Backend

PLAIN = Backend("torch", "cpu", "cpu", "fp32")
"""The processor, in the format every model has."""


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A model ready to compute, and its tokenizer.

    Attributes:
        module: A causal language model of transformers, in evaluation mode.
        tokenizer: Its tokenizer.
        device: Where it is: `cpu`, `xpu:0`, ...
        precision: The format of its weights.
        context: Most positions it was made for.
    """

    module: Any
    tokenizer: Any
    device: str
    precision: str
    context: int

    @property
    def vocabulary(self) -> int:
        """Number of logits."""
        return int(self.module.config.get_text_config().vocab_size)

    def score_rows(self, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[float]:
        """Sum of log-probabilities of each answer given its prompt; see `aifw.models.score.score_rows`."""
        from aifw.models.score import score_rows

        return score_rows(self, rows)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep libraries from drawing progress bars, from warning about themselves and from looking at the network."""
    import os
    import warnings

    settings = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    from transformers.utils import logging

    bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model, with a padding token.

    Raises:
        InputInvalid: The folder holds none that can be read.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise DependencyMissing(f"transformers is not installed: {error}", hint="pip install 'aifw[train]'") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputInvalid(f"{folder} holds no tokenizer that can be read: {error}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise InputInvalid(f"the tokenizer of {folder} has neither a padding nor an end token")
    return tokenizer


def load(folder: Path, backend: Backend = PLAIN) -> LanguageModel:
    """Load a `TextModel`. Only safetensors are read, and no code of the model's own is run.

    Args:
        folder: Where it is.
        backend: How it is to be run, from `aifw.hardware.libraries.backend.backend_for`.

    Raises:
        InputInvalid: The folder holds no model that can be read.
    """
    tokenizer = load_tokenizer(folder)
    from transformers import AutoModelForCausalLM

    with quiet():
        try:
            module = AutoModelForCausalLM.from_pretrained(
                folder, dtype=backend.dtype(), local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise InputInvalid(f"{folder} holds no model that can be read: {error}") from error
    module = module.to(backend.target).eval()
    context = getattr(module.config.get_text_config(), "max_position_embeddings", None)
    return LanguageModel(module, tokenizer, backend.device, backend.precision, int(context or 2**31))
