"""Benchmarks of every device that can compute here, each library on each device in a process of its own.

What is measured, how it is checked and how often it is repeated stands in `aifw.hardware.libraries.benchmark`; here is decided on what.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aifw.hardware.libraries.child import converse
from aifw.hardware.libraries.measurement import Figure, Measurement, figure_from
from aifw.hardware.libraries.runtime import Runtime, RuntimeDevice
from aifw.hardware.libraries.versions import OPENVINO, TORCH
from aifw.hardware.machine import Machine
from aifw.hardware.processor.caches import find_caches
from aifw.hardware.tree import Tree

_SECONDS = 180.0
"""For one library on one device; compiling for an NPU takes long."""
_SHARE = 4
"""Of the memory that is available, the part that benchmarks may take."""
_LEAST_BUFFER = 256 << 20
_ACCELERATOR_BUFFER = 512 << 20
_TIMES_CACHE = 8
_LEAST_TIMES_CACHE = 3
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Tell = Callable[[str, int, int], None]


class Bench(NamedTuple):
    """What one process measures.

    Attributes:
        device: The device, as a library sees it.
        tasks: `QUANTITY:PRECISION:THREADS`.
    """

    device: RuntimeDevice
    tasks: tuple[str, ...]


def benches(runtime: Runtime, threads: int) -> tuple[Bench, ...]:
    """What there is to measure, the processor first.

    Args:
        runtime: What the libraries can compute on.
        threads: How many processors may be used.
    """
    found: list[Bench] = []
    with_torch = {device.name for device in runtime.computing(TORCH)}
    devices = [*runtime.computing(TORCH), *runtime.computing(OPENVINO)]
    for device in sorted(devices, key=lambda each: each.name != "cpu"):
        formats = _formats(device)
        tasks = [f"product:{precision}:{threads}" for precision in formats]
        if device.name == "cpu" and device.library == TORCH:
            alone = ["product:fp32:1"] if threads > 1 else []
            reads = [f"bandwidth:fp32:{each}" for each in dict.fromkeys((threads, 1))]
            tasks = [*reads, *tasks[:1], *alone, *tasks[1:]]
        elif device.library == TORCH or device.name not in with_torch:
            tasks.insert(0, f"bandwidth:{formats[0]}:{threads}")
        found.append(Bench(device, tuple(tasks)))
    return tuple(found)


def measure(machine: Machine, runtime: Runtime, tell: Tell, root: Path = Path("/")) -> Measurement:
    """Run all benchmarks.

    Args:
        machine: This machine, as probed.
        runtime: What the libraries can compute on here, as just asked.
        tell: Called with what is being measured, how much is done and how much there is.
        root: Where `proc` and `sys` are.
    """
    begun, at = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    threads = machine.cpu.cores
    planned = benches(runtime, threads)
    total, done = sum(len(bench.tasks) for bench in planned), 0
    figures: list[Figure] = []
    failures: list[str] = []
    busy, own = _busy(root), _of_children()
    memory = machine.memory.available
    if machine.memory.limit is not None:
        memory = min(memory, machine.memory.limit)
    for bench in planned:
        _run(
            bench,
            memory // _SHARE,
            _buffer(bench.device, memory, root),
            threads,
            (done, total),
            tell,
            figures,
            failures,
        )
        done += len(bench.tasks)
    tell("", total, total)
    seconds = time.monotonic() - begun
    return Measurement(
        at=at,
        seconds=seconds,
        cpu=machine.cpu.model,
        cores=threads,
        figures=tuple(figures),
        failures=tuple(failures),
        others=_others(busy, _busy(root), _of_children() - own, seconds),
    )


def _run(
    bench: Bench,
    memory: int,
    buffer: int | str,
    threads: int,
    progress: tuple[int, int],
    tell: Tell,
    figures: list[Figure],
    failures: list[str],
) -> None:
    device = bench.device
    name = f"{device.library} on {device.name}"
    tasks = list(bench.tasks)
    if isinstance(buffer, str):
        failures += [f"{name}: the bandwidth of memory: {buffer}" for task in tasks if task.startswith("bandwidth")]
        tasks = [task for task in tasks if not task.startswith("bandwidth")]
        buffer = 0
    waiting = dict.fromkeys(tasks)

    def hear(line: Mapping[str, Any]) -> None:
        now = line.get("now")
        if isinstance(now, dict):
            tell(f"{name}: {_words(now.get('task', ''))}", progress[0] + len(tasks) - len(waiting), progress[1])
            return
        task = line.get("task")
        if task not in waiting:
            return
        del waiting[task]
        if "failed" in line:
            failures.append(f"{name}: {_words(task)}: {line['failed']}")
            return
        try:
            figures.append(figure_from({**line["figure"], "device": device.name, "library": device.library}))
        except (ValueError, TypeError, KeyError) as error:
            failures.append(f"{name}: {_words(task)}: an answer was not understood: {error}")

    environment = dict.fromkeys(_THREAD_VARIABLES, f"{threads}")
    arguments = [device.target, f"{memory}", f"{buffer}", *tasks]
    failure = converse(f"aifw.hardware.libraries.measure_{device.library}", arguments, _SECONDS, hear, environment)
    for index, task in enumerate(waiting):
        why = (failure or "it was not answered") if index == 0 else "not begun, because of the one before"
        failures.append(f"{name}: {_words(task)}: {why}")


def _formats(device: RuntimeDevice) -> list[str]:
    """Formats to multiply in. On the processor torch's bf16 is measured also where it is emulated: that is what a job would get."""
    if device.library == TORCH:
        return ["fp32", "bf16", "int8"]
    if device.name.startswith("npu"):
        return ["fp16", "int8"]
    return ["fp32", *(each for each in ("bf16", "fp16") if each in device.precisions), "int8"]


def _buffer(device: RuntimeDevice, memory: int, root: Path) -> int | str:
    """How many bytes to read for a bandwidth, or why it cannot be measured."""
    most = memory // _SHARE
    if device.name != "cpu":
        if device.memory is not None:
            most = min(most, device.memory // _SHARE)
        return min(_ACCELERATOR_BUFFER, most)
    caches = find_caches(Tree(root)).caches
    deepest = max((each.level for each in caches), default=0)
    last = sum(
        (each.size or 0) * len(each.shared_by)
        for each in caches
        if each.level == deepest and each.kind != "instruction"
    )
    size = min(max(_LEAST_BUFFER, _TIMES_CACHE * last), most)
    if size < _LEAST_TIMES_CACHE * last or size < 1 << 20:
        return f"{most >> 20} MiB may be taken, too little beside caches of {last >> 20} MiB"
    return size


def _words(task: str) -> str:
    quantity, _, rest = task.partition(":")
    precision, _, threads = rest.partition(":")
    what = "memory bandwidth" if quantity == "bandwidth" else f"{precision} product"
    return f"{what}, {threads} thread{'' if threads == '1' else 's'}"


def _busy(root: Path) -> float | None:
    """Seconds all processors together have been at work since the start (proc_stat(5))."""
    words = Tree(root).look("proc/stat").text.partition("\n")[0].split()
    if len(words) < 9 or words[0] != "cpu" or not all(word.isdecimal() for word in words[1:9]):
        return None
    user, nice, system, _, _, interrupts, soft, stolen = map(int, words[1:9])
    return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")


def _of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _others(before: float | None, after: float | None, own: float, seconds: float) -> float | None:
    if before is None or after is None or seconds <= 0:
        return None
    return min(1.0, max(0.0, after - before - own) / (seconds * (os.cpu_count() or 1)))
