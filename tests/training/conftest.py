from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aifw.job import Control, Input, Job
from aifw.models.tiny import write_tiny_model
from aifw.training.kinds import DpoSettings


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Input]:
    root = tmp_path_factory.mktemp("inputs")
    generator = random.Random(1)
    rows = []
    for number in range(18):
        words = ["".join(generator.choices("abcdefgh", k=4)) for _ in range(8)]
        rows.append(
            {
                "id": f"p{number:02}",
                "group": f"g{number}",
                "prompt": [{"role": "user", "content": " ".join(words[:2])}],
                "chosen": " ".join(words[2:5]),
                "rejected": " ".join(words[4:8]),
            }
        )
    (root / "pairs").mkdir()
    (root / "pairs/pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"model": write_tiny_model(root / "model"), "data": Input("pairs", root / "pairs")}


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Job[DpoSettings]]:
    """A job of kind `dpo` in a folder of its own: `make_job(name, inputs, **settings)`."""

    def make(name: str, inputs: dict[str, Input], **changes: Any) -> Job[DpoSettings]:
        asked = changes.pop("asked", Control())
        report = changes.pop("report", lambda name, data: None)
        resume, memory = changes.pop("resume", None), changes.pop("memory", None)
        settings = {
            "model": "m",
            "data": "d",
            "effective_batch": 4,
            "learning_rate": 1e-2,
            "lora": {"r": 4},
            "precision": "fp32",
        } | changes
        if settings.get("tuning") == "full" and "lora" not in changes:
            del settings["lora"]
        return Job(
            DpoSettings.model_validate(settings),
            out=tmp_path / name / "out",
            inputs=inputs,
            seed=7,
            outputs=("model", "adapter"),
            checkpoints=tmp_path / name / "checkpoints",
            cache_root=tmp_path / "cache",
            asked=asked,
            report=report,
            resume=resume,
            memory=memory,
        )

    return make
