"""Adapters on disk, and their sum with the weights they were trained beside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from aifw.models.describe import weights
from aifw.models.kinds import model_files


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


def merge_adapter(base: Path, adapter: Path, out: Path) -> None:
    """Write a model with an adapter added to its weights, in the number format the model is stored in.

    The sum is computed in fp32. Configuration, tokenizer and licence are those of the model.

    Args:
        base: Folder of a `TextModel`.
        adapter: Folder of an `Adapter`.
        out: Existing empty folder.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    counted = weights(base)
    stored = getattr(torch, max(sorted(counted), key=lambda name: counted[name]))
    model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True, use_safetensors=True, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, adapter, is_trainable=False).merge_and_unload()
    merged.to(stored).save_pretrained(out, max_shard_size="1000GB")
    for file in model_files(base):
        if not file.name.startswith("model"):
            shutil.copyfile(file, out / file.name)
    for written in out.iterdir():
        written.chmod(0o644)
