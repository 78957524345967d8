"""What the makers' tools say of their GPUs: nvidia-smi, amd-smi, rocm-smi. They are processes, so planning never asks them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from aifw.hardware.devices.vendor_output import ToolDevice, parse_amd_smi, parse_nvidia_smi, parse_rocm_smi
from aifw.hardware.tree import plain

_MOST_OUTPUT = 1 << 22
_NVIDIA = (
    "nvidia-smi",
    "--query-gpu=pci.bus_id,name,driver_version,memory.total,memory.used,utilization.gpu",
    "--format=csv,noheader,nounits",
)
_AMD_STATIC = ("amd-smi", "static", "--asic", "--bus", "--vram", "--driver", "--json")
_AMD_METRIC = ("amd-smi", "metric", "--mem-usage", "--usage", "--json")
_ROCM = (
    "rocm-smi",
    "--showproductname",
    "--showbus",
    "--showmeminfo",
    "vram",
    "--showuse",
    "--showdriverversion",
    "--json",
)


@dataclass(frozen=True, slots=True)
class ToolAnswers:
    """What the tools that are here say.

    Attributes:
        devices: In the tools' order.
        unknown: Which tool failed, and how, in a sentence each. A tool that is not installed is no finding.
    """

    devices: tuple[ToolDevice, ...] = ()
    unknown: tuple[str, ...] = ()


def ask_tools(timeout_seconds: float = 10.0) -> ToolAnswers:
    """Ask the tools that are on PATH. Whatever they do, there is an answer.

    Args:
        timeout_seconds: How long each call may take; a tool that takes longer is ended.
    """
    devices: list[ToolDevice] = []
    unknown: list[str] = []

    def ask(command: Sequence[str], parse: Callable[[str], list[ToolDevice]]) -> list[ToolDevice]:
        output, problem = _run(command, timeout_seconds)
        found = parse(output)
        if problem or not found:
            unknown.append(f"{command[0]}: {problem or f'nothing is understood of its answer {plain(output, 80)!r}'}")
        return found

    if shutil.which(_NVIDIA[0]):
        devices += ask(_NVIDIA, parse_nvidia_smi)
    amd: list[ToolDevice] = []
    # Where the first call fails, so would the second.
    if shutil.which(_AMD_STATIC[0]) and (amd := ask(_AMD_STATIC, parse_amd_smi)):
        amd = _merged(amd, ask(_AMD_METRIC, parse_amd_smi))
    if not amd and shutil.which(_ROCM[0]):
        amd = ask(_ROCM, parse_rocm_smi)
    return ToolAnswers((*devices, *(each for each in amd if each.address or each.name)), tuple(unknown))


def _run(command: Sequence[str], timeout_seconds: float) -> tuple[str, str]:
    """Output of a command, and what went wrong. A file takes it: a pipe stays open for as long as a grandchild lives."""
    try:
        with tempfile.TemporaryFile() as file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "LC_ALL": "C"},
                start_new_session=True,
            )
            try:
                process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                with suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                # Inside a driver that hangs a process cannot be ended.
                with suppress(subprocess.TimeoutExpired):
                    process.wait(1.0)
                return "", f"it did not answer within {timeout_seconds:g} s"
            file.seek(0)
            output = file.read(_MOST_OUTPUT).decode("utf-8", errors="replace")
    except (OSError, ValueError) as error:
        return "", f"it cannot be started: {error}"
    if process.returncode:
        said = next((plain(line) for line in output.splitlines() if line.strip()), "nothing")
        return output, f"it ended with {process.returncode} and said: {said}"
    return output, ""


def _merged(static: list[ToolDevice], metric: list[ToolDevice]) -> list[ToolDevice]:
    """Both calls list the GPUs in the same order."""
    if len(static) != len(metric):
        return static
    return [
        replace(one, memory=one.memory or other.memory, memory_used=other.memory_used, busy=other.busy)
        for one, other in zip(static, metric, strict=True)
    ]
