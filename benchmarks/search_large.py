"""An index larger than one would keep in memory: built from vectors that are made on the way, searched where it lies on the disk.

    python benchmarks/search_large.py [--rows 10000000] [--dimensions 384] [--folder FOLDER] [--json] [--save FILE]

Building, searching, searching among one row in a hundred, and the scan in 64-bit arithmetic that the answers are compared with each
have a process of their own, whose memory is looked at from outside all the time. The index takes 5.3 bytes a number; whatever
happens, it is removed in the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import surroundings
from processes import tell
from search import POOLS
from table import mebibytes, milliseconds, table

SAMPLED = 0.01
"""Seconds between two looks at the memory of a process."""
BYTES_OF_A_NUMBER = 5.5
"""Asked of the disk for each component of a vector, with something over."""
SETTINGS = ("rows", "dimensions", "own_ids", "batches", "threads", "k", "checked")
SCRIPT = Path(__file__).with_name("search_large_parts.py")


def main() -> int:
    arguments = _arguments()
    # So that the index is removed, too, when the benchmark is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    result = _measured(arguments)
    if arguments.save:
        arguments.save.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1) if arguments.json else "\n".join(_text(result)))
    return 0


def _measured(arguments: argparse.Namespace) -> dict[str, Any]:
    needed = int(arguments.rows * arguments.dimensions * BYTES_OF_A_NUMBER) + (64 << 20)
    free = shutil.disk_usage(arguments.folder).free
    if free < needed:
        raise SystemExit(f"{arguments.folder} has {free / 1e9:.1f} GB, {needed / 1e9:.1f} GB are needed: fewer --rows?")
    folder = Path(tempfile.mkdtemp(prefix="aifw-bench-large-", dir=arguments.folder))
    started, before = time.perf_counter(), surroundings.load()
    try:
        request = {
            "path": os.fspath(folder / "index"),
            **{name: getattr(arguments, name) for name in SETTINGS},
        }
        found = {}
        for part in ("about", "build", "search", "filtered", "truth"):
            tell(f"[{time.perf_counter() - started:.0f} s] {part}")
            load = surroundings.load()
            found[part] = _asked(request | {"part": part}) | {"load_before": load, "load_after": surroundings.load()}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    about, truth = found.pop("about"), found.pop("truth")
    for part in ("search", "filtered"):
        answers = found[part].pop("answers")
        truth[part] = sum(one == other for one, other in zip(answers, truth.pop(f"{part}_answers"), strict=True))
    return {
        "benchmark": "search_large",
        "machine": surroundings.machine(),
        "versions": surroundings.versions() | {"numpy": about["numpy"]},
        "kernel": about["kernel"],
        **{name: request[name] for name in SETTINGS},
        "load_before": before,
        "load_after": surroundings.load(),
        "seconds": round(time.perf_counter() - started),
        **found,
        "truth": truth,
    }


def _asked(request: dict[str, Any]) -> dict[str, Any]:
    """The answer of a process, and its peak memory: anonymous and shared as sampled, all of it as the kernel kept it.

    Raises:
        SystemExit: It failed; what it said is on standard error.
    """
    environment = os.environ | dict.fromkeys(POOLS, "1")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [os.fspath(SCRIPT.parents[1]), os.getenv("PYTHONPATH")]))
    command = [sys.executable, os.fspath(SCRIPT), json.dumps(request)]
    with tempfile.TemporaryFile("w+") as output:
        with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output) as child:
            try:
                peak = _watched(child)
            finally:
                child.kill()
        if child.returncode:
            raise SystemExit(f"{SCRIPT.name} {request['part']} ended with {child.returncode}: {json.dumps(request)}")
        output.seek(0)
        answer: dict[str, Any] = json.loads(output.read().splitlines()[-1])
    return answer | peak


def _watched(child: subprocess.Popen[bytes]) -> dict[str, int]:
    peak = {"own_memory": 0, "resident": 0}
    while child.poll() is None:
        now = _memory(child.pid)
        peak["own_memory"] = max(peak["own_memory"], now.get("RssAnon", 0) + now.get("RssShmem", 0))
        peak["resident"] = max(peak["resident"], now.get("VmHWM", 0))
        time.sleep(SAMPLED)
    return peak


def _memory(process: int) -> dict[str, int]:
    """Bytes by the kernel's names; nothing of a process that has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    pairs = (line.partition(":")[::2] for line in lines)
    return {name: int(value.split()[0]) * 1024 for name, value in pairs if value.endswith(" kB")}


def _text(result: dict[str, Any]) -> Iterator[str]:
    build, search, chosen, truth = (result[part] for part in ("build", "search", "filtered", "truth"))
    rows = result["rows"]
    yield f"{rows:,} x {result['dimensions']:,}, isotropic Gaussian, inner product, {result['k']} best, {'ids given' if result['own_ids'] else 'automatic ids'}, kernel {result['kernel']['level']}"
    yield surroundings.described(result | {"threads": f"at most {max(result['threads'])}"})
    yield (
        f"build, {build['threads']} threads: {build['wall']:.1f} s, {build['cpu']:.1f} s of CPU; with making the vectors "
        f"{build['wall'] + build['making_wall']:.1f} s, {build['cpu'] + build['making_cpu']:.1f} s of CPU"
    )
    yield (
        f"  memory of its own {mebibytes(build['own_memory'])} (before it began {mebibytes(build['own_before'])}), "
        f"with mapped files {mebibytes(build['resident'])}; load {build['load_before']}"
    )
    yield f"  on disk {build['file_bytes'] / 1e9:.2f} GB in {build['files']} files, {build['file_bytes'] / rows:.1f} bytes a vector"
    yield (
        f"search: memory of its own {mebibytes(search['own_memory'])} (before it began {mebibytes(search['own_before'])}), "
        f"with mapped files {mebibytes(search['resident'])}; load {search['load_before']}"
    )
    yield table(
        ["threads, batch", "open", "cold", "read", "warm", "warm CPU", "refined", "scored"],
        [
            [
                f"{each['threads']}, {each['batch']}",
                milliseconds(each["open"]),
                milliseconds(each["cold"]),
                f"{each['read'] / 1e9:.2f} GB",
                milliseconds(each["wall_median"]),
                milliseconds(each["cpu_median"]),
                f"{each['counters']['refined'] / each['batch']:.0f}",
                f"{each['counters']['scored'] / each['batch']:.0f}",
            ]
            for each in search["figures"]
        ],
    )
    yield (
        f"1 % allowed, {chosen['allowed']:,} rows: selection and first search {milliseconds(chosen['selecting'] + chosen['figures'][0]['first'])}, again "
        + ", ".join(
            f"{milliseconds(each['wall_median'])} with {each['threads']} thread{'s' * (each['threads'] > 1)}"
            for each in chosen["figures"]
        )
        + f"; memory of its own {mebibytes(chosen['own_memory'])}, the table of ids {mebibytes(chosen['table'])}"
    )
    yield (
        f"{truth['search']} of {truth['checked']} answers are those of a scan in 64-bit arithmetic with exact sums for the best, id for id "
        f"and bit for bit, {truth['filtered']} of {truth['checked']} with the filter; all batches agree: {'yes' if search['agree'] else 'NO'}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--rows", type=int, default=10_000_000, help="vectors (default: 10,000,000)")
    add("--dimensions", type=int, default=384, help="of a vector (default: 384)")
    add(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="on a disk with space for the index; a tmpfs would be memory (default: %(default)s)",
    )
    add(
        "--own-ids",
        action="store_true",
        help="give ids, so that a table of them is kept in memory when one is looked up",
    )
    add("--batches", nargs="+", type=int, default=[1, 8, 64])
    add("--threads", nargs="+", type=int, default=[1, 2])
    add("-k", type=int, default=10, help="rows to find (default: 10)")
    add("--checked", type=int, default=4, help="queries whose answers are compared with a scan (default: 4)")
    add("--json", action="store_true", help="print JSON instead of tables")
    add("--save", type=Path, metavar="FILE", help="write the JSON here, too")
    arguments = parser.parse_args()
    if not 1 <= arguments.checked <= max(arguments.batches):
        parser.error("--checked is at least 1 and at most the largest of --batches")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
