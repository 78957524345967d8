from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path(__file__).parents[1] / "plugin"
DRIVE = Path(__file__).with_name("drive.py")


@dataclass
class Stack:
    """A folder with a spec, and ways to apply it in processes that can be killed."""

    folder: Path

    @property
    def spec(self) -> Path:
        return self.folder / "spec.yaml"

    @property
    def state(self) -> Path:
        return self.folder / ".aifw"

    @property
    def name_folder(self) -> Path:
        return self.state / "tested"

    @property
    def witness(self) -> Path:
        return self.folder / "witness"

    def write(self, body: str) -> None:
        head = "apiVersion: aifw/v1\nkind: Stack\nmetadata: {name: tested}\n"
        self.spec.write_text(head + body.replace("WITNESS", str(self.witness)).replace("FOLDER", str(self.folder)))

    def environment(self, **more: str) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AIFW_")}
        return {**clean, "PYTHONPATH": str(PLUGIN), "AIFW_GRACE_SECONDS": "5", **more}

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, str(DRIVE), str(self.spec), str(self.state), *arguments],
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def apply(self, *arguments: str, **more: str) -> dict[str, Any]:
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=120)
        if process.returncode == -signal.SIGKILL:
            return {"killed": True}
        assert out, err.decode()
        found: dict[str, Any] = json.loads(out)
        return {"status": process.returncode, "stderr": err.decode(), **found}

    def plan(self) -> dict[str, Any]:
        found: dict[str, Any] = self.apply("--plan")["steps"]
        return found

    def witnessed(self) -> list[str]:
        return self.witness.read_text().splitlines() if self.witness.exists() else []

    def workers(self) -> list[int]:
        """Processes that still work on a job of this stack."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes().split(b"\0")
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if (
                state != "Z"
                and b"aifw.run.worker" in command
                and any(str(self.folder).encode() in each for each in command)
            ):
                found.append(int(folder.name))
        return found

    def wait_for_workers(self, seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while self.workers():
            assert time.monotonic() < deadline, f"workers live on without an engine: {self.workers()}"
            time.sleep(0.05)


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)
