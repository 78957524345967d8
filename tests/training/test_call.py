from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aifw.errors import InputInvalid, JobStopped
from aifw.job import Input
from aifw.models.load import load
from aifw.models.pairs import read_pairs
from aifw.training import dpo
from aifw.training.call import model_input, pairs_input

ROWS = [
    {"prompt": f"question {number}", "chosen": f"yes {number}", "rejected": f"no {number} at all"}
    for number in range(6)
]
SETTINGS: dict[str, Any] = {"effective_batch": 2, "lora": {"r": 2}, "precision": "fp32", "threads": 1}


def test_a_model_is_trained_from_rows(dpo_inputs: dict[str, Input], tmp_path: Path) -> None:
    model = dpo.fine_tune(dpo_inputs["model"].path, ROWS, tmp_path / "out", epochs=2, **SETTINGS)
    assert load(model).module.num_parameters() > 0
    assert json.loads((tmp_path / "out/adapter/metrics.json").read_text())["steps"] == 6
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["adapter", "cache", "model"]


def test_nothing_of_the_users_is_replaced(dpo_inputs: dict[str, Input], tmp_path: Path) -> None:
    model = dpo.fine_tune(dpo_inputs["model"].path, ROWS, tmp_path / "out", **SETTINGS)
    before = (model / "model.safetensors").read_bytes()
    with pytest.raises(InputInvalid, match="lies where the result goes"):
        dpo.fine_tune(model, ROWS, tmp_path / "out", **SETTINGS)
    assert (model / "model.safetensors").read_bytes() == before
    folder = tmp_path / "out/pairs"
    folder.mkdir()
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    kept = (folder / "pairs.jsonl").read_bytes()
    dpo.fine_tune(dpo_inputs["model"].path, folder, tmp_path / "out", epochs=2, **SETTINGS)
    assert (folder / "pairs.jsonl").read_bytes() == kept


def test_a_call_goes_on_where_it_was_interrupted(dpo_inputs: dict[str, Input], tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    steps: list[float] = []

    def interrupting(name: str, data: Any) -> None:
        if data.get("unit") == "step":
            steps.append(data["done"])
            if len(steps) == 2:
                raise JobStopped("enough")

    with pytest.raises(JobStopped):
        dpo.fine_tune(
            dpo_inputs["model"].path, file, tmp_path / "out", report=interrupting, checkpoint_every="0s", **SETTINGS
        )
    dpo.fine_tune(
        dpo_inputs["model"].path, file, tmp_path / "out", report=interrupting, checkpoint_every="0s", **SETTINGS
    )
    assert steps == [1, 2, 2, 3]
    whole = dpo.fine_tune(dpo_inputs["model"].path, ROWS, tmp_path / "whole", **SETTINGS)
    name = "model.safetensors"
    assert (whole / name).read_bytes() == (tmp_path / "out/model" / name).read_bytes()


def test_rows_become_pairs(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    rows = [*ROWS, {"id": "mine", "group": "g", "prompt": turns, "chosen": "x", "rejected": "y"}, ROWS[0]]
    found = read_pairs(pairs_input(rows, tmp_path).path)
    assert len(found) == 8
    assert found[0].prompt == ({"role": "user", "content": "question 0"},)
    assert found[0].group == found[7].group != found[1].group
    assert (found[6].id, found[6].group, len(found[6].prompt)) == ("mine", "g", 3)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([ROWS[0], {"prompt": "a", "chosen": "b"}], "rows:2: not a preference pair: KeyError\\('rejected'\\)"),
        ([{"prompt": 3, "chosen": "b", "rejected": "c"}], "rows:1: not a preference pair"),
        ([{"prompt": "a", "chosen": 1, "rejected": "c"}], "rows:1: `chosen` and `rejected` must be text"),
        (["text"], "rows:1: not a preference pair"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, rows: Any, said: str) -> None:
    with pytest.raises(InputInvalid, match=said):
        pairs_input(rows, tmp_path)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text("{}\n{")
    with pytest.raises(InputInvalid, match=r"broken\.jsonl:1: not a preference pair"):
        pairs_input(tmp_path / "broken.jsonl", tmp_path / "out")
    with pytest.raises(InputInvalid, match="cannot be read"):
        pairs_input(tmp_path / "absent.jsonl", tmp_path / "out")
    with pytest.raises(InputInvalid, match="there is no model at"):
        model_input(tmp_path / "absent")
