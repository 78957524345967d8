"""Versions from the names of metadata folders."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from aifw.hardware.libraries.versions import installed_versions, ipex_mismatch, release


def _folders(root: Path, *names: str) -> str:
    for name in names:
        (root / name).mkdir(parents=True)
    return str(root)


def test_the_names_of_folders_tell_versions(tmp_path: Path) -> None:
    folder = _folders(
        tmp_path / "site-packages",
        "torch-2.13.0+xpu.dist-info",
        "intel_extension_for_pytorch-2.8.10+xpu.dist-info",
        "torchvision-1.0.dist-info",
        "openvino_tokenizers-1.0.dist-info",
        "openvino",
    )
    assert installed_versions([folder]) == {"torch": "2.13.0+xpu", "intel-extension-for-pytorch": "2.8.10+xpu"}


def test_the_first_on_the_path_decides(tmp_path: Path) -> None:
    first = _folders(tmp_path / "a", "torch-2.8.0.dist-info")
    second = _folders(tmp_path / "b", "torch-2.13.0.dist-info", "openvino-2026.4.1.dist-info")
    absent = str(tmp_path / "absent")
    assert installed_versions([absent, first, second]) == {"torch": "2.8.0", "openvino": "2026.4.1"}


def test_they_agree_with_the_metadata_of_this_environment() -> None:
    found = installed_versions()
    assert found == {name: version(name) for name in found}
    assert "torch" not in found or "torch" not in sys.modules or sys.modules["torch"].__version__ == found["torch"]


@pytest.mark.parametrize(
    ("text", "numbers"), [("2.13.0+cpu", (2, 13, 0)), ("2.8", (2, 8)), ("main", ()), ("", ()), ("3rc1", (3,))]
)
def test_release(text: str, numbers: tuple[int, ...]) -> None:
    assert release(text) == numbers


@pytest.mark.parametrize(
    ("extension", "torch", "problem"),
    [
        ("2.8.0", "2.8.1+cpu", None),
        ("2.8.10+xpu", "2.8.0+xpu", None),
        ("2.8.0", "2.13.0+cpu", "built for torch 2.8, not for 2.13.0+cpu"),
        ("2.8.0", None, "without torch"),
    ],
)
def test_the_extension_goes_with_one_minor_release(extension: str, torch: str | None, problem: str | None) -> None:
    found = ipex_mismatch(extension, torch)
    assert found is None if problem is None else problem in str(found)
