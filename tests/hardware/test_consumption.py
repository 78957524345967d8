"""What a process takes of the machine, from trees in which counters move."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aifw.hardware import consumption as module
from aifw.hardware.consumption import Consumption, consumption

FIELDS = {"peak_memory", "gpu_memory", "cpu_seconds", "gpu_seconds", "joules"}
ZONES = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:0:1": "dram", "intel-rapl:1": "psys"}
MOST = 1_000_000_000


def _written(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def _energy(root: Path, zone: str, microjoules: int) -> None:
    _written(root, f"sys/class/powercap/{zone}/energy_uj", f"{microjoules}\n")


def _gpu(root: Path, nanoseconds: int, kibibytes: int) -> None:
    text = (
        "drm-driver:\ti915\ndrm-client-id:\t4\ndrm-pdev:\t0000:00:02.0\n"
        f"drm-resident-system0:\t{kibibytes} KiB\ndrm-engine-render:\t{nanoseconds} ns\n"
    )
    _written(root, f"proc/{os.getpid()}/fdinfo/3", text)
    opened = root / f"proc/{os.getpid()}/fd/3"
    if not opened.is_symlink():
        opened.parent.mkdir()
        opened.symlink_to("/dev/dri/renderD128")


def _memory(root: Path, kilobytes: int) -> None:
    _written(root, f"proc/{os.getpid()}/status", f"RssAnon:\t{kilobytes} kB\nRssShmem:\t0 kB\n")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """One that counts energy, with a GPU this process has opened."""
    for zone, name in ZONES.items():
        _written(tmp_path, f"sys/class/powercap/{zone}/name", f"{name}\n")
        _written(tmp_path, f"sys/class/powercap/{zone}/enabled", "1\n")
        _written(tmp_path, f"sys/class/powercap/{zone}/max_energy_range_uj", f"{MOST}\n")
        _energy(tmp_path, zone, 500_000_000)
    _gpu(tmp_path, 0, 64)
    _memory(tmp_path, 1000)
    return tmp_path


def test_energy_of_packages_and_memory_counts_once(machine: Path) -> None:
    taken = Consumption(machine)
    for zone, joules in {"intel-rapl:0": 7, "intel-rapl:0:0": 5, "intel-rapl:0:1": 2, "intel-rapl:1": 100}.items():
        _energy(machine, zone, (500 + joules) * 1_000_000)
    taken.finish()
    assert taken.known["joules"] == pytest.approx(9)


def test_a_counter_that_starts_again(machine: Path) -> None:
    _energy(machine, "intel-rapl:0", 990_000_000)
    taken = Consumption(machine)
    _energy(machine, "intel-rapl:0", 4_000_000)
    taken.look(all_of_it=True)
    _energy(machine, "intel-rapl:0", 6_000_000)
    taken.finish()
    assert taken.known["joules"] == pytest.approx(16)


def test_a_counter_that_starts_again_from_nobody_knows_where(machine: Path) -> None:
    (machine / "sys/class/powercap/intel-rapl:0/max_energy_range_uj").unlink()
    taken = Consumption(machine)
    _energy(machine, "intel-rapl:0", 4_000_000)
    taken.finish()
    assert "joules" not in taken.known
    assert "started again" in taken.unknown["joules"]


def test_a_counter_that_stands_still_is_unknown_not_0(machine: Path) -> None:
    taken = Consumption(machine)
    taken.finish()
    assert taken.unknown["joules"] == "the counter of energy did not move"


def test_a_counter_that_cannot_be_read_says_so(machine: Path) -> None:
    (machine / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("not a number")
    taken = Consumption(machine)
    taken.finish()
    assert taken.unknown["joules"].startswith("the energy of package-0 is unknown: ")


def test_a_counter_that_is_lost_on_the_way_gives_no_number(machine: Path) -> None:
    taken = Consumption(machine)
    _energy(machine, "intel-rapl:0", 507_000_000)
    taken.look(all_of_it=True)
    (machine / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("")
    taken.finish()
    assert "joules" not in taken.known


def test_the_gpu_of_this_process(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0, 120.0])
    monkeypatch.setattr("aifw.hardware.devices.fdinfo.time.monotonic", lambda: 0.0)
    readings = module.read_clients

    def timed(root: Path, processes: tuple[int, ...]) -> object:
        found = readings(root, processes)
        return type(found)(next(clock), found.clients, found.hidden)

    monkeypatch.setattr(module, "read_clients", timed)
    taken = Consumption(machine)
    _gpu(machine, 3_000_000_000, 4096)
    taken.look(all_of_it=True)
    _gpu(machine, 4_000_000_000, 128)
    taken.finish()
    assert taken.known["gpu_seconds"] == pytest.approx(4.0)
    assert taken.known["gpu_memory"] == 4096 * 1024


def test_the_most_memory_of_all_looks(machine: Path) -> None:
    taken = Consumption(machine)
    _memory(machine, 9000)
    taken.look()
    _memory(machine, 2000)
    taken.finish()
    # What the GPU holds of the machine's memory is in it.
    assert taken.known["peak_memory"] == (9000 + 64) * 1024


def test_where_nothing_can_be_read_there_is_a_reason_for_everything(tmp_path: Path) -> None:
    taken = Consumption(tmp_path)
    taken.finish()
    assert taken.known.keys() <= {"cpu_seconds"}
    assert taken.known.keys() | taken.unknown.keys() == FIELDS
    assert all(taken.unknown.values())
    assert "no driver for RAPL" in taken.unknown["joules"]


def test_this_process_from_a_thread() -> None:
    with consumption() as taken:
        held = bytearray(32 * 2**20)
        held[:] = b"x" * len(held)
        sum(range(200_000))
    assert taken.known["peak_memory"] > 32 * 2**20
    assert taken.known["cpu_seconds"] > 0
    assert taken.known.keys() | taken.unknown.keys() == FIELDS
    assert not taken.known.keys() & taken.unknown.keys()


def test_what_was_taken_is_known_after_a_failure() -> None:
    with pytest.raises(RuntimeError), consumption() as taken:
        raise RuntimeError
    assert taken.known.keys() | taken.unknown.keys() == FIELDS
