"""Memory held by real processes, and what the limits leave."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aifw.hardware import pool
from aifw.hardware.meter import Meter
from aifw.hardware.probe import probe

TREES = Path(__file__).parent / "trees"
GIB = 1024**3
MIB = 1024**2


@contextmanager
def _process(code: str) -> Iterator[subprocess.Popen[str]]:
    """Runs code that prints a line when it is ready and ends when its input does."""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process
        process.communicate(timeout=60)


def test_what_is_left_in_a_container() -> None:
    assert pool.available(TREES / "container-v2") == 4 * GIB - (1536 - 384 - 128) * MIB
    assert pool.available(TREES / "service-v2") == 4 * GIB


def test_without_a_limit_the_machine_says_what_is_available() -> None:
    assert pool.available(TREES / "core-ultra-laptop") == 54 * GIB


@pytest.mark.parametrize("available", ["", "MemAvailable: 99999 kB\n", "MemAvailable: nonsense\n"])
def test_where_what_is_available_is_not_told_or_cannot_be_free_memory_stands_for_it(
    tmp_path: Path, available: str
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 4000 kB\nMemFree: 1000 kB\n{available}")
    assert pool.available(tmp_path) == 1000 * 1024
    assert probe(tmp_path).memory.available == 1000 * 1024


def test_a_full_group_has_nothing_left(tmp_path: Path) -> None:
    root = Path(shutil.copytree(TREES / "container-v2", tmp_path / "root"))
    (root / "sys/fs/cgroup/memory.current").write_text(str(6 * GIB))
    assert pool.available(root) == 0


def test_held_grows_with_what_a_process_allocates() -> None:
    grab = "import sys; block = bytearray(b'x') * (64 << 20); print('ready', flush=True); sys.stdin.read()"
    with _process(grab) as large, _process(grab.replace("64 << 20", "1")) as small:
        more, less = pool.held(large.pid), pool.held(small.pid)
    assert more is not None
    assert less is not None
    assert 60 * MIB < more - less < 80 * MIB


def test_mapped_files_are_not_held(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(32 * MIB))
    before = pool.held(os.getpid())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[offset] for offset in range(0, len(mapped), 4096)) == 0
        during = pool.held(os.getpid())
    assert before is not None
    assert during is not None
    assert during - before < 16 * MIB


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c",
    "import sys; block = bytearray(b'x') * (48 << 20); print('ready', flush=True); sys.stdin.read()"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
child.communicate()
"""


def test_children_count(monkeypatch: pytest.MonkeyPatch) -> None:
    with _process(PARENT) as parent:
        (child,) = pool.descendants(parent.pid)
        alone, together, below = pool.held(parent.pid), pool.held_by_tree(parent.pid), pool.held(child)
    assert alone is not None
    assert below is not None
    assert together is not None
    assert below > 48 * MIB
    assert abs(together - alone - below) < 4 * MIB


def test_children_are_found_without_the_kernels_list() -> None:
    with _process(PARENT) as parent:
        assert pool._below(parent.pid, lambda each: pool._by_parent(Path("/")).get(each, [])) == pool.descendants(
            parent.pid
        )


def test_a_process_that_is_gone_is_unknown() -> None:
    with _process("print('ready', flush=True)") as process:
        pass
    assert pool.held(process.pid) is None
    assert pool.held_by_tree(process.pid) is None


def _status(root: Path, process: int, anonymous: int, shared: int) -> None:
    folder = root / "proc" / str(process)
    folder.mkdir(parents=True)
    (folder / "status").write_text(f"Name:\tx\nRssAnon:\t{anonymous} kB\nRssFile:\t9 kB\nRssShmem:\t{shared} kB\n")


def test_an_old_kernel_without_rollup(tmp_path: Path) -> None:
    _status(tmp_path, 10, 100, 20)
    assert pool.held(10, tmp_path) == 120 * 1024


def test_tree_without_the_kernels_list(tmp_path: Path) -> None:
    for process, parent in ((10, 1), (11, 10), (12, 11), (13, 1)):
        _status(tmp_path, process, 100, 0)
        (tmp_path / f"proc/{process}/stat").write_text(f"{process} (a) b (c) S {parent} 0 0\n")
    assert pool.descendants(10, tmp_path) == [11, 12]
    assert pool.held_by_tree(10, tmp_path) == 300 * 1024


def test_a_kernel_thread_has_no_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "proc/7"
    folder.mkdir(parents=True)
    (folder / "status").write_text("Name:\tkthreadd\n")
    assert pool.held(7, tmp_path) is None


def _opened(root: Path, process: int, number: int, what: str, told: str = "") -> None:
    folder = root / "proc" / str(process)
    for name in ("fd", "fdinfo"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "fd" / str(number)).symlink_to(what)
    (folder / "fdinfo" / str(number)).write_text(f"pos:\t0\nflags:\t02100002\n{told}")


XE = "drm-driver:\txe\ndrm-client-id:\t7\ndrm-pdev:\t0000:00:02.0\ndrm-resident-{}:\t{} KiB\ndrm-resident-vram0:\t999 KiB\n"


def test_memory_that_a_gpu_holds_for_a_process_is_counted_once(tmp_path: Path) -> None:
    assert pool.held_by_devices([10], tmp_path) == 0, "a process that is gone"
    _opened(tmp_path, 10, 0, "/dev/null", XE.format("system", 5))
    assert pool.held_by_devices([10], tmp_path) == 0
    _opened(tmp_path, 10, 3, "/dev/dri/renderD128", XE.format("gtt", 4096))
    _opened(tmp_path, 10, 4, "/dev/dri/renderD128", XE.format("gtt", 4096))
    assert pool.held_by_devices([10], tmp_path) == 4096 * 1024, "the same client through another file"
    npu = "drm-driver:\tintel_vpu\ndrm-client-id:\t1\ndrm-pdev:\t0000:00:0b.0\ndrm-resident-memory:\t10 MiB\n"
    _opened(tmp_path, 10, 5, "/dev/accel/accel0", npu)
    i915 = "drm-driver:\ti915\ndrm-client-id:\t8\ndrm-pdev:\t0000:00:02.0\ndrm-resident-system0:\t1 MiB\ndrm-resident-stolen-system0:\t1 MiB\n"
    _opened(tmp_path, 10, 6, "/dev/dri/card0", i915)
    assert pool.held_by_devices([10], tmp_path) == (4 + 10 + 1) * MIB
    _opened(tmp_path, 11, 3, "/dev/dri/renderD128", XE.format("gtt", 4096))
    assert pool.held_by_devices([10, 11, 12], tmp_path) == (4 + 10 + 1) * MIB, (
        "the same client in a process that was forked"
    )


def test_a_meter_adds_what_devices_hold(tmp_path: Path) -> None:
    _status(tmp_path, 10, 100, 20)
    (tmp_path / "proc/10/stat").write_text("10 (a) S 1 0 0\n")
    _opened(tmp_path, 10, 3, "/dev/dri/renderD128", XE.format("system", 50))
    assert Meter(10, tmp_path).look() == 170 * 1024
