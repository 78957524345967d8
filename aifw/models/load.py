"""A language model from a folder of the store, in the number format the device is good at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aifw.errors import DependencyMissing, InputInvalid

Precision = Literal["fp32", "bf16"]


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
    precision: Precision
    context: int


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


def computes_bf16(device: str) -> bool:
    """Whether a device computes in bf16 itself. Emulated on a processor it is many times slower than fp32."""
    import torch

    if device.partition(":")[0] == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return True


def choose_precision(wanted: Literal["auto", "fp32", "bf16"], device: str) -> Precision:
    """Resolve `auto` by what the device can do."""
    if wanted == "auto":
        return "bf16" if computes_bf16(device) else "fp32"
    return wanted


def use_threads(count: int) -> None:
    """Compute with that many threads; results are equal bit for bit only at the same number."""
    import torch

    torch.set_num_threads(max(1, count))


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


def load(folder: Path, *, device: str = "cpu", precision: Precision = "fp32") -> LanguageModel:
    """Load a `TextModel`. Only safetensors are read, and no code of the model's own is run.

    Raises:
        InputInvalid: The folder holds no model that can be read.
    """
    tokenizer = load_tokenizer(folder)
    import torch
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    with quiet():
        try:
            module = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise InputInvalid(f"{folder} holds no model that can be read: {error}") from error
    module = module.to(device).eval()
    context = getattr(module.config.get_text_config(), "max_position_embeddings", None)
    return LanguageModel(module, tokenizer, device, precision, int(context or 2**31))
