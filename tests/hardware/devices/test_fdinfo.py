"""What processes use of GPUs: real lines of three drivers, damaged ones, and time between two readings."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.hardware.devices.fdinfo import Client, EngineTime, Reading, busy_share, parse_client, read_clients

KIB, MIB = 1024, 1024**2
Tree = Callable[..., Path]
HEAD = "drm-driver:\ti915\ndrm-client-id:\t4\ndrm-pdev:\t0000:00:02.0\n"


def client(text: str) -> Client:
    found = parse_client(text)
    assert found is not None
    return found


def reading(seconds: float, *clients: Client) -> Reading:
    return Reading(seconds, {(each.device, each.number): each for each in clients})


def using(number: int, device: str = "0000:00:02.0", **engines: EngineTime) -> Client:
    return Client("i915", device, number, engines=engines)


def test_i915() -> None:
    found = client(
        "pos:\t0\nflags:\t02104002\n"
        + HEAD
        + "drm-total-system0:\t300000 KiB\ndrm-shared-system0:\t192368 KiB\ndrm-resident-system0:\t279968 KiB\n"
        "drm-resident-stolen-system0:\t0\ndrm-engine-render:\t324435861152 ns\ndrm-engine-video:\t0 ns\n"
        "drm-engine-capacity-video:\t2\n"
    )
    assert (found.driver, found.device, found.number) == ("i915", "0000:00:02.0", 4)
    assert found.memory == {"system0": 279968 * KIB, "stolen-system0": 0}
    assert found.shared == {"system0": 192368 * KIB}
    assert found.engines == {"render": EngineTime(324435861152), "video": EngineTime(0, capacity=2)}


def test_xe_counts_cycles() -> None:
    found = client(
        "drm-driver:\txe\ndrm-client-id:\t3\ndrm-pdev:\t0000:03:00.0\ndrm-resident-vram0:\t23992 KiB\n"
        "drm-shared-vram0:\t16 MiB\ndrm-cycles-ccs:\t28257900\ndrm-total-cycles-ccs:\t7655183225\n"
        "drm-engine-capacity-ccs:\t4\n"
    )
    assert found.memory == {"vram0": 23992 * KIB}
    assert found.shared == {"vram0": 16 * MIB}
    assert found.engines == {"ccs": EngineTime(None, 28257900, 7655183225, 4)}


def test_an_older_name_is_the_same_memory() -> None:
    lines = "drm-driver:\tamdgpu\ndrm-client-id:\t14\ndrm-pdev:\t0000:03:00.0\ndrm-memory-vram:\t65536 KiB\ndrm-memory-gtt: \t2048 KiB\n"
    assert client(lines).memory == {"vram": 64 * MIB, "gtt": 2 * MIB}
    both = client(lines + "drm-resident-vram:\t1 MiB\n")
    assert both.memory == {"vram": MIB, "gtt": 2 * MIB}, "once, not twice"
    damaged = client(lines + "drm-resident-vram:\tmuch\n")
    assert damaged.memory == {"gtt": 2 * MIB}, "what is not understood is unknown"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pos:\t0\nflags:\t02\n",
        "drm-driver:\ti915\n",
        "drm-client-id:\t4\n",
        "drm-driver:\ti915\ndrm-client-id:\t-4\n",
        "drm-driver:\ti915\ndrm-client-id:\t99999999999999999999999\n",
    ],
)
def test_what_is_no_client_is_none(text: str) -> None:
    assert parse_client(text) is None


@pytest.mark.parametrize(
    "value", ["-1", "99999999999999999999 KiB", "12 kilobytes", "KiB", "", "1.5 MiB", "\N{SUPERSCRIPT TWO}", "0x10"]
)
def test_absurd_sizes_are_unknown_not_zero(value: str) -> None:
    assert client(f"{HEAD}drm-resident-system0:\t{value}\n").memory == {}


@pytest.mark.parametrize("value", ["", "-5 ns", "5 s", "18446744073709551617 ns", "ns"])
def test_absurd_times_are_unknown_not_zero(value: str) -> None:
    assert client(f"{HEAD}drm-engine-render:\t{value}\n").engines == {}


def test_a_capacity_that_cannot_be_is_one() -> None:
    found = client(f"{HEAD}drm-engine-video:\t7 ns\ndrm-engine-capacity-video:\t0\n")
    assert found.engines["video"] == EngineTime(7, capacity=1)


def test_a_device_without_address_goes_by_its_driver() -> None:
    assert client("drm-driver:\tpanfrost\ndrm-client-id:\t2\n").device == "panfrost"


keys = st.sampled_from(
    [
        "drm-driver",
        "drm-client-id",
        "drm-pdev",
        "drm-engine-render",
        "drm-engine-capacity-render",
        "drm-cycles-ccs",
        "drm-total-cycles-ccs",
        "drm-resident-system0",
        "drm-memory-vram",
        "drm-shared-system0",
        "drm-",
        "drm-engine-",
        "drm-resident-",
        "pos",
    ]
)
values = st.one_of(
    st.text(max_size=24),
    st.integers(-(10**25), 10**25).map(str),
    st.integers(0, 2**70).map(lambda number: f"{number} ns"),
    st.tuples(st.integers(0, 2**60), st.sampled_from(["KiB", "MiB", "GiB", "B", "KB", ""])).map(
        lambda pair: f"{pair[0]} {pair[1]}"
    ),
)
files = st.lists(st.tuples(keys, values), max_size=20).map(
    lambda lines: "\n".join(f"{key}:\t{value}" for key, value in lines)
)


@given(
    st.one_of(
        files,
        files.map(lambda text: HEAD + text),
        st.text(),
        st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    )
)
def test_whatever_a_file_holds_there_is_an_answer(text: str) -> None:
    found = parse_client(text)
    if found is None:
        return
    assert found.driver
    assert found.device.isprintable()
    assert all(0 <= size <= 1 << 50 for size in (*found.memory.values(), *found.shared.values()))
    for engine in found.engines.values():
        assert engine.capacity >= 1
        assert (engine.nanoseconds, engine.cycles) != (None, None)
        assert all(value is None or value >= 0 for value in (engine.nanoseconds, engine.cycles, engine.total_cycles))


def test_clients_count_once(captured: Callable[[str], Path]) -> None:
    found = read_clients(captured("core-ultra-7-155h"))
    assert sorted(found.clients) == [("0000:00:02.0", 4), ("0000:00:02.0", 9)], (
        "one of them in three files of two processes"
    )
    assert found.count("0000:00:02.0") == 2
    assert found.memory("0000:00:02.0") == {"system0": (279968 + 6044) * KIB, "stolen-system0": 0}
    assert found.engines("0000:00:02.0")["compute"].nanoseconds == 2_500_000_000
    assert found.engines("0000:00:02.0")["video"].capacity == 2
    assert found.memory("0000:03:00.0") == {}


def test_the_clock_of_cycles_is_shared_not_summed() -> None:
    one, other = (using(number, ccs=EngineTime(None, 10, 1000 + number, 4)) for number in (1, 2))
    assert reading(0, one, other).engines("0000:00:02.0") == {"ccs": EngineTime(None, 20, 1002, 4)}


def test_open_files_of_other_sorts_are_not_read(own_tree: Tree) -> None:
    root = own_tree(
        files={
            "proc/7/fdinfo/3": HEAD,
            "proc/7/fdinfo/4": HEAD.replace("4", "5"),
            "proc/7/fdinfo/5": HEAD.replace("4", "6"),
        }
    )
    (root / "proc/7/fd").mkdir()
    for number, target in ((3, "/dev/dri/renderD128"), (4, "socket:[123]"), (5, "/dev/accel/accel0")):
        (root / f"proc/7/fd/{number}").symlink_to(target)
    assert sorted(number for _, number in read_clients(root).clients) == [4, 6]


def test_processes_that_may_not_be_looked_into_are_counted(own_tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = own_tree(
        files={"proc/7/fdinfo/3": HEAD, "proc/8/fdinfo/3": HEAD, "proc/9/status": "", "proc/self/fdinfo/1": ""}
    )
    real = os.listdir

    def listdir(path: str) -> list[str]:
        if path.endswith("proc/8/fdinfo"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    found = read_clients(root)
    assert (len(found.clients), found.hidden) == (1, 1), "a process that has ended is not hidden"


def test_files_may_vanish_while_they_are_read(own_tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = own_tree("core-ultra-7-155h")

    def read(file: int, most: int) -> bytes:
        raise OSError(3, "No such process")

    monkeypatch.setattr(os, "read", read)
    assert read_clients(root).clients == {}


def test_without_proc_nobody_is_seen(tmp_path: Path) -> None:
    found = read_clients(tmp_path)
    assert (found.clients, found.hidden) == ({}, 0)


def test_this_machine() -> None:
    assert all(isinstance(each, Client) for each in read_clients().clients.values())


def test_share_of_time() -> None:
    earlier = reading(10.0, using(1, render=EngineTime(1_000_000_000)), using(2, render=EngineTime(0)))
    later = reading(12.0, using(1, render=EngineTime(1_500_000_000)), using(2, render=EngineTime(500_000_000)))
    assert busy_share(earlier, later) == {"0000:00:02.0": {"render": 0.5}}


def test_share_of_several_engines_of_a_sort() -> None:
    earlier, later = (
        reading(at, using(1, video=EngineTime(busy, capacity=2))) for at, busy in ((0.0, 0), (1.0, 1_000_000_000))
    )
    assert busy_share(earlier, later) == {"0000:00:02.0": {"video": 0.5}}


def test_share_of_cycles_needs_no_clock_of_ours() -> None:
    earlier = reading(5.0, using(1, ccs=EngineTime(None, 100, 1000, 4)))
    later = reading(5.0, using(1, ccs=EngineTime(None, 300, 1100, 4)))
    assert busy_share(earlier, later) == {"0000:00:02.0": {"ccs": 0.5}}


def test_a_client_that_came_in_between_counts_whole() -> None:
    earlier = reading(0.0, using(1, render=EngineTime(0)))
    later = reading(1.0, using(1, render=EngineTime(0)), using(2, render=EngineTime(250_000_000)))
    assert busy_share(earlier, later) == {"0000:00:02.0": {"render": 0.25}}


def test_a_counter_that_steps_back_is_no_time() -> None:
    earlier, later = (reading(at, using(1, render=EngineTime(busy))) for at, busy in ((0.0, 500), (1.0, 400)))
    assert busy_share(earlier, later) == {"0000:00:02.0": {"render": 0.0}}


def test_without_time_there_is_no_share() -> None:
    one = reading(1.0, using(1, render=EngineTime(0), ccs=EngineTime(None, 1, 10)))
    assert busy_share(one, one) == {}
    assert busy_share(replace(one, seconds=2.0), one) == {}
    assert (
        busy_share(Reading(0.0, {}), replace(one, clients={("a", 1): using(1, "a", ccs=EngineTime(None, 5, None))}))
        == {}
    )


engine_times = st.builds(
    EngineTime,
    st.none() | st.integers(0, 2**64),
    st.none() | st.integers(0, 2**64),
    st.none() | st.integers(0, 2**64),
    st.integers(1, 16),
)
readings = st.builds(
    lambda seconds, clients: reading(seconds, *clients),
    st.floats(0, 1e9),
    st.lists(
        st.builds(
            lambda number, engines: using(number, **engines),
            st.integers(0, 3),
            st.dictionaries(st.sampled_from(["render", "ccs"]), engine_times),
        ),
        max_size=4,
    ),
)


@given(readings, readings)
def test_a_share_is_a_share(earlier: Reading, later: Reading) -> None:
    for engines in busy_share(earlier, later).values():
        assert all(0.0 <= share <= 1.0 for share in engines.values())


def test_only_some_processes_may_be_asked(own_tree: Tree) -> None:
    root = own_tree(files={"proc/7/fdinfo/3": HEAD, "proc/8/fdinfo/3": HEAD.replace("4", "5")})
    assert [each.number for each in read_clients(root, (8,)).clients.values()] == [5]
    assert read_clients(root, (9,)).clients == {}
    assert read_clients(root, ()).clients == {}
