"""Tokenizer and detokenizer as graphs of OpenVINO, so that OpenVINO GenAI needs neither Python's tokenizers nor transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aifw.errors import DependencyMissing, InputInvalid
from aifw.export.graph import import_openvino, number_names

SAMPLES = (
    "The quick brown fox",
    "  two spaces,\n\na blank line\tand a tab",
    "naïve café, 1,234.5 % of Ω & 漢字 🙂",
    "<|im_start|>user\nHello<|im_end|>\n",
)
"""Texts on which both tokenizers are compared."""


def write_tokenizers(tokenizer: Any, folder: Path, name: str) -> str | None:
    """Write `openvino_tokenizer.*` and `openvino_detokenizer.*`.

    Args:
        tokenizer: Of transformers.
        folder: Existing folder.
        name: What to call the model in an error.

    Returns:
        What a user should know: the texts that come out differently, if any do.

    Raises:
        InputInvalid: The tokenizer is of a sort that cannot be converted.
    """
    openvino = import_openvino()
    try:
        from openvino_tokenizers import convert_tokenizer
    except ImportError as error:
        raise DependencyMissing(
            f"openvino-tokenizers cannot be used: {error}", hint="pip install 'aifw[openvino]'"
        ) from error
    try:
        there, back = convert_tokenizer(tokenizer, with_detokenizer=True)
    except Exception as error:  # It reads the tokenizer's insides, and fails in whatever way they surprise it.
        raise InputInvalid(f"the tokenizer of {name} cannot be converted for OpenVINO: {error}") from error
    number_names(there, "tokenizer")
    number_names(back, "detokenizer")
    openvino.save_model(there, folder / "openvino_tokenizer.xml", compress_to_fp16=False)
    openvino.save_model(back, folder / "openvino_detokenizer.xml", compress_to_fp16=False)
    # Only one made after that import knows the operations of tokenizers.
    core = openvino.Core()
    encode, decode = core.compile_model(there, "CPU"), core.compile_model(back, "CPU")
    different = [text for text in SAMPLES if not _same(text, tokenizer, encode, decode)]
    if not different:
        return None
    return f"OpenVINO's tokenizer differs from the model's own on {len(different)} of {len(SAMPLES)} sample texts"


def _same(text: str, tokenizer: Any, encode: Any, decode: Any) -> bool:
    import numpy as np

    wanted = list(tokenizer(text)["input_ids"])
    found = [int(token) for token in encode([text])["input_ids"][0]]
    if found != wanted:
        return False
    plain = tokenizer.decode(wanted, skip_special_tokens=True)
    return not wanted or str(decode([np.array([wanted])])["string_output"][0]) == plain
