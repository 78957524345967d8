"""All that is told of a machine, of whole ones and of damaged ones."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aifw.errors import MemoryRefused
from aifw.hardware import tree as trees
from aifw.hardware.pressure import read_pressure
from aifw.hardware.probe import probe
from aifw.hardware.processor import topology
from aifw.hardware.processor.cpulist import format_cpu_list
from aifw.hardware.survey import Survey, survey

GOLDEN = Path(__file__).with_name("golden")
MACHINES = (
    "core-ultra-7-155h",
    "core-ultra-7-258v",
    "core-i7-12700",
    "xeon-silver-4410y",
    "ryzen-9-7950x",
    "virtual-machine",
)


def _lines(value: Any, name: str) -> Iterator[str]:
    """A survey as lines `name.of.value = value`; processors as the kernel lists them."""
    if is_dataclass(value):
        for field in fields(value):
            yield from _lines(getattr(value, field.name), f"{name}.{field.name}" if name else field.name)
    elif (
        isinstance(value, tuple) and value and all(isinstance(each, int) for each in value) and "distances" not in name
    ):
        yield f"{name} = {format_cpu_list(value)}"
    elif isinstance(value, tuple) and value and not all(isinstance(each, str | int) for each in value):
        for index, each in enumerate(value):
            yield from _lines(each, f"{name}[{index}]")
    elif isinstance(value, tuple):
        yield f"{name} = {', '.join(str(each) for each in value) or 'none'}"
    else:
        yield f"{name} = {value}"


def _told(found: Survey) -> str:
    """What the golden files hold; the accelerators have tests of their own."""
    lines = [line for line in _lines(found, "") if not line.startswith("accelerators")]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("machine", MACHINES)
def test_machines(captured: Callable[[str], Path], machine: str) -> None:
    """`AIFW_UPDATE_GOLDEN=1` writes the files anew."""
    text = _told(survey(captured(machine)))
    path = GOLDEN / f"{machine}.txt"
    if os.environ.get("AIFW_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("machine", MACHINES)
def test_whole_machines_are_sane(captured: Callable[[str], Path], machine: str) -> None:
    _check(survey(captured(machine)))


def test_a_folder_without_anything(tmp_path: Path) -> None:
    found = survey(tmp_path)
    _check(found)
    assert (found.name, found.kernel) == (None, None)
    assert len(found.unknown()) >= 12
    assert all(not why.startswith("None") and str(tmp_path) not in why for why in found.unknown())


def test_reasons_name_files_as_the_machine_would(captured: Callable[[str], Path]) -> None:
    root = captured("core-ultra-7-155h")
    assert not any(str(root) in why for why in survey(root).unknown())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_this_machine() -> None:
    found = survey()
    _check(found)
    assert found.name == os.uname().nodename[:64]
    assert found.kernel == os.uname().release[:64]
    allowed = {cpu for kind in found.processor.kinds for cpu in kind.allowed}
    assert allowed == os.sched_getaffinity(0)


# Damaged machines. Files are damaged on their way to the reader, so that hundreds of machines cost no writing.

ABSURD = (
    b"",
    b"\n",
    b"0\n",
    b"-1\n",
    b"9223372036854775808\n",
    b"18446744073709551615\n",
    b"9" * 70_000,
    b"-274000\n",
    b"0 0\n",
    b"nan\n",
    b"1e308\n",
    b"max\n",
    b"max max\n",
    b"0-99999999\n",
    b"0,0,0-8191\n",
    b"3-1\n",
    bytes(range(256)),
    b"\xff\xfe" * 300,
    b"\x1b[2J\x07",
    b"MemTotal: 99999999999999999999 kB\nMemAvailable: -5 kB\nSwapTotal: 1 kB\nSwapFree: 2 kB\n",
    b"MemTotal: 10 kB\nMemAvailable: 20 kB\nMemFree: 30 kB\n",
    b"processor\t: \xd9\xa3\nflags\t\t: \nmodel name\t: \x00\n",
    b"some avg10=1e9 avg60=-1 avg300=x total=\nfull\n",
    b"Node 0 MemTotal: 0 kB\nNode 0 MemFree: 1 kB\n",
    b"0::/a/../b\n4:memory:relative\n::\n",
    b"30 23 0:26 / /\\040 rw - cgroup2 c rw\n1 2 3 - cgroup\n - \n",
    b"0::/" + b"deep/" * 900,
)
ERRORS = (
    PermissionError(13, "Permission denied"),
    FileNotFoundError(2, "No such file or directory"),
    IsADirectoryError(21, "Is a directory"),
    OSError(40, "Too many levels of symbolic links"),
    OSError(61, "No data available"),
    OSError(5, "Input/output error"),
    BlockingIOError(11, "Resource temporarily unavailable"),
)
DAMAGE = st.sampled_from(ABSURD) | st.sampled_from(ERRORS) | st.binary(max_size=60)


def _kind(path: str) -> str:
    """Files of one kind share their damage: `cpu3/cache/index0/size` and `cpu4/cache/index2/size`."""
    return re.sub(r"[0-9]+", "N", path)


@pytest.fixture
def damage(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Mapping[str, bytes | OSError]], None]:
    """Makes files below a root hold something else, or fail, by their kind."""
    read = trees.read_bytes
    here: dict[str, bytes | OSError] = {}
    below = ""

    def damaged(path: str, most: int, position: int | None = None) -> bytes:
        found = here.get(_kind(path.removeprefix(below)))
        if isinstance(found, OSError):
            raise found
        return read(path, most, position) if found is None else found[position or 0 :][:most]

    def arrange(root: Path, files: Mapping[str, bytes | OSError]) -> None:
        nonlocal below
        below = f"{root}/"
        here.clear()
        here.update(files)

    for module in (trees, topology):
        monkeypatch.setattr(module, "read_bytes", damaged)
    return arrange


@pytest.mark.parametrize("machine", ["core-ultra-7-258v", "core-i7-12700", "virtual-machine"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_machines(
    captured: Callable[[str], Path],
    damage: Callable[[Path, Mapping[str, bytes | OSError]], None],
    machine: str,
    data: st.DataObject,
) -> None:
    root = captured(machine)
    kinds = sorted({_kind(str(path.relative_to(root))) for path in root.rglob("*") if path.is_file()})
    damage(root, data.draw(st.dictionaries(st.sampled_from(kinds), DAMAGE, min_size=1, max_size=30)))
    _check(survey(root))
    _check_probe(root)


@pytest.mark.parametrize("harm", [*ABSURD, *ERRORS], ids=lambda harm: repr(harm)[:24])
def test_every_file_damaged_alike(
    captured: Callable[[str], Path],
    damage: Callable[[Path, Mapping[str, bytes | OSError]], None],
    harm: bytes | OSError,
) -> None:
    root = captured("core-ultra-7-258v")
    damage(root, {_kind(str(path.relative_to(root))): harm for path in root.rglob("*")})
    _check(survey(root))
    _check_probe(root)


@pytest.mark.parametrize("kind", ["folder", "loop", "pipe", "endless"])
def test_something_else_where_files_are_expected(own_tree: Callable[..., Path], kind: str) -> None:
    root = own_tree("virtual-machine")
    for path in [path for path in root.rglob("*") if path.is_file()]:
        path.unlink()
        match kind:
            case "folder":
                path.mkdir()
            case "loop":
                path.symlink_to(path.name)
            case "pipe":
                os.mkfifo(path)
            case _:
                path.symlink_to("/dev/zero")
    _check(survey(root))
    with pytest.raises(MemoryRefused, match="how much memory there is cannot be found out"):
        probe(root)


def test_folders_that_are_files_or_loops(own_tree: Callable[..., Path]) -> None:
    root = own_tree(files={"sys/class": "file", "sys/devices/system/cpu": "file", "proc/self": "file"})
    (root / "sys/kernel").symlink_to("kernel")
    (root / "sys/devices/system/node").symlink_to("../../devices")
    _check(survey(root))


def test_files_that_vanish_between_being_listed_and_being_read(
    monkeypatch: pytest.MonkeyPatch, own_tree: Callable[..., Path]
) -> None:
    root = own_tree("core-ultra-7-155h")
    listed = os.listdir

    def and_then_they_are_gone(folder: str) -> list[str]:
        names = listed(folder)
        for path in Path(folder).rglob("*"):
            if path.is_file():
                path.unlink()
        return names

    monkeypatch.setattr(trees.os, "listdir", and_then_they_are_gone)
    found = survey(root)
    _check(found)
    assert found.thermal.zones[0].celsius is None
    assert (
        "the temperature of thermal_zone0 is unknown: /sys/class/thermal/thermal_zone0/temp does not exist"
        in found.unknown()
    )


def _check(found: Survey) -> None:
    """Nothing in it is absurd, and what is not there has its reason."""
    reasons = found.unknown()
    assert all(why.isprintable() and len(why) < 700 for why in reasons)
    for line in _lines(found, ""):
        assert line.isprintable(), line
    _check_numbers(found)
    memory, processor = found.memory, found.processor
    for value, name in ((memory.total, "MemTotal"), (memory.available, "MemAvailable")):
        assert value is not None or any(name in why or "/proc/meminfo" in why for why in memory.unknown)
    assert memory.total is None or memory.total > 0
    assert None in (memory.available, memory.total) or memory.available <= memory.total
    assert None in (memory.swap_free, memory.swap_total) or memory.swap_free <= memory.swap_total
    assert processor.kinds
    assert processor.basis
    assert processor.model or processor.unknown
    assert processor.packages or processor.unknown
    assert found.instructions.groups or found.instructions.unknown
    assert found.caches.caches or found.caches.unknown
    for cache in found.caches.caches:
        assert cache.size is None or cache.size > 0
        assert (cache.size and cache.kind) or found.caches.unknown
    assert found.nodes.nodes or found.nodes.unknown
    for node in found.nodes.nodes:
        assert None not in (node.processors, node.total, node.free, node.distances) or found.nodes.unknown
    pressure = found.pressure
    assert None not in (pressure.memory, pressure.cpu, pressure.io, pressure.own_memory) or pressure.unknown
    assert found.frequencies.policies or found.frequencies.unknown
    for policy in found.frequencies.policies:
        values = (policy.lowest, policy.highest, policy.allowed_lowest, policy.allowed_highest)
        assert all(value is None or value > 0 for value in values)
        assert None not in values or found.frequencies.unknown
    assert found.thermal.zones or found.thermal.unknown
    for zone in found.thermal.zones:
        assert zone.celsius is not None or found.thermal.unknown
    assert found.power.zones or found.power.unknown
    for limit in found.limits.memory:
        assert limit.size > 0 or "swap" in limit.setting
    assert all(quota.cores > 0 for quota in found.limits.quotas)
    assert all(each.numbers for each in found.limits.sets)


def _check_numbers(value: Any) -> None:
    if is_dataclass(value):
        for field in fields(value):
            _check_numbers(getattr(value, field.name))
    elif isinstance(value, tuple):
        for each in value:
            _check_numbers(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        assert math.isfinite(value)
        assert -60 <= value <= 1 << 64


def _check_probe(root: Path) -> None:
    try:
        machine = probe(root)
    except MemoryRefused:
        return  # the one thing that is refused: no memory to speak of
    memory = machine.memory
    assert 0 < memory.total < 1 << 56
    assert 0 <= memory.available <= memory.total
    assert memory.limit is None or memory.limit > 0
    assert memory.pool > 0
    assert memory.swap_total is not None or any("swap" in why for why in machine.unknown)
    assert machine.cpu.cores >= 1
    assert machine.cpu.model
    assert machine.cpu.layout is not None
    assert machine.cpu.flags or any("instruction sets" in why for why in machine.unknown)
    assert machine.name.isprintable()
    pressure = read_pressure(root)
    assert pressure is None or 0 <= max(pressure.some_10s, pressure.some_60s, pressure.full_10s) <= 100
