"""What the makers' tools say of their GPUs: nvidia-smi, amd-smi, rocm-smi. They are processes, so planning never asks them.

Sources: `nvidia-smi --help-query-gpu`; the documentation of AMD SMI's and ROCm SMI's command line, both as JSON. AMD SMI counts
mebibytes and calls them MB.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from aifw.hardware.findings import DeviceDetail
from aifw.hardware.tree import plain
from aifw.units import format_bytes

_MOST_OUTPUT = 1 << 22
_MOST_MEMORY = 1 << 44
_MIB = 1 << 20
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
class ToolDevice:
    """What a tool says of one GPU; None where it says nothing.

    Attributes:
        tool: `nvidia-smi`, `amd-smi` or `rocm-smi`.
        address: On the PCI bus, `0000:01:00.0`, or empty.
        name: Of the model.
        driver: Version of the driver.
        memory: Bytes of its own.
        memory_used: Of them, in use.
        busy: Share of the last moment in which it computed, in percent.
    """

    tool: str
    address: str
    name: str = ""
    driver: str = ""
    memory: int | None = None
    memory_used: int | None = None
    busy: float | None = None


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


def with_answers(details: Iterable[DeviceDetail], answers: ToolAnswers) -> tuple[DeviceDetail, ...]:
    """Add what the tools say to what sysfs told, by PCI address. What a tool answers is unknown no more."""
    told = {each.address: each for each in answers.devices if each.address}
    return tuple(_answered(each, told.get(each.facts.get("PCI address", "-"))) for each in details)


def parse_nvidia_smi(output: str) -> list[ToolDevice]:
    """Read the lines of the query; fields in brackets (`[N/A]`, `[Not Supported]`) are unknown."""
    found: list[ToolDevice] = []
    for line in output.splitlines():
        row = [plain(cell) if "[" not in cell else "" for cell in line.split(",")]
        if len(row) < 6 or not (address := _address(row[0])):
            continue
        # Names are not quoted, and some have commas.
        name, (driver, total, used, busy) = ", ".join(row[1:-4]), row[-4:]
        found.append(
            ToolDevice("nvidia-smi", address, name, driver, _bytes(total, _MIB), _bytes(used, _MIB, 0), _percent(busy))
        )
    return found


def parse_amd_smi(output: str) -> list[ToolDevice]:
    """Read `static` or `metric`: a list of GPUs, in newer versions below `gpu_data`."""
    data = _json(output)
    listed = data.get("gpu_data") if isinstance(data, Mapping) else data
    found: list[ToolDevice] = []
    for gpu in listed if isinstance(listed, list) else ():
        if not isinstance(gpu, Mapping):
            continue
        used = _at(gpu, "mem_usage", "used_vram")
        found.append(
            ToolDevice(
                "amd-smi",
                _address(_word(_at(gpu, "bus", "bdf"))),
                _word(_at(gpu, "asic", "market_name")),
                _word(_at(gpu, "driver", "version")),
                _quantity(_at(gpu, "vram", "size")) or _quantity(_at(gpu, "mem_usage", "total_vram")),
                _quantity(used, 0),
                _percent(_word(_value(_at(gpu, "usage", "gfx_activity")))),
            )
        )
    return found


def parse_rocm_smi(output: str) -> list[ToolDevice]:
    """Read the cards; the names of its fields changed their spelling over time."""
    data = _json(output)
    if not isinstance(data, Mapping):
        return []
    driver = _word(_at(data, "system", "Driver version"))
    found: list[ToolDevice] = []
    for key, card in data.items():
        if not (key.startswith("card") and isinstance(card, Mapping)):
            continue
        small = {f"{name}".lower(): _word(value) for name, value in card.items()}
        found.append(
            ToolDevice(
                "rocm-smi",
                _address(small.get("pci bus", "")),
                next((small[name] for name in ("card series", "card model") if small.get(name)), ""),
                driver,
                _bytes(small.get("vram total memory (b)", ""), 1),
                _bytes(small.get("vram total used memory (b)", ""), 1, 0),
                _percent(small.get("gpu use (%)", "")),
            )
        )
    return found


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


def _answered(detail: DeviceDetail, device: ToolDevice | None) -> DeviceDetail:
    if device is None:
        return detail
    facts = dict(detail.facts)
    facts.update(
        (name, value)
        for name, value in (
            ("model", device.name),
            ("driver version", device.driver),
            ("memory", format_bytes(device.memory) if device.memory else ""),
            ("memory in use", format_bytes(device.memory_used) if device.memory_used is not None else ""),
            ("busy", f"{device.busy:g} %" if device.busy is not None else ""),
        )
        if value and not (name == "memory" and detail.accelerator.kind == "integrated_gpu")
    )
    own = device.memory if detail.accelerator.kind == "discrete_gpu" else None
    return DeviceDetail(
        replace(detail.accelerator, memory=detail.accelerator.memory or own),
        facts,
        tuple(reason for reason in detail.unknown if not (device.memory and reason.startswith("memory"))),
    )


def _json(output: str) -> object:
    """The JSON in an output that may have warnings in front of it."""
    for start in _starts(output):
        with suppress(ValueError, RecursionError):
            found: object = json.JSONDecoder().raw_decode(output, start)[0]
            return found
    return None


def _starts(output: str) -> Iterator[int]:
    position = 0
    for line in output.splitlines(keepends=True)[:1000]:
        if line.lstrip().startswith(("{", "[")):
            yield position + len(line) - len(line.lstrip())
        position += len(line)


def _at(data: object, *keys: str) -> object:
    for key in keys:
        if not isinstance(data, Mapping):
            return None
        data = data.get(key)
    return data


def _value(data: object) -> object:
    """A number, from `{"value": 94, "unit": "%"}` or as it is."""
    return data.get("value") if isinstance(data, Mapping) else data


def _word(data: object) -> str:
    text = plain(f"{data}") if isinstance(data, (str, int, float)) and not isinstance(data, bool) else ""
    return "" if text.upper() in {"N/A", "NONE", "UNKNOWN"} else text


def _quantity(data: object, least: int = 1) -> int | None:
    unit = _word(_at(data, "unit")) if isinstance(data, Mapping) else "MB"
    factor = {"B": 1, "KB": 1 << 10, "MB": _MIB, "GB": 1 << 30}.get(unit.upper() or "MB")
    return None if factor is None else _bytes(_word(_value(data)), factor, least)


def _bytes(text: str, factor: int, least: int = 1) -> int | None:
    try:
        size = float(text) * factor
    except (ValueError, OverflowError):
        return None
    return int(size) if least <= size <= _MOST_MEMORY else None


def _percent(text: str) -> float | None:
    try:
        share = float(text.removesuffix("%"))
    except ValueError:
        return None
    return share if 0 <= share <= 100 else None


def _address(text: str) -> str:
    """`0000:01:00.0` from that or from nvidia-smi's `00000000:01:00.0`."""
    parts = text.strip().lower().split(":")
    try:
        domain, bus = int(parts[0], 16), int(parts[1], 16)
        slot, function = (int(part, 16) for part in parts[2].split("."))
    except (ValueError, IndexError):
        return ""
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}" if len(parts) == 3 else ""
