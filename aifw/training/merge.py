"""Adapters on disk, and their sum with the weights they were trained beside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from aifw.errors import JobError
from aifw.models.describe import weights
from aifw.models.kinds import model_files

_COMPARED_TOKENS, _COMPARED_LOGITS = 32, 8
"""Of a row that both forms of a model are asked about, and how many positions of it."""
_MOST_MOVED = 1e-2
"""Of a natural logarithm, between an adapter beside the weights and added to them, both in fp32."""


def save_adapter(model: Any, folder: Path) -> None:
    """Write an adapter in the format of PEFT, the same bytes every time.

    Args:
        model: A `PeftModel`.
        folder: Existing folder; gets `adapter_config.json` and `adapter_model.safetensors`.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    trained = get_peft_model_state_dict(model)
    save_file(
        {name: trained[name].detach().cpu().float().contiguous() for name in sorted(trained)},
        folder / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    config = model.peft_config["default"]
    config.inference_mode = True
    config.save_pretrained(folder)
    path = folder / "adapter_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    # Sets come out in any order, and where the model lay on this machine is nobody's business.
    content["base_model_name_or_path"] = None
    for key, value in content.items():
        if isinstance(value, list):
            content[key] = sorted(value)
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for written in folder.iterdir():
        written.chmod(0o644)


def merge_adapter(base: Path, adapter: Path, out: Path) -> float:
    """Write a model with an adapter added to its weights, in the number format the model is stored in.

    The sum is computed in fp32 and must say what model and adapter say beside each other. Configuration, tokenizer and licence are
    those of the model.

    Args:
        base: Folder of a `TextModel`.
        adapter: Folder of an `Adapter`.
        out: Existing empty folder.

    Returns:
        How far log-probabilities moved, at most, by rounding to the stored format.

    Raises:
        JobError: Another model came out than was trained.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True, use_safetensors=True, dtype=torch.float32)
    beside = PeftModel.from_pretrained(model, adapter, is_trainable=False).eval()
    tokens = _some_tokens(model)
    trained = _log_probabilities(beside, tokens)
    merged = beside.merge_and_unload()
    moved = float((_log_probabilities(merged, tokens) - trained).abs().max())
    # Written so that a difference that is not a number is refused as well.
    if not moved <= _MOST_MOVED:
        raise JobError(
            f"adding the adapter to the weights changes what the model says: log-probabilities move by {moved:.3g}, {_MOST_MOVED} is allowed",
            hint="leave out of `lora.target_modules` what this architecture shares between layers, and report it",
        )
    write_model(merged, base, out)
    return float((_log_probabilities(merged.float(), tokens) - trained).abs().max())


def write_model(model: Any, base: Path, out: Path) -> None:
    """Write a trained model in the number format it came in.

    Args:
        model: A causal language model of transformers; its weights are rounded.
        base: Folder it came from, for the rest of its files.
        out: Existing empty folder.
    """
    import torch

    counted = weights(base)
    stored = getattr(torch, max(sorted(counted), key=lambda name: counted[name]))
    model.to(stored).save_pretrained(out, max_shard_size="1000GB")
    for file in model_files(base):
        if not file.name.startswith("model"):
            shutil.copyfile(file, out / file.name)
    for written in out.iterdir():
        written.chmod(0o644)


def _some_tokens(model: Any) -> Any:
    """A row of tokens from all over the vocabulary, the same every time."""
    import torch

    text = model.config.get_text_config()
    count = min(_COMPARED_TOKENS, int(getattr(text, "max_position_embeddings", None) or _COMPARED_TOKENS))
    return torch.randint(0, text.vocab_size, (1, count), generator=torch.Generator().manual_seed(0))


def _log_probabilities(model: Any, tokens: Any) -> Any:
    import torch

    with torch.inference_mode():
        logits = model(input_ids=tokens, use_cache=False, logits_to_keep=_COMPARED_LOGITS).logits
        return logits[0, -_COMPARED_LOGITS:].float().log_softmax(-1)
