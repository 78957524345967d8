from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aifw.errors import Refused
from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.plan.compile import compile as compile_plan
from aifw.plan.snapshot import Snapshot
from aifw.spec.load import load
from aifw.spec.models import Spec

MACHINE = Machine("here", Cpu("cpu", 2), Memory(2**34, 2**34), devices=("xpu:0", "cpu"))


def spec(folder: Path, devices: str) -> Spec:
    path = folder / "spec.yaml"
    path.write_text(
        "apiVersion: aifw/v1\nkind: Stack\nmetadata: {name: t}\n"
        f"hardware: {{devices: {devices}}}\nstages:\n  a: {{kind: toy}}\n"
    )
    return load([path])


@pytest.mark.parametrize(
    ("devices", "used"), [("auto", "xpu:0"), ("[cpu]", "cpu"), ("[cpu, 'xpu:0']", "cpu"), ("[npu, cpu]", "cpu")]
)
def test_the_first_allowed_device_that_is_there(tmp_path: Path, devices: str, used: str) -> None:
    (step,) = compile_plan(spec(tmp_path, devices), Snapshot(MACHINE)).steps
    assert step.device == used


def test_no_allowed_device_is_refused_with_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="npu") as refused:
        compile_plan(spec(tmp_path, "[npu]"), Snapshot(replace(MACHINE, devices=("cpu",))))
    assert "here: cpu" in str(refused.value.hint)
