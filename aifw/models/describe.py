"""What a model folder holds, read from its headers without loading weights."""

from __future__ import annotations

import json
import re
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from aifw.errors import InputInvalid

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
_MOST_HEADER_BYTES = 100 * 1024**2


def weights(folder: Path) -> Counter[str]:
    """Number of weights by type, from the headers of every `*.safetensors` in a folder.

    Raises:
        InputInvalid: A file is not in the format of safetensors.
    """
    found: Counter[str] = Counter()
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                if not 2 <= size <= _MOST_HEADER_BYTES:
                    raise ValueError(f"a header of {size} bytes")
                header = json.loads(file.read(size))
            for name, tensor in header.items():
                if name != "__metadata__":
                    found[_DTYPES.get(tensor["dtype"], tensor["dtype"].lower())] += prod(tensor["shape"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputInvalid(f"{path} is not in the format of safetensors: {error}") from error
    return found


def describe(folder: Path) -> dict[str, Any]:
    """Facts of a `TextModel`, except its name and licence.

    Raises:
        InputInvalid: The configuration cannot be read or is not one of a language model.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).get_text_config()
    except (OSError, ValueError, KeyError) as error:
        raise InputInvalid(f"{folder / 'config.json'} is not a configuration transformers knows: {error}") from error
    counted = weights(folder)
    heads = config.num_attention_heads
    return {
        "architecture": config.model_type,
        "parameters": sum(counted.values()),
        "dtype": max(sorted(counted), key=lambda name: counted[name]),
        "layers": config.num_hidden_layers,
        "hidden": config.hidden_size,
        "intermediate": getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        "heads": heads,
        "kv_heads": getattr(config, "num_key_value_heads", None) or heads,
        "vocabulary": config.vocab_size,
        "context": getattr(config, "max_position_embeddings", None),
    }


def context_of(folder: Path) -> int:
    """Most positions a `TextModel` was made for; very many where its configuration names no limit.

    Raises:
        InputInvalid: The configuration cannot be read or is not one of a language model.
    """
    return int(describe(folder)["context"] or 2**31)


def stated_licence(folder: Path) -> str | None:
    """The licence a wheel's METADATA or a model card's header states, or None."""
    patterns = {
        "METADATA": r"^License(?:-Expression)?:\s*(\S.*)$",
        "README.md": r"\A---\n(?:.*\n)*?license:\s*(\S+)",
    }
    for name, pattern in patterns.items():
        path = folder / name
        if path.is_file():
            match = re.search(pattern, path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
            if match and match[1].strip().upper() != "UNKNOWN":
                return match[1].strip()
    return None
