"""What `search.py` measures, part by part. Each runs in a process of its own, whose libraries were given their threads beforehand.

Called with a request as JSON, answers with JSON on the last line of standard output.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import search_data
import search_measure
import search_peers
from numpy.typing import NDArray
from processes import tell
from search_figures import OURS
from search_peers import Faiss, Method, Ours

FILTERED = 0.01
COUNTED = 64
"""Queries in the largest batch that counters are asked for: for one query they depend on its batch no longer."""
COPIES = 6
"""Peers and we together keep so many copies of the rows, at most."""


def compare(request: dict[str, Any]) -> dict[str, Any]:
    """Every metric and batch size with one set of data."""
    data = _loaded(request)
    bandwidth = search_measure.read_bandwidth(request["threads"])
    found = [_metric(data, metric, request) for metric in request["metrics"]]
    return {"about": data.about, "bandwidth": bandwidth, "metrics": found, "pools": search_peers.pools()}


def _metric(data: search_data.Data, metric: str, request: dict[str, Any]) -> dict[str, Any]:
    k, threads = request["k"], request["threads"]
    batches = {int(batch): seconds for batch, seconds in request["seconds"].items() if int(batch) <= len(data.queries)}
    tell(f"  {metric}")
    truth = search_data.Truth(data.rows, data.queries[: min(request["checked"], max(batches))], metric, k)
    methods, missing = search_peers.prepared(data.rows, data.queries, metric, k, threads, request["methods"])
    figures: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for (batch, seconds), following in zip_longest(batches.items(), list(batches)[1:]):
        due = {method.name: method for method in methods if method.name not in left_out}
        found = search_measure.in_turns(
            {name: partial(method.search, batch) for name, method in due.items()},
            seconds=seconds,
            least=request["least"],
            threads=threads,
            ours=OURS,
            judge=partial(_judged, due, truth),
        )
        figures += [{"batch": batch, "method": name, **each} for name, each in found.items()]
        figures += [{"batch": batch, "method": name, "left_out": reason} for name, reason in left_out.items()]
        if following:
            gaining = {name: method.gains or method.is_default(following) for name, method in due.items()}
            patience = request["patience"]
            left_out |= search_measure.hopeless(found, gaining, batch, following, patience=patience, ours=OURS)
    ours = next((method for method in methods if isinstance(method, Ours)), None)
    result = {
        "metric": metric,
        "figures": figures,
        "missing": missing,
        "checked": min(request["checked"], max(batches)),
        "faiss_threshold": next((method.default for method in methods if isinstance(method, Faiss)), None),
        "counters": {batch: ours.counted(batch) for batch in batches if batch <= COUNTED} if ours else {},
        "memory": ours.index.memory() if ours else {},
    }
    for method in methods:
        method.close()
    return result


def _judged(
    methods: Mapping[str, Method], truth: search_data.Truth, name: str, ids: NDArray[np.int64]
) -> dict[str, float]:
    method = methods[name]
    error = {"score_error": truth.score_error(ids, method.scores)} if isinstance(method, Ours) else {}
    return {"recall": truth.recall(ids)} | error


def sizes(request: dict[str, Any]) -> dict[str, Any]:
    """Time of one query against the number of rows, as far as memory goes."""
    figures, missing, too_large = [], [], []
    for rows in request["sizes"]:
        if rows * request["dimensions"] * 4 * COPIES > psutil.virtual_memory().available:
            too_large.append(rows)
            continue
        tell(f"  {rows:,} rows")
        data = _loaded(request | {"rows": rows})
        methods, missing = search_peers.prepared(
            data.rows, data.queries, request["metric"], request["k"], request["threads"], request["methods"]
        )
        found = search_measure.in_turns(
            {method.name: partial(method.search, 1) for method in methods},
            seconds=request["seconds"],
            least=request["least"],
            threads=request["threads"],
            ours=OURS,
        )
        figures += [{"rows": rows, "method": name, **each} for name, each in found.items()]
        for method in methods:
            method.close()
        del data, methods
    return {"figures": figures, "missing": missing, "too_large": too_large}


def index(request: dict[str, Any]) -> dict[str, Any]:
    """Building, memory, a file that is opened, and search among one row in a hundred."""
    from aifw.search import Index

    data = _loaded(request)
    metric, k, threads = request["metric"], request["k"], request["threads"]
    cpu, wall, built = search_measure.timed(lambda: Index.build(data.rows, metric=metric, threads=threads))
    result: dict[str, Any] = {"about": data.about, "build": {"cpu": cpu, "wall": wall}}
    query = data.queries[:1]
    result["bytes_per_vector"] = {name: size / len(data.rows) for name, size in built.memory().items()}
    result["float32_bytes"] = data.rows.shape[1] * 4

    folder = Path(tempfile.mkdtemp(prefix="aifw-bench-", dir=request["folder"]))
    try:
        path = folder / "index"
        result["save"] = search_measure.timed(lambda: built.save(path))[1]
        result["file_bytes"] = sum(each.stat().st_size for each in [path, *path.rglob("*")] if each.is_file())
        dropped(path)
        result["open_cold"] = _opened(path, query, k, threads)
        result["open_warm"] = _opened(path, query, k, threads)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result["filter"] = _filtered(data, built, request)
    return result


def _opened(path: Path, query: NDArray[np.float32], k: int, threads: int) -> dict[str, float]:
    from aifw.search import Index

    _, opening, opened = search_measure.timed(lambda: Index.open(path))
    searches = [search_measure.timed(lambda: opened.search(query, k, threads=threads))[1] for _ in range(2)]
    return {"open": opening, "first_search": searches[0], "second_search": searches[1]}


def _filtered(data: search_data.Data, built: Any, request: dict[str, Any]) -> dict[str, Any]:
    metric, k, threads = request["metric"], request["k"], request["threads"]
    query = data.queries[:1]
    allowed = np.sort(
        np.random.default_rng(2).choice(len(data.rows), max(k, int(FILTERED * len(data.rows))), replace=False)
    )
    selection = built.selection(allowed)

    def ours(**wanted: Any) -> Callable[[], Any]:
        return lambda: built.search(query, k, threads=threads, **wanted)[0]

    actions = {
        f"{OURS}, all rows": ours(),
        f"{OURS}, 1 % allowed, selection made beforehand": ours(allow=selection),
        f"{OURS}, 1 % allowed, from ids": ours(allow=allowed),
        f"{OURS}, 1 % denied, selection made beforehand": ours(deny=selection),
    }
    for flat in search_peers.prepared(data.rows, query, metric, k, threads, ["FAISS"])[0][:1]:
        assert isinstance(flat, Faiss)
        chosen = flat.bitmap(allowed)
        actions |= {
            "FAISS, all rows": partial(flat.search, 1),
            "FAISS, 1 % allowed, bitmap made beforehand": partial(flat.search_among, chosen),
            "FAISS, 1 % allowed, from ids": lambda: flat.search_among(flat.batch(allowed)),  # noqa: B023
        }
    truth = search_data.Truth(data.rows[allowed], query, metric, k)
    position = np.full(len(data.rows), -1)
    position[allowed] = np.arange(len(allowed))

    def judged(name: str, ids: NDArray[np.int64]) -> dict[str, float]:
        return {"recall": truth.recall(position[ids])} if "allowed" in name else {}

    return {
        "allowed": len(allowed),
        "figures": search_measure.in_turns(
            actions, seconds=request["seconds"], least=5, threads=threads, ours=OURS, judge=judged
        ),
    }


def text(request: dict[str, Any]) -> dict[str, Any]:
    """Embed the text, so that it is not done while something is measured."""
    return {"about": _loaded(request).about}


def about(request: dict[str, Any]) -> dict[str, Any]:
    """Versions, what the kernel runs on, and libraries' threads."""
    from dataclasses import asdict

    from aifw.search import kernel_info

    rows = np.eye(64, dtype=np.float32)
    search_peers.prepared(rows, rows, "l2", 1, request["threads"], list(search_peers.PACKAGES))
    return {"kernel": asdict(kernel_info()), "versions": search_peers.versions(), "pools": search_peers.pools()}


def _loaded(request: dict[str, Any]) -> search_data.Data:
    return search_data.load(
        request["data"], request["dimensions"], request["rows"], request["queries"], Path(request["cache"])
    )


def dropped(folder: Path) -> None:
    """Have the system forget what it keeps of the files in memory, as far as it wants to."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)


def main() -> int:
    request = json.loads(sys.argv[1])
    started = time.perf_counter()
    parts = {part.__name__: part for part in (compare, sizes, index, text, about)}
    found = parts[request["part"]](request)
    print(json.dumps(found | {"seconds": round(time.perf_counter() - started, 1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
