"""Kinds of processors, against listings of machines, damaged ones, and this machine."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifw.errors import Refused, UsageError
from aifw.hardware.probe import probe
from aifw.hardware.processor.cores import Cores, default_threads, find_cores, pinned
from aifw.hardware.processor.cpulist import format_cpu_list, parse_cpu_list

TREES = Path(__file__).parents[1] / "trees"
LISTINGS = TREES / "processors"
CPU = "sys/devices/system/cpu"
COUNTERS = ("sys/devices/cpu_",)
HYBRID_INTEL = ("core-ultra-7-155h", "core-ultra-5-125h", "core-ultra-7-258v", "core-i7-12700")

# performance, efficient, low-power; what the answer rests on; threads of work that computes
MACHINES: dict[str, tuple[str, str, str, str, int]] = {
    "core-ultra-7-155h": ("0-11", "12-19", "20-21", "cpu_core/cpus, cpu_atom/cpus", 6),
    "core-ultra-5-125h": ("0-1,10-15", "2-9", "16-17", "cpu_core/cpus, cpu_atom/cpus", 4),
    "core-ultra-7-258v": ("0-3", "", "4-7", "cpu_core/cpus, cpu_atom/cpus", 4),
    "core-i7-12700": ("0-15", "16-19", "", "cpu_core/cpus, cpu_atom/cpus", 8),
    "rk3588": ("4-7", "0-3", "", "cpu_capacity of 1024 to 530", 4),
    "ryzen-9-7950x": ("0-31", "", "", "acpi_cppc/highest_perf of 236 to 166: one kind", 16),
    "ryzen-ai-9-hx-370": ("0-3,12-15", "4-11,16-23", "", "acpi_cppc/highest_perf of 196 to 132", 4),
    "xeon-w3-2435": ("0-15", "", "", "acpi_cppc/highest_perf of 45 to 43: one kind", 8),
    "virtual-machine": ("", "", "", "the kinds are unknown: no cpu_core/cpus", 2),
}


def _listed(machine: str) -> dict[str, str]:
    """Content by path."""
    lines = (LISTINGS / f"{machine}.txt").read_text().splitlines()
    return {path: text for path, _, text in (line.partition(":") for line in lines)}


def _write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(text if isinstance(text, bytes) else f"{text}\n".encode())
    return root


def _without(files: Mapping[str, str], *parts: str) -> dict[str, str]:
    return {path: text for path, text in files.items() if not any(part in path for part in parts)}


def _kinds(cores: Cores) -> tuple[str, str, str]:
    return (
        format_cpu_list(cores.of("performance")),
        format_cpu_list(cores.of("efficient")),
        format_cpu_list(cores.of("low-power")),
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def test_every_listing_is_expected_to_say_something() -> None:
    assert sorted(path.stem for path in LISTINGS.iterdir()) == sorted(MACHINES)


@pytest.mark.parametrize("machine", MACHINES)
def test_machines(root: Path, machine: str) -> None:
    *kinds, basis, threads = MACHINES[machine]
    cores = find_cores(_write(root, _listed(machine)))
    assert _kinds(cores) == tuple(kinds)
    assert cores.basis.startswith(basis)
    assert default_threads(cores) == threads == len(cores.physical())
    assert format_cpu_list(cores.all()) == _listed(machine)["sys/devices/system/cpu/online"]
    assert set(cores.performance()) == set(cores.of("performance") or cores.all())


def test_first_threads_of_cores_come_first(root: Path) -> None:
    cores = find_cores(_write(root, _listed("core-ultra-7-155h")))
    assert cores.performance() == (0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11)
    assert cores.all() == (0, 2, 4, 6, 8, 10, *range(12, 22), 1, 3, 5, 7, 9, 11)
    assert cores.physical() == (0, 2, 4, 6, 8, 10)
    assert cores.siblings[:2] == ((0, 1), (2, 3))
    assert (12,) in cores.siblings


def test_a_second_thread_stands_for_its_core_where_the_first_is_not_allowed(root: Path) -> None:
    _write(root, _listed("core-ultra-7-155h"))
    cores = find_cores(root, [1, 2, 3, 5, 12])
    assert cores.performance() == (1, 2, 5, 3)
    assert cores.physical() == (1, 2, 5)
    assert default_threads(cores) == 3


def _cpuid(machine: str) -> dict[str, bytes]:
    """Devices of leaf 0 (the highest leaf) and leaf 0x1A, each at the position that is its number."""
    strong = parse_cpu_list(MACHINES[machine][0])
    assert strong is not None
    return {
        f"dev/cpu/{cpu}/cpuid": b"\x20".ljust(0x1A, b"\0")
        + bytes([1, 0, 0, 0x40 if cpu in strong else 0x20])
        + bytes(12)
        for cpu in find_cores(_write(Path(tempfile.mkdtemp()), _listed(machine))).all()
    }


@pytest.mark.parametrize("machine", HYBRID_INTEL)
def test_core_types_of_cpuid_agree_with_the_counters(root: Path, machine: str) -> None:
    files = _without(_listed(machine), *COUNTERS, "cppc", "capacity", "cpufreq")
    cores = find_cores(_write(root, files | _cpuid(machine)))
    assert _kinds(cores) == MACHINES[machine][:3]
    assert cores.basis.startswith("CPUID leaf 0x1A")


@pytest.mark.parametrize("machine", [*HYBRID_INTEL, "rk3588", "ryzen-ai-9-hx-370"])
@pytest.mark.parametrize("source", ["cpu_capacity", "highest_perf", "cpuinfo_max_freq"])
def test_every_number_alone_finds_the_same_kinds(root: Path, machine: str, source: str) -> None:
    others = {"cpu_capacity", "highest_perf", "cpuinfo_max_freq"} - {source}
    files = _without(_listed(machine), *COUNTERS, *others)
    values = {text for path, text in files.items() if path.endswith(source)}
    cores = find_cores(_write(root, files))
    if len(values) > 1:
        assert _kinds(cores) == MACHINES[machine][:3]
        assert source in cores.basis
    else:
        assert set(cores.kinds.values()) == {"unknown"}
        assert source in cores.basis


def test_low_power_cores_show_in_numbers_without_caches_too(root: Path) -> None:
    for source, kept in (("cpufreq", "cppc"), ("cppc", "cpufreq")):
        files = _without(_listed("core-ultra-7-155h"), *COUNTERS, source, "cache")
        assert _kinds(find_cores(_write(root / source, files))) == MACHINES["core-ultra-7-155h"][:3], kept


def test_counters_are_believed_against_numbers(root: Path) -> None:
    files = {path: "1000000" if "freq" in path else text for path, text in _listed("core-i7-12700").items()}
    assert _kinds(find_cores(_write(root, files))) == MACHINES["core-i7-12700"][:3]


def test_frequency_tells_where_ranks_of_preferred_cores_run_on(root: Path) -> None:
    files = _listed("ryzen-ai-9-hx-370")
    for cpu in range(24):
        files[f"{CPU}/cpu{cpu}/acpi_cppc/highest_perf"] = str(236 - 5 * (cpu % 12))
    cores = find_cores(_write(root, files))
    assert _kinds(cores) == MACHINES["ryzen-ai-9-hx-370"][:3]
    assert cores.basis == "cpufreq/cpuinfo_max_freq of 5157895 to 3305263: performance from 5157895"


def test_a_prime_core_does_not_stand_alone(root: Path) -> None:
    capacities = [284] * 4 + [761] * 3 + [1024]
    cores = find_cores(_write(root, {f"{CPU}/cpu{n}/cpu_capacity": str(each) for n, each in enumerate(capacities)}))
    assert _kinds(cores) == ("4-7", "0-3", "")


def test_the_low_power_counter_of_arrow_lake(root: Path) -> None:
    counters = {"cpu_core": "0-5", "cpu_atom": "6-13", "cpu_lowpower": "14-15"}
    cores = find_cores(
        _write(root, {f"sys/devices/{name}/cpus": each for name, each in counters.items()} | {f"{CPU}/online": "0-15"})
    )
    assert _kinds(cores) == ("0-5", "6-13", "14-15")
    assert cores.basis == "cpu_core/cpus, cpu_atom/cpus, cpu_lowpower/cpus"


def test_kinds_are_those_of_the_machine_not_of_what_is_allowed(root: Path) -> None:
    files = _without(_listed("core-i7-12700"), *COUNTERS)
    cores = find_cores(_write(root, files), range(16, 20))
    assert _kinds(cores) == ("", "16-19", "")
    assert cores.performance() == (16, 17, 18, 19), "the best there is"
    assert default_threads(cores) == 4


def test_the_allowed_list_of_a_tree_holds(root: Path) -> None:
    files = _listed("core-ultra-7-155h") | {"proc/self/status": "Name:\tx\nCpus_allowed_list:\t4,20-21"}
    cores = find_cores(_write(root, files))
    assert cores.kinds == {4: "performance", 20: "low-power", 21: "low-power"}
    assert cores.performance() == (4,)


def test_offline_processors_are_left_out(root: Path) -> None:
    files = _listed("core-ultra-7-155h") | {f"{CPU}/online": "0,4-11,14-21"}
    for allowed in (None, range(64)):
        cores = find_cores(_write(root, files), allowed)
        assert format_cpu_list(cores.all()) == "0,4-11,14-21"
        assert default_threads(cores) == 5
        assert (0,) in cores.siblings


@pytest.mark.parametrize("absurd", ["-1", "garbage", "0-99999999", "5-2", "0,,1", "0x3", "٣", "9" * 5000, "0-8192"])
def test_absurd_lists_are_passed_over(root: Path, absurd: str) -> None:
    files = _listed("core-i7-12700")
    damaged = {path: absurd for path in files if path.endswith(("cpus", "online", "core_cpus_list"))}
    damaged["proc/self/status"] = f"Cpus_allowed_list:\t{absurd}"
    cores = find_cores(_write(root, files | damaged))
    assert _kinds(cores) == ("0-15", "16-19", "")
    assert cores.basis.startswith("acpi_cppc/highest_perf of 62 to 36")
    assert "cpu_core/cpus is no list of processors" in cores.basis
    assert default_threads(cores) == 16, "nothing is known of threads that share a core"


@pytest.mark.parametrize("absurd", ["-1024", "0", "", "1e9", "garbage", "9" * 30, "٣", "2000000000000000"])
def test_an_absurd_number_spoils_its_source_only(root: Path, absurd: str) -> None:
    files = _without(_listed("core-i7-12700"), *COUNTERS) | {f"{CPU}/cpu17/acpi_cppc/highest_perf": absurd}
    cores = find_cores(_write(root, files))
    assert _kinds(cores) == ("0-15", "16-19", "")
    assert cores.basis.startswith("cpufreq/cpuinfo_max_freq")


def test_one_readable_thread_speaks_for_its_core(root: Path) -> None:
    files = _without(_listed("core-i7-12700"), *COUNTERS, "cpu3/acpi_cppc", "cpu4/acpi_cppc")
    assert find_cores(_write(root, files)).basis.startswith("acpi_cppc")


def test_lists_that_contradict_each_other_are_not_used(root: Path) -> None:
    files = _listed("core-i7-12700") | {"sys/devices/cpu_atom/cpus": "12-19"}
    cores = find_cores(_write(root, files))
    assert _kinds(cores) == ("0-15", "16-19", "")
    assert "12-15 are in cpu_atom/cpus and in another list" in cores.basis


def test_half_a_pair_of_lists_leaves_the_others_unknown(root: Path) -> None:
    files = _listed("core-i7-12700")
    cores = find_cores(_write(root / "core", _without(files, "cpu_atom")))
    assert _kinds(cores) == ("0-15", "", "")
    assert format_cpu_list(cores.of("unknown")) == "16-19"
    assert cores.basis == "cpu_core/cpus; nothing about 16-19"
    assert default_threads(cores) == 8
    cores = find_cores(_write(root / "atom", _without(files, "cpu_core")))
    assert _kinds(cores) == ("", "16-19", "")
    assert format_cpu_list(cores.performance()) == "0-15", "unknown ones before efficient ones"


def test_lists_about_other_processors_do_not_hide_the_next_source(root: Path) -> None:
    files = _listed("core-i7-12700") | {"sys/devices/cpu_core/cpus": "0", "sys/devices/cpu_atom/cpus": ""}
    cores = find_cores(_write(root, files), [2, 16])
    assert cores.kinds == {2: "performance", 16: "efficient"}
    assert find_cores(root, [2, 16], lambda cpu: 0x40 if cpu < 16 else 0x20).basis == "CPUID leaf 0x1A"


def test_cores_whose_threads_do_not_agree_are_taken_apart(root: Path) -> None:
    files = _listed("ryzen-9-7950x") | {f"{CPU}/cpu16/topology/core_cpus_list": "1,16"}
    cores = find_cores(_write(root, files))
    assert {(0,), (16,), (1, 17)} <= set(cores.siblings)
    everything = {path: "0-31" for path in files if path.endswith("core_cpus_list")}
    assert default_threads(find_cores(_write(root, files | everything))) == 32


def test_older_kernels_name_siblings_differently(root: Path) -> None:
    files = {path.replace("core_cpus", "thread_siblings"): text for path, text in _listed("ryzen-9-7950x").items()}
    assert default_threads(find_cores(_write(root, files))) == 16


def test_a_leaf_beyond_the_highest_is_not_believed(root: Path) -> None:
    device = b"\x16".ljust(0x1A, b"\0") + bytes([1, 0, 0, 0x40]) + bytes(12)
    cores = find_cores(_write(root, {f"{CPU}/online": "0", "dev/cpu/0/cpuid": device}))
    assert cores.kinds == {0: "unknown"}


def test_core_types_may_come_from_the_caller(root: Path) -> None:
    files = _without(_listed("core-i7-12700"), *COUNTERS)
    asked: list[int] = []

    def core_type(cpu: int) -> int:
        asked.append(cpu)
        return 0x40 if cpu < 16 else 0x20

    cores = find_cores(_write(root, files), [3, 6, 7, 18], core_type)
    assert cores.kinds == {3: "performance", 6: "performance", 7: "performance", 18: "efficient"}
    assert cores.basis == "CPUID leaf 0x1A"
    assert asked == [3, 6, 18], "one thread of each core, allowed ones only"
    assert find_cores(root, None, lambda cpu: None).basis.startswith("acpi_cppc")


def test_an_empty_tree_is_one_processor_of_unknown_kind(root: Path) -> None:
    cores = find_cores(root)
    assert cores.kinds == {0: "unknown"}
    assert cores.performance() == cores.all() == cores.physical() == (0,)
    assert default_threads(cores) == 1
    assert cores.basis == (
        "the kinds are unknown: no cpu_core/cpus; no core type of processor 0 in CPUID; no cpu_capacity of processor 0; "
        "no acpi_cppc/highest_perf of processor 0; no cpufreq/cpuinfo_max_freq of processor 0"
    )


def test_folders_count_where_no_list_can_be_read(root: Path) -> None:
    files = _without(_listed("rk3588"), "online", "status") | {f"{CPU}/cpufreq/boost": "1", f"{CPU}/cpuidle/x": ""}
    assert _kinds(find_cores(_write(root, files))) == ("4-7", "0-3", "")


def test_pipes_folders_and_loops_in_place_of_files(root: Path) -> None:
    _write(root, _listed("core-i7-12700"))
    online, counter, siblings = root / CPU / "online", root / "sys/devices/cpu_core/cpus", root / CPU / "cpu0/topology"
    for path in (online, counter):
        path.unlink()
    os.mkfifo(online)
    counter.mkdir()
    shutil.rmtree(siblings)
    siblings.symlink_to(siblings)
    cores = find_cores(root)
    assert len(cores.all()) == 20
    assert format_cpu_list(cores.of("efficient")) == "16-19"


def test_no_allowed_processor_is_a_mistake(root: Path) -> None:
    with pytest.raises(UsageError, match="no processor"):
        find_cores(root, [])


_SMALL = _without(_listed("core-ultra-7-258v"), "cpu1/", "cpu2/", "cpu5/", "cpu6/") | {f"{CPU}/online": "0,3-4,7"}
_TEXTS = st.one_of(
    st.none(),
    st.sampled_from(["0-99999999", "-1", "", "0-3", "4-7", "0-7", "5", "1024", "0", "8191"]),
    st.text(max_size=12),
    st.binary(max_size=12),
)


@given(damage=st.dictionaries(st.sampled_from(sorted(_SMALL)), _TEXTS, max_size=24))
@settings(max_examples=60, deadline=None)
def test_whatever_files_hold_there_is_an_answer(damage: dict[str, str | bytes | None]) -> None:
    files = {path: text for path, text in (_SMALL | damage).items() if text is not None}
    with tempfile.TemporaryDirectory() as folder:
        cores = find_cores(_write(Path(folder), {path: _bytes(text) for path, text in files.items()}))
    assert cores.kinds
    assert cores.performance()
    assert sorted(cpu for group in cores.siblings for cpu in group) == sorted(cores.all()) == sorted(cores.kinds)
    assert 1 <= default_threads(cores) == len(cores.physical()) <= len(cores.kinds)
    assert cores.basis


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


@given(st.frozensets(st.integers(0, 8191), max_size=300))
def test_lists_come_back_as_they_were_written(cpus: frozenset[int]) -> None:
    assert parse_cpu_list(format_cpu_list(cpus) + "\n") == cpus


@given(st.one_of(st.text(), st.text(alphabet="0123456789-, \n", max_size=40)))
def test_parsing_never_raises(text: str) -> None:
    found = parse_cpu_list(text)
    assert found is None or all(0 <= cpu < 8192 for cpu in found)
    if found is not None:
        assert parse_cpu_list(format_cpu_list(found)) == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0-3,8\n", {0, 1, 2, 3, 8}), ("", set()), ("\n", set()), ("7", {7}), ("3-3", {3}), ("0-8191", set(range(8192)))],
)
def test_lists(text: str, expected: set[int]) -> None:
    assert parse_cpu_list(text) == expected


@pytest.mark.parametrize(
    ("quota", "threads"), [(None, 6), (2.5, 2), (0.4, 1), (6.0, 6), (64.0, 6), (float("inf"), 6), (-1.0, 1)]
)
def test_threads_stay_within_the_quota(root: Path, quota: float | None, threads: int) -> None:
    assert default_threads(find_cores(_write(root, _listed("core-ultra-7-155h"))), quota) == threads


def test_values_can_be_kept(root: Path) -> None:
    cores = find_cores(_write(root, _listed("rk3588")))
    assert pickle.loads(pickle.dumps(cores)) == cores
    assert len({cores, find_cores(root)}) == 1


def test_the_probe_says_the_layout(root: Path) -> None:
    layout = probe(TREES / "container-v2").cpu.layout
    assert layout is not None
    assert len(layout.all()) == 5
    shutil.copytree(TREES / "core-ultra-laptop", root)
    layout = probe(_write(root, _listed("core-ultra-7-155h"))).cpu.layout
    assert layout is not None
    assert default_threads(layout) == 6


def test_the_probe_passes_over_an_absurd_affinity(root: Path) -> None:
    shutil.copytree(TREES / "container-v2", root)
    cpu = probe(_write(root, {"proc/self/status": "Cpus_allowed_list:\t3-x", "sys/fs/cgroup/cpu.max": "max"})).cpu
    assert cpu.cores == 8
    assert cpu.layout is not None
    assert len(cpu.layout.all()) == 8


linux = pytest.mark.skipif(sys.platform != "linux", reason="asks the scheduler")


@linux
def test_this_machine() -> None:
    cores = find_cores()
    assert set(cores.all()) == os.sched_getaffinity(0)
    assert set(cores.performance()) <= os.sched_getaffinity(0)
    assert 1 <= default_threads(cores) <= len(cores.all())


@pytest.fixture
def own() -> Iterator[frozenset[int]]:
    """Processors of this thread, which a test has to leave as they were."""
    before = os.sched_getaffinity(0)
    yield frozenset(before)
    assert os.sched_getaffinity(0) == before


@linux
def test_pinned_threads_stay_and_get_their_processors_back(own: frozenset[int]) -> None:
    first = min(own)
    with pinned([first]):
        assert os.sched_getaffinity(0) == {first}
        assert find_cores().all() == (first,)
        with pinned(own):
            assert os.sched_getaffinity(0) == own, "what a thread gave up itself it may take again"
        assert os.sched_getaffinity(0) == {first}
    with pytest.raises(ZeroDivisionError), pinned([first]):
        _ = 1 / 0


@linux
def test_other_threads_are_not_pinned(own: frozenset[int]) -> None:
    seen: list[set[int]] = []
    started, go_on = threading.Event(), threading.Event()

    def watch() -> None:
        started.set()
        go_on.wait()
        seen.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=watch)
    thread.start()
    started.wait()
    with pinned([min(own)]):
        go_on.set()
        thread.join()
    assert seen == [set(own)]


@linux
@pytest.mark.parametrize("wanted", [lambda own: [], lambda own: [-1], lambda own: [8191], lambda own: [10**30]])
def test_what_cannot_be_pinned_is_refused(own: frozenset[int], wanted: Callable[[frozenset[int]], list[int]]) -> None:
    with pytest.raises(Refused, match="cannot be pinned") as refused, pinned(wanted(own)):
        pytest.fail("it ran")
    assert format_cpu_list(own) in str(refused.value.hint)


@linux
def test_half_a_pin_is_refused(own: frozenset[int]) -> None:
    with pytest.raises(Refused, match="8191 cannot be used"), pinned([*own, 8191]):
        pytest.fail("it ran")
