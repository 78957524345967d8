from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from aifw.run.worker import out_of_space


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], check=False, capture_output=True
    )
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_weights_that_do_not_fit_the_disk_are_known_as_that(small_disk: Path) -> None:
    with pytest.raises(SafetensorError) as caught:
        save_file({"weight": torch.zeros(500_000)}, small_disk / "tensors.safetensors")
    assert out_of_space(caught.value)


def test_other_errors_are_not() -> None:
    assert out_of_space(OSError(errno.ENOSPC, "full"))
    assert out_of_space(OSError(errno.EDQUOT, "quota"))
    assert not out_of_space(OSError(errno.ENOENT, "No space left on device"))
    assert not out_of_space(ValueError("no such thing"))
