from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from aifw.job import Control, Input, Job
from aifw.models.tiny import write_tiny_model
from aifw.training.kinds import DpoSettings


class Asking:
    """Asks a job for something once a step is done, and remembers what was reported."""

    def __init__(self, step: int = 0, **asked: bool) -> None:
        self.control, self.step, self.asked = Control(), step, asked
        self.notes: list[str] = []
        self.steps: list[int] = []
        self.units: set[str] = set()

    def __call__(self, name: str, data: Mapping[str, Any]) -> None:
        if name == "note":
            self.notes.append(data["text"])
        if name == "progress":
            self.units.add(data["unit"])
        if name == "progress" and data["unit"] == "step":
            self.steps.append(data["done"])
            if data["done"] == self.step:
                vars(self.control).update(self.asked)


@pytest.fixture(scope="session")
def asking() -> type[Asking]:
    return Asking


@pytest.fixture(scope="session")
def make_job() -> Callable[..., Job[Any]]:
    """A job without an engine: `make_job(Settings, folder, inputs, **settings)`."""

    def make(settings: Any, folder: Path, inputs: Mapping[str, Input], **changes: Any) -> Job[Any]:
        asked = changes.pop("asked", Asking())
        resume, memory = changes.pop("resume", None), changes.pop("memory", None)
        values = {"model": "m", "effective_batch": 4, "learning_rate": 1e-2, "lora": {"r": 4}, "precision": "fp32"}
        return Job(
            settings.model_validate(values | changes),
            out=folder / "out",
            inputs=inputs,
            seed=7,
            outputs=("model", "adapter"),
            checkpoints=folder / "checkpoints",
            asked=asked.control,
            report=asked,
            resume=resume,
            memory=memory,
        )

    return make


@pytest.fixture(scope="session")
def digests() -> Callable[[Path], dict[str, str]]:
    def of(folder: Path) -> dict[str, str]:
        return {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return of


@pytest.fixture(scope="session")
def curve() -> Callable[[Job[Any]], list[dict[str, float]]]:
    def of(job: Job[Any]) -> list[dict[str, float]]:
        found: list[dict[str, float]] = json.loads((job.out / "adapter/metrics.json").read_text())["curve"]
        return found

    return of


def _words(drawn: random.Random, count: int) -> str:
    return " ".join("".join(drawn.choices("abcdefgh", k=4)) for _ in range(count))


@pytest.fixture(scope="session")
def write_rows() -> Callable[[Path, list[dict[str, Any]]], Input]:
    """Writes the one file of a data set: pairs, or conversations where the rows have messages."""

    def write(folder: Path, rows: list[dict[str, Any]]) -> Input:
        folder.mkdir(parents=True)
        name = "conversations" if rows and "messages" in rows[0] else "pairs"
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return Input(folder.name, folder)

    return write


@pytest.fixture(scope="session")
def inputs(
    tmp_path_factory: pytest.TempPathFactory, write_rows: Callable[[Path, list[dict[str, Any]]], Input]
) -> dict[str, Input]:
    """A tiny model, 18 pairs, 6 others whose answers are told apart by the same words, and 14 conversations of one to three answers."""
    root = tmp_path_factory.mktemp("inputs")
    drawn = random.Random(1)

    def pair(number: int) -> dict[str, Any]:
        prompt = [{"role": "user", "content": f"{number} {_words(drawn, 2)}"}]
        answers = {"chosen": f"yes {_words(drawn, 2)}", "rejected": f"no {_words(drawn, drawn.randint(2, 4))}"}
        return {"id": f"p{number:02}", "group": f"g{number}", "prompt": prompt, **answers}

    def conversation(number: int) -> dict[str, Any]:
        messages = []
        for _ in range(1 + number % 3):
            messages.append({"role": "user", "content": _words(drawn, drawn.randint(1, 4))})
            messages.append({"role": "assistant", "content": _words(drawn, drawn.randint(1, 5))})
        return {"id": f"c{number:02}", "messages": messages}

    pairs = [pair(number) for number in range(24)]
    return {
        "model": write_tiny_model(root / "model"),
        "pairs": write_rows(root / "pairs", pairs[:18]),
        "heldout": write_rows(root / "heldout", pairs[18:]),
        "conversations": write_rows(root / "conversations", [conversation(number) for number in range(14)]),
    }


@pytest.fixture(scope="session")
def dpo_inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Input]:
    root = tmp_path_factory.mktemp("dpo-inputs")
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
def dpo_job(tmp_path: Path) -> Callable[..., Job[DpoSettings]]:
    """A job of kind `dpo` in a folder of its own: `dpo_job(name, inputs, **settings)`."""

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
