"""The artifact: its files, that they come out the same, and input that cannot be exported."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import pytest

from aifw.errors import InputInvalid, JobStopped, UsageError
from aifw.export import export
from aifw.export.artifact import make
from aifw.export.kinds import ExportSettings
from aifw.export.tokenizers import SAMPLES
from aifw.job import Control, Input, Job
from aifw.models.load import load_tokenizer


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_files_and_facts(source: Input, exported: Callable[[str], Path]) -> None:
    names = {path.name for path in exported("int8").iterdir()}
    assert {
        "config.json",
        "export.json",
        "generation_config.json",
        "openvino_detokenizer.bin",
        "openvino_detokenizer.xml",
        "openvino_model.bin",
        "openvino_model.xml",
        "openvino_tokenizer.bin",
        "openvino_tokenizer.xml",
        "tokenizer.json",
        "validation.json",
    } <= names
    assert not any(name.endswith(".safetensors") for name in names)


def test_the_same_job_makes_the_same_bytes(source: Input, pairs: Path, tmp_path: Path) -> None:
    settings = ExportSettings.model_validate({"model": "m", "validate": {"data": "d", "greedy_texts": 2}})
    inputs = {"model": source, "validate.data": Input("pairs.heldout", pairs)}
    jobs = []
    for name in ("a", "b"):
        told: list[float] = []
        job = Job(
            settings,
            tmp_path / name / "out",
            inputs,
            outputs=("model",),
            report=lambda event, data, told=told: told.append(data["done"]) if event == "progress" else None,  # type: ignore[misc]
        )
        make(job)
        assert told == sorted(told)
        jobs.append(job)
    assert _digests(jobs[0].out / "model") == _digests(jobs[1].out / "model")
    assert jobs[0].facts == jobs[1].facts
    facts = jobs[0].facts["model"]
    assert facts["layers"] == source.facts["layers"]
    assert facts["provenance"] == source.facts["provenance"]
    assert facts["precision"] == "int8"
    assert facts["validated_texts"] == 8
    assert 0.9 < facts["top1_agreement"] <= 1
    assert facts["summary"].startswith("int8, 30 KiB, perplexity +0.")


def test_graphs_of_the_tokenizer_say_what_it_says(source: Input, exported: Callable[[str], Path]) -> None:
    import openvino_tokenizers  # noqa: F401 - whatever is made from here on knows its operations

    tokenizer, core = load_tokenizer(source.path), openvino.Core()
    encode = core.compile_model(core.read_model(exported("int8") / "openvino_tokenizer.xml"), "CPU")
    decode = core.compile_model(core.read_model(exported("int8") / "openvino_detokenizer.xml"), "CPU")
    for text in SAMPLES:
        ids = tokenizer(text)["input_ids"]
        assert encode([text])["input_ids"][0].tolist() == ids
        assert decode([np.array([ids])])["string_output"][0] == tokenizer.decode(ids, skip_special_tokens=True)


def test_it_stops_when_asked(source: Input, tmp_path: Path) -> None:
    settings = ExportSettings.model_validate({"model": "m"})
    job = Job(settings, tmp_path / "out", {"model": source}, outputs=("model",), asked=Control(stop=True))
    with pytest.raises(JobStopped):
        make(job)


def test_what_is_no_causal_language_model(source: Input, exported: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="is a model of OpenVINO already"):
        export(exported("fp32"), tmp_path / "again")
    encoder = Path(shutil.copytree(source.path, tmp_path / "encoder"))
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps(config | {"model_type": "vit", "architectures": ["ViTModel"]}))
    with pytest.raises(InputInvalid):
        export(encoder, tmp_path / "out")
    with pytest.raises(InputInvalid):
        export(tmp_path, tmp_path / "out")


def test_ranges_are_not_found_on_what_is_validated_on(
    source: Input, pairs: Path, more_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    shared = more_pairs(tmp_path / "shared", start=7)
    with pytest.raises(InputInvalid, match=r"calibration` \(shared\) and `validate` \(pairs\) use 1 pairs in common"):
        export(source.path, tmp_path / "out", data=pairs, calibration=shared, precision="int8_full")
    others = more_pairs(tmp_path / "others", start=100)
    document = {"model": "m", "precision": "int8_full", "calibration": {"data": "a"}, "validate": {"data": "b"}}
    inputs = {
        "model": source,
        "calibration.data": Input("a", others, digest="abc"),
        "validate.data": Input("b", pairs, digest="abc"),
    }
    job = Job(ExportSettings.model_validate(document), tmp_path / "job/out", inputs, outputs=("model",))
    with pytest.raises(InputInvalid, match="use the same data in common"):
        make(job)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"precision": "int3"}, "precision: "),
        ({"target": "tensorrt"}, "target: "),
        ({"precision": "int8_full"}, "needs `calibration"),
        ({"bits": 4}, "bits: "),
        ({"group_size": 20}, "group_size"),
        ({"group_size": "channel", "precision": "int4"}, "`channel` for `int8` only"),
        ({"group_size": 32, "precision": "fp16"}, "`group_size` is for"),
        ({"validate": {"max_kl": -1}}, "validate"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, object], said: str, source: Input, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        export(source.path, tmp_path / "out", **settings)  # type: ignore[arg-type]
