from __future__ import annotations

from pathlib import Path

from aifw.hardware.allocator import find_jemalloc
from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.kind import all_kinds
from aifw.models.speed import seconds_for
from aifw.models.work import Work
from aifw.run.launch import MAPPINGS, allocation


def test_the_library_is_found_where_systems_put_it(tmp_path: Path) -> None:
    assert find_jemalloc(tmp_path) is None
    for place in ("usr/lib/x86_64-linux-gnu", "usr/lib64"):
        root = tmp_path / place.replace("/", "-")
        (root / place).mkdir(parents=True)
        (root / place / "libjemalloc.so.2").touch()
        assert find_jemalloc(root) == root / place / "libjemalloc.so.2"


def test_workers_that_gain_get_it_and_what_the_user_set_stays(monkeypatch) -> None:
    for name in ("LD_PRELOAD", "MALLOC_CONF", *MAPPINGS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("aifw.run.launch.find_jemalloc", lambda: Path("/there/libjemalloc.so.2"))
    assert allocation(reuses_memory=False) == MAPPINGS
    found = allocation(reuses_memory=True)
    assert found["LD_PRELOAD"] == "/there/libjemalloc.so.2"
    assert "dirty_decay_ms" in found["MALLOC_CONF"]
    monkeypatch.setenv("LD_PRELOAD", "mine.so")
    assert "MALLOC_CONF" not in allocation(reuses_memory=True)
    assert allocation(reuses_memory=True).get("LD_PRELOAD", "mine.so") == "mine.so"


def test_what_loads_openvino_keeps_the_systems() -> None:
    gains = {kind.name for kind in all_kinds() if getattr(kind, "reuses_memory", False)}
    assert gains == {"dpo", "sft", "reward", "kto", "grpo", "rloo"}


def test_the_forecast_of_time_knows_it() -> None:
    work = Work(made=1e12)
    plain, found = (Machine("m", Cpu("any", 1), Memory(0, 0), reuses_memory=reuses) for reuses in (False, True))
    assert seconds_for(work, plain, reuses_memory=True) == seconds_for(work, found)
    assert seconds_for(work, found, reuses_memory=True)[0] < 0.5 * seconds_for(work, found)[0]
