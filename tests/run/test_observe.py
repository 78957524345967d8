"""What a plan is made from: the machine with what its libraries said, where somebody asked them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from aifw.hardware.libraries import profile
from aifw.hardware.libraries.runtime import Runtime, RuntimeDevice
from aifw.hardware.probe import probe
from aifw.run.observe import PROFILE, known_machine

DEVICES = (
    RuntimeDevice("cpu", "torch", "cpu", "a processor"),
    RuntimeDevice("cuda:0", "torch", "cuda:0", "a GPU", memory=2**33),
)


def test_where_nobody_asked_the_machine_is_what_the_probe_finds(tmp_path: Path) -> None:
    found, probed = known_machine(tmp_path), probe()
    assert (found.devices, found.cpu, found.detected) == (("cpu",), probed.cpu, probed.detected)


def test_what_libraries_compute_on_is_known_once_they_were_asked(tmp_path: Path) -> None:
    profile.write_profile(tmp_path, runtime=Runtime(devices=DEVICES))
    assert known_machine(tmp_path).devices == ("cuda:0", "cpu")
    (tmp_path / PROFILE).write_text("damaged")
    found = known_machine(tmp_path)
    assert found.devices == ("cpu",)
    assert any(PROFILE in text for text in found.unknown)


def test_it_looks_where_profiles_are_kept() -> None:
    assert profile.PROFILE == PROFILE


def test_without_a_profile_nothing_is_imported_for_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from aifw.run.observe import known_machine; "
        f"known_machine(Path({os.fspath(tmp_path)!r})); print('aifw.hardware.libraries.profile' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
