"""Reading what nvidia-smi, amd-smi and rocm-smi print.

Sources: `nvidia-smi --help-query-gpu`; the documentation of AMD SMI's and ROCm SMI's command line, both as JSON. AMD SMI counts
mebibytes and calls them MB.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from aifw.hardware.tree import plain

_MOST_MEMORY = 1 << 44
_MIB = 1 << 20


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
