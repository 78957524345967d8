"""What `search_large.py` measures, part by part, each in a process of its own.

Called with a request as JSON, answers with JSON on the last line of standard output.
"""

from __future__ import annotations

import gc
import json
import math
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from search_measure import timed
from search_parts import FILTERED, dropped

from aifw.search import Index, kernel_info

METRIC = "inner_product"
SEED = 5
BLOCK = 4096
"""Rows that come from one state of the generator."""
WARM = {1: 7, 8: 5}
"""Counted runs of a batch that is in memory already; fewer of larger ones."""
WARM_LARGE = 3
PROCESS = Path("/proc/self")


class Rows:
    """Vectors that are made when they are asked for: always the same, whatever the slices.

    Attributes:
        cpu, wall: Seconds that making them took so far.
    """

    def __init__(self, rows: int, dimensions: int) -> None:
        self.shape = (rows, dimensions)
        self.dtype = np.dtype(np.float32)
        self.cpu = self.wall = 0.0
        self._number = -1
        self._block = np.empty((BLOCK, dimensions), np.float32)

    def __getitem__(self, wanted: slice) -> NDArray[np.float32]:
        cpu, wall, found = timed(lambda: self._made(*wanted.indices(self.shape[0])[:2]))
        self.cpu += cpu
        self.wall += wall
        return found

    def __len__(self) -> int:
        return self.shape[0]

    def _made(self, first: int, last: int) -> NDArray[np.float32]:
        found = np.empty((last - first, self.shape[1]), np.float32)
        at = first
        while at < last:
            number, offset = divmod(at, BLOCK)
            if number != self._number:
                np.random.Generator(np.random.SFC64([SEED, number])).standard_normal(dtype=np.float32, out=self._block)
                self._number = number
            end = min(last, (number + 1) * BLOCK)
            found[at - first : end - first] = self._block[offset : offset + end - at]
            at = end
        return found


class Best:
    """The best rows of one query so far, by exact inner products: each product of float32 is a double, and `fsum` rounds once."""

    def __init__(self, query: NDArray[np.float32], k: int) -> None:
        self._query = query.astype(np.float64)
        self._norm = float(np.linalg.norm(self._query))
        self._k = k
        self.found: list[tuple[float, int]] = []

    def look(self, block: NDArray[np.float64], ids: NDArray[np.int64], longest: float) -> None:
        """Go on with rows whose norm is at most `longest`."""
        scores = block @ self._query
        bar = self.found[-1][0] if len(self.found) == self._k else -math.inf
        if len(scores) > self._k:
            bar = max(bar, float(np.partition(scores, -self._k)[-self._k]))
        # Sums of 64-bit numbers in any order are wrong by less.
        slack = 2 * len(self._query) * np.finfo(np.float64).eps * self._norm * longest
        for row in np.flatnonzero(scores >= bar - slack).tolist():
            self.found.append((math.fsum((block[row] * self._query).tolist()), int(ids[row])))
        self.found = sorted(self.found, key=lambda each: (-each[0], each[1]))[: self._k]


def about(_request: dict[str, Any]) -> dict[str, Any]:
    """What the kernel runs on."""
    return {"kernel": asdict(kernel_info()), "numpy": np.__version__}


def build(request: dict[str, Any]) -> dict[str, Any]:
    """Make vectors and index, block by block."""
    own, path = _own_memory(), Path(request["path"])
    rows, threads = Rows(request["rows"], request["dimensions"]), max(request["threads"])
    ids = _ids(request, np.arange(len(rows))) if request["own_ids"] else None
    cpu, wall, _ = timed(lambda: Index.build(rows, ids, METRIC, path=path, threads=threads))
    files = [each.stat().st_size for each in path.iterdir()]
    return {
        "own_before": own,
        "threads": threads,
        "cpu": cpu - rows.cpu,
        "wall": wall - rows.wall,
        "making_cpu": rows.cpu,
        "making_wall": rows.wall,
        "file_bytes": sum(files),
        "files": len(files),
    }


def search(request: dict[str, Any]) -> dict[str, Any]:
    """Each batch size with each number of threads: the files not in memory, and at once again."""
    own, path, k = _own_memory(), Path(request["path"]), request["k"]
    queries = _queries(request)
    figures, answers = [], []
    for threads in request["threads"]:
        for batch in request["batches"]:
            gc.collect()
            dropped(path)
            opening, index = timed(lambda: Index.open(path))[1:]
            read = _bytes_read()

            def once(index: Index = index, batch: int = batch, threads: int = threads) -> Any:
                return index.search_counted(queries[:batch], k, threads=threads)

            cold_cpu, cold, (ids, scores, counters) = timed(once)
            read = _bytes_read() - read
            answers.append(_answers(ids, scores))
            warm = [timed(once)[:2] for _ in range(WARM.get(batch, WARM_LARGE))]
            figures.append(
                {"threads": threads, "batch": batch, "open": opening, "cold": cold, "cold_cpu": cold_cpu, "read": read}
                | {"counters": counters}
                | _summary(warm)
            )
            del index, once
    longest = max(answers, key=len)
    return {
        "own_before": own,
        "figures": figures,
        "agree": all(each == longest[: len(each)] for each in answers),
        "answers": longest[: request["checked"]],
    }


def filtered(request: dict[str, Any]) -> dict[str, Any]:
    """One query among one row in a hundred."""
    own, allowed, queries = _own_memory(), _allowed(request), _queries(request)
    index = Index.open(request["path"])
    selecting, selection = timed(lambda: index.selection(_ids(request, allowed)))[1:]
    figures = []
    for threads in request["threads"]:

        def once(threads: int = threads) -> Any:
            return index.search(queries[:1], request["k"], threads=threads, allow=selection)

        first = timed(once)[1]
        figures.append({"threads": threads, "first": first} | _summary([timed(once)[:2] for _ in range(WARM[1])]))
    found = index.search(queries[: request["checked"]], request["k"], allow=selection)
    return {
        "own_before": own,
        "allowed": len(allowed),
        "selecting": selecting,
        "table": index.memory()["table"],
        "figures": figures,
        "answers": _answers(*found),
    }


def truth(request: dict[str, Any]) -> dict[str, Any]:
    """The same answers by looking at every vector, made anew."""
    count, k = request["checked"], request["k"]
    rows, queries = Rows(request["rows"], request["dimensions"]), _queries(request)[:count]
    allowed = np.zeros(request["rows"], bool)
    allowed[_allowed(request)] = True
    everywhere, chosen = ([Best(query, k) for query in queries] for _ in range(2))
    for first in range(0, request["rows"], BLOCK):
        block = rows[first : first + BLOCK].astype(np.float64)
        ids = _ids(request, np.arange(first, first + len(block)))
        longest = math.sqrt(np.einsum("ij,ij->i", block, block).max())
        here = allowed[first : first + len(block)]
        for one, other in zip(everywhere, chosen, strict=True):
            one.look(block, ids, longest)
            other.look(block[here], ids[here], longest)
    return {
        "checked": count,
        "search_answers": [[list(each) for each in one.found] for one in everywhere],
        "filtered_answers": [[list(each) for each in one.found] for one in chosen],
    }


def _answers(ids: NDArray[np.int64], scores: NDArray[np.float64]) -> list[list[list[Any]]]:
    """For each query, score and id of what was found."""
    return [
        [[score, row] for row, score in zip(*each, strict=True)]
        for each in zip(ids.tolist(), scores.tolist(), strict=True)
    ]


def _summary(runs: list[tuple[float, float]]) -> dict[str, Any]:
    cpu, wall = zip(*runs, strict=True)
    return {
        "cpu_min": min(cpu),
        "cpu_median": statistics.median(cpu),
        "wall_min": min(wall),
        "wall_median": statistics.median(wall),
        "runs": len(runs),
    }


def _queries(request: dict[str, Any]) -> NDArray[np.float32]:
    random = np.random.default_rng([SEED, 1, 1])
    return random.standard_normal((max(request["batches"]), request["dimensions"]), dtype=np.float32)


def _ids(request: dict[str, Any], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of some rows: their numbers, or others that cannot be computed from them by the index."""
    return 7 * rows + 3 if request["own_ids"] else rows


def _allowed(request: dict[str, Any]) -> NDArray[np.int64]:
    count = max(request["k"], int(FILTERED * request["rows"]))
    return np.sort(np.random.default_rng([SEED, 2, 2]).choice(request["rows"], count, replace=False))


def _own_memory() -> int:
    """Bytes that are backed by no file: of the interpreter and what was imported, before anything was done."""
    text = (PROCESS / "status").read_text(encoding="utf-8")
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(("RssAnon:", "RssShmem:")))


def _bytes_read() -> int:
    """From the disk on behalf of this process, so far."""
    lines = (PROCESS / "io").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes:"))


def main() -> int:
    request = json.loads(sys.argv[1])
    parts = {part.__name__: part for part in (about, build, search, filtered, truth)}
    print(json.dumps(parts[request["part"]](request)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
