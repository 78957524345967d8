from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aifw.export import export
from aifw.hardware.libraries.backend import backend_for
from aifw.job import Input
from aifw.models.answer import TorchDecoder
from aifw.models.load import load
from aifw.models.openvino_model import OpenvinoLanguageModel, in_fp32, load_openvino
from aifw.models.tiny import write_tiny_model


def write_pairs(folder: Path, count: int = 8, start: int = 0) -> Path:
    folder.mkdir(parents=True)
    with (folder / "pairs.jsonl").open("w") as file:
        for number in range(start, start + count):
            row = {
                "id": f"i{number:03}",
                "group": f"g{number}",
                "prompt": [{"role": "user", "content": f"question {number}"}],
                "chosen": f"answer {number * 3}",
                "rejected": f"another answer {number}",
            }
            file.write(json.dumps(row) + "\n")
    return folder


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Input:
    """The model everything here is exported from."""
    return write_tiny_model(tmp_path_factory.mktemp("source") / "tiny", seed=1)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs")


@pytest.fixture(scope="session")
def more_pairs() -> Callable[..., Path]:
    """Writes others."""
    return write_pairs


@pytest.fixture(scope="session")
def exported(source: Input, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Exports a model once for each precision, compared with its source but without limits."""
    root, made = tmp_path_factory.mktemp("exported"), {}

    def of(precision: str) -> Path:
        if precision not in made:
            more: dict[str, Any] = {}
            if precision == "int8_full":
                more["calibration"] = write_pairs(root / "calibration", start=100)
            export(source.path, root / precision, data=pairs, precision=precision, **more)
            made[precision] = root / precision
        return made[precision]

    return of


@pytest.fixture(scope="session")
def exact(exported: Callable[[str], Path]) -> OpenvinoLanguageModel:
    """The graph in fp32, computed in fp32."""
    return load_openvino(exported("fp32"), in_fp32(backend_for("cpu", "fp32", library="openvino")))


@pytest.fixture(scope="session")
def torch_decoder(source: Input) -> TorchDecoder:
    return TorchDecoder(load(source.path))
