"""What a plan knows of exports and deployments."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from aifw.export.kinds import Deploy, DeploymentSettings, Export, ExportSettings
from aifw.hardware.machine import Accelerator, Cpu, Machine, Memory
from aifw.kind import Forecast, History, InputFacts, Observation, Workspace
from aifw.settings import reference_paths
from aifw.spec.load import load

STACK = """
apiVersion: aifw/v1
kind: Stack
metadata: {name: field-assistant}
models:
  base: {kind: causal_lm, source: models/base}
datasets:
  feedback: {kind: feedback, source: events.jsonl}
  preferences: {kind: preferences, from: feedback}
stages:
  dpo: {kind: dpo, model: base, data: preferences.train}
  int8: {kind: export, model: dpo, validate: {data: preferences.heldout, max_perplexity_increase: 2%}}
  check: {kind: evaluate, subject: int8, baseline: "@champion", data: preferences.heldout}
  promotion: {kind: promote, candidate: int8, alias: champion, evidence: check}
  deployed: {kind: deployment, model: int8}
aliases:
  champion: {initial: base}
"""
HERE = Machine("here", Cpu("any", 2), Memory(8 * 1024**3, 8 * 1024**3))
SMOLLM2: dict[str, Any] = {
    "architecture": "llama",
    "parameters": 134_515_008,
    "layers": 30,
    "hidden": 576,
    "intermediate": 1536,
    "heads": 9,
    "kv_heads": 3,
    "vocabulary": 49_152,
    "dtype": "float32",
}


def _export(model: dict[str, Any] = SMOLLM2, **settings: Any) -> Forecast:
    inputs = {"model": InputFacts("models.base", model, certain=True)}
    return Export().forecast(ExportSettings.model_validate({"model": "m", **settings}), inputs, HERE, History())


def test_references_are_found_where_they_are_written() -> None:
    assert {".".join(names) for names, _ in reference_paths(ExportSettings)} == {
        "model",
        "validate.data",
        "calibration.data",
    }


def test_an_alias_moves_from_a_text_model_to_an_exported_one(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(STACK)
    spec = load([tmp_path / "spec.yaml"])
    candidate = next(each for each in spec.resources["stages.promotion"].references if each.field == "candidate")
    assert (candidate.address, candidate.output) == ("stages.int8", "model")


def test_what_goes_together() -> None:
    with pytest.raises(ValidationError, match="needs `calibration"):
        ExportSettings.model_validate({"model": "m", "precision": "int8_full"})
    with pytest.raises(ValidationError, match="used by `precision: int8_full` only"):
        ExportSettings.model_validate({"model": "m", "calibration": {"data": "d"}})
    with pytest.raises(ValidationError, match="name the same pairs"):
        ExportSettings.model_validate(
            {
                "model": "m",
                "precision": "int8_full",
                "calibration": {"data": "p.heldout"},
                "validate": {"data": "p.heldout"},
            }
        )
    with pytest.raises(ValidationError, match=r"must fit into `static\.prompts`"):
        DeploymentSettings.model_validate({"model": "m", "prompt_tokens": 600})
    with pytest.raises(ValidationError, match="at most `positions`"):
        DeploymentSettings.model_validate({"model": "m", "static": {"prompts": [64], "positions": 32}})
    assert DeploymentSettings.model_validate({"model": "m", "prompt_tokens": 600, "shapes": "dynamic"})


def test_a_forecast_follows_what_there_is_to_do() -> None:
    plain, compared = _export(), _export(validate={"data": "d"})
    calibrated = _export(precision="int8_full", calibration={"data": "d", "texts": 64})
    assert plain.seconds.mid < compared.seconds.mid
    assert plain.seconds.mid < calibrated.seconds.mid
    assert plain.memory.mid <= compared.memory.mid
    assert 0.4e9 < plain.memory.mid < 1.5e9
    assert _export(precision="fp32").memory.mid < plain.memory.mid
    assert plain.facts["model"]["layers"] == 30
    assert plain.facts["model"]["share_of_fp32"] == pytest.approx(0.281, abs=0.001)
    assert "sizes are assumed" in _export({}).basis


def test_a_deployment_with_fixed_shapes_holds_more() -> None:
    inputs = {"model": InputFacts("stages.int8", {**SMOLLM2, "precision": "int8"}, certain=True)}

    def forecast(**settings: Any) -> Forecast:
        return Deploy().forecast(DeploymentSettings.model_validate({"model": "m", **settings}), inputs, HERE, History())

    assert forecast(shapes="dynamic").memory.mid < forecast(shapes="static").memory.mid
    assert forecast(requests=10).seconds.mid < forecast(requests=1000).seconds.mid


def test_a_deployment_is_tried_again_where_a_driver_appeared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npu, gpu = Accelerator("npu", "Intel NPU 8086:7D1D"), Accelerator("xpu:0", "Intel GPU 8086:7D55", "xe")
    found: dict[str, Any] = {"machine": HERE, "version": "2026.2.0"}
    monkeypatch.setattr("aifw.hardware.probe.probe", lambda: found["machine"])
    monkeypatch.setattr(
        "aifw.hardware.libraries.versions.installed_versions", lambda: {"openvino": found["version"], "torch": "2"}
    )

    def look(*devices: str) -> Observation:
        settings = DeploymentSettings.model_validate({"model": "m", "devices": devices or ["npu", "cpu"]})
        return Deploy().observe(settings, Workspace(tmp_path, lambda _: ""))

    first = look()
    assert first == look()
    assert first.summary == "cpu, OpenVINO 2026.2.0"
    assert not first.rememberable
    found["machine"] = replace(HERE, detected=(gpu,))
    assert look() == first
    assert look("xpu").summary == "xpu:0 by xe, OpenVINO 2026.2.0"
    found["machine"] = replace(HERE, detected=(gpu, npu))
    there = look()
    found["machine"] = replace(HERE, detected=(gpu, replace(npu, driver="intel_vpu")))
    driven = look()
    found["version"] = "2026.3.0"
    assert len({each.fingerprint for each in (first, there, driven, look())}) == 4


def test_looking_at_devices_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from aifw.export.kinds import Deploy, DeploymentSettings as S;"
        "from aifw.kind import Workspace;"
        f"Deploy().observe(S.model_validate({{'model': 'm'}}), Workspace(Path({str(tmp_path)!r}), lambda _: ''));"
        "print(sorted({'openvino', 'numpy', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
