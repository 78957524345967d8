"""Exact nearest-neighbour search: `aifw.search.Index` beside FAISS, numpy, torch, usearch and numkong.

    python benchmarks/search.py [--quick] [--only compare batches sizes index] [--json] [--save FILE] [--plot FILE]
    python benchmarks/search.py --from FILE [--plot FILE]

For every set of data, number of dimensions, metric, number of threads and batch size, all methods search the same rows in turns, in
one process; processor time (all threads together) and wall time are medians and minima over the rounds. Every answer is compared with
64-bit arithmetic. `make bench-search` installs the peers in an environment of their own and runs this in it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import search_report
import surroundings
from processes import tell

PARTS = ("compare", "batches", "sizes", "index")
DATA = ("gaussian", "clustered", "text")
METRICS = ("inner_product", "cosine", "l2")
METHODS = ("aifw", "FAISS", "numpy", "torch", "usearch", "numkong")
EMBEDDED = {384, 768}
"""Dimensions that text comes in."""
SECONDS = {1: 1.2, 8: 1.5, 64: 3.0, 1024: 5.0}
"""For the rounds of each batch size. Where a round takes longer than a part of it, the least number of rounds decides."""
SWEPT = {1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0, 16: 1.0, 32: 1.5, 64: 1.5, 128: 2.0, 256: 2.0, 512: 3.0, 1024: 4.0}
SIZES = [1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000]
ROWS = 100_000
QUERIES = 1024
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aifw" / "benchmarks"
POOLS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NK_NUM_THREADS",
)


def main() -> int:
    arguments = _arguments()
    source = arguments.source
    result = json.loads(source.read_text(encoding="utf-8")) if source else _measured(arguments)
    if arguments.save:
        arguments.save.parent.mkdir(parents=True, exist_ok=True)
        arguments.save.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1) if arguments.json else search_report.text(result))
    if arguments.plot:
        import search_plot

        search_plot.draw(result, arguments.plot)
    return 0


def _measured(arguments: argparse.Namespace) -> dict[str, Any]:
    arguments.cache.mkdir(parents=True, exist_ok=True)
    requests = list(_requests(arguments))
    most = max(arguments.threads)
    for dimensions in sorted({request["dimensions"] for request in requests if request["data"] == "text"}):
        # Embedded with all cores, and before the load is looked at.
        embedding = {"part": "text", "data": "text", "dimensions": dimensions, "threads": os.cpu_count()}
        _asked(_common(arguments) | embedding)
    known = _asked({"part": "about", "threads": most})
    started, before = time.perf_counter(), surroundings.load()
    found: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS}
    for number, request in enumerate(requests, 1):
        tell(
            f"[{number}/{len(requests)}, {time.perf_counter() - started:.0f} s] {request['called']}: {request['data']}, "
            f"{request['dimensions']} dimensions, {request['threads']} thread{'s' * (request['threads'] > 1)}"
        )
        load = surroundings.load()
        answer = _asked(request)
        told = {name: request[name] for name in ("data", "dimensions", "threads", "rows", "k")}
        told |= {"metric": request["metric"]} if "metric" in request else {}
        found[request["called"]].append(told | answer | {"load_before": load, "load_after": surroundings.load()})
    return {
        "benchmark": "search",
        "machine": surroundings.machine(),
        "versions": _versions() | known["versions"],
        "kernel": known["kernel"],
        "pools": known["pools"],
        "threads": arguments.threads,
        "load_before": before,
        "load_after": surroundings.load(),
        "seconds": round(time.perf_counter() - started),
        "quick": arguments.quick,
        **found,
    }


def _versions() -> dict[str, str]:
    found = surroundings.versions()
    # In the peers' environment there is no package of that name: the sources and the kernel beside them are used.
    return {"python": found["python"], "aifw": found["aifw"].replace("not installed", "from its sources")}


def _common(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "rows": arguments.rows,
        "queries": max(*arguments.batches, 16),
        "k": arguments.k,
        "cache": os.fspath(arguments.cache),
        "methods": arguments.methods,
        "checked": arguments.checked,
        "least": 3,
    }


def _requests(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    common = _common(arguments)
    scale = 0.1 if arguments.quick else 1.0
    seconds = {batch: scale * _seconds(batch) for batch in sorted(arguments.batches)}
    first = min(arguments.dimensions)
    metric = arguments.metrics[0]
    plotted = arguments.data[0]
    for part in arguments.only:
        common["called"] = part
        if part == "compare":
            for data in arguments.data:
                for dimensions in arguments.dimensions:
                    for threads in arguments.threads:
                        yield common | {
                            "part": "compare",
                            "data": data,
                            "dimensions": dimensions,
                            "threads": threads,
                            "metrics": arguments.metrics,
                            "seconds": seconds,
                            "patience": 1.0,
                        }
        elif part == "batches":
            swept = {batch: scale * allowed for batch, allowed in SWEPT.items() if batch <= max(arguments.batches)}
            yield common | {
                "part": "compare",
                "data": plotted,
                "dimensions": first,
                "threads": 1,
                "metrics": [metric],
                "seconds": swept,
                "patience": 4.0 * scale,
            }
        elif part == "sizes":
            yield common | {
                "part": "sizes",
                "data": "gaussian",
                "dimensions": first,
                "threads": 1,
                "metric": metric,
                "sizes": arguments.sizes,
                "queries": 16,
                "least": 5,
                "seconds": scale,
            }
        else:
            for dimensions in arguments.dimensions:
                for threads in arguments.threads:
                    yield common | {
                        "part": "index",
                        "data": plotted,
                        "dimensions": dimensions,
                        "threads": threads,
                        "metric": metric,
                        "seconds": scale,
                        "folder": os.fspath(arguments.cache),
                    }


def _seconds(batch: int) -> float:
    return next((allowed for known, allowed in SECONDS.items() if batch <= known), SECONDS[1024])


def _has_avx512() -> bool:
    """Whether OpenBLAS can use its kernels for it. Releases older than the processor do not find that out by themselves."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return False
    return {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags


def _asked(request: dict[str, Any]) -> dict[str, Any]:
    """The answer of a process that has the threads of the request from its beginning.

    Raises:
        SystemExit: It failed; what it said is on standard error.
    """
    threads = str(request["threads"])
    environment = dict.fromkeys(POOLS, threads) | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if _has_avx512():
        environment["OPENBLAS_CORETYPE"] = "SkylakeX"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    script = Path(__file__).with_name("search_parts.py")
    done = subprocess.run(
        [sys.executable, script, json.dumps(request)],
        env={
            **inherited,
            **environment,
            "PYTHONPATH": os.pathsep.join(filter(None, [os.fspath(script.parents[1]), os.environ.get("PYTHONPATH")])),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"search_parts.py {request['part']} ended with {done.returncode}: {json.dumps(request)}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="a tenth of the time and 20,000 rows: figures to look at, not to quote")
    add("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run")
    add("--data", nargs="+", choices=DATA, default=list(DATA))
    add("--dimensions", nargs="+", type=int, default=[384, 768])
    add("--metrics", nargs="+", choices=METRICS, default=list(METRICS))
    add("--threads", nargs="+", type=int, default=[1, 2])
    add("--batches", nargs="+", type=int, default=list(SECONDS))
    add("--methods", nargs="+", choices=METHODS, default=[], help="all that are installed by default")
    add("--rows", type=int, default=None, help=f"vectors to search in (default: {ROWS:,})")
    add("--sizes", nargs="+", type=int, default=None, help="numbers of vectors in the part `sizes`")
    add("-k", type=int, default=10, help="rows to find (default: 10)")
    add(
        "--checked",
        type=int,
        default=256,
        help="queries whose answers are compared with 64-bit arithmetic (default: 256)",
    )
    add("--cache", type=Path, default=CACHE, help="where embedded text is kept (default: %(default)s)")
    add("--json", action="store_true", help="print JSON instead of tables")
    add("--save", type=Path, metavar="FILE", help="write the JSON here, too")
    add("--plot", type=Path, metavar="FILE", help="draw batches and sizes as PNG; needs matplotlib")
    add("--from", dest="source", type=Path, metavar="FILE", help="measure nothing: show what --save wrote")
    arguments = parser.parse_args()
    if "text" in arguments.data and not EMBEDDED.issuperset(arguments.dimensions):
        parser.error(
            f"text comes in {' and '.join(map(str, sorted(EMBEDDED)))} dimensions; choose other --data for the rest"
        )
    arguments.rows = arguments.rows or (20_000 if arguments.quick else ROWS)
    arguments.sizes = arguments.sizes or (SIZES[:4] if arguments.quick else SIZES)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
