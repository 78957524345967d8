"""The figures of `search.py` for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from search_figures import FAISS_SCAN, LABELS, METHODS, OURS, by_batch, faiss_default, ratios, target
from table import table

PROMISE = 0.002
"""Seconds one query among 100,000 vectors may take: "10 ms to 2 ms"."""


def text(result: Mapping[str, Any]) -> str:
    """Every table."""
    parts = ["\n".join(_surroundings(result))]
    parts += ["\n".join(_comparison(found, each)) for found in result["compare"] for each in found["metrics"]]
    if result["compare"]:
        parts.append("\n".join(_summary(result)))
        parts.append("\n".join(_bandwidth(result)))
        parts.append("\n".join(_candidates(result)))
        parts.append("\n".join(_promise(result)))
    if result["index"]:
        parts.append("\n".join(_index(result)))
    for found in result["batches"]:
        parts.append("\n".join(_sweep(by_batch(found["metrics"][0]["figures"]), "batch", found)))
    for found in result["sizes"]:
        parts.append("\n".join(_sweep(by_batch(found["figures"], "rows"), "vectors", found)))
    return "\n\n".join(parts)


def _surroundings(result: Mapping[str, Any]) -> Iterator[str]:
    machine, kernel = result["machine"], result["kernel"]
    yield f"{machine['cpu']}, {machine['cores']} cores, {machine['memory'] / 1024**3:.1f} GiB, Linux {machine['kernel']}"
    yield ", ".join(f"{name} {each}" for name, each in result["versions"].items())
    yield f"kernel {kernel['level']} (usable: {', '.join(kernel['usable']) or 'none'}; compiler: {kernel['compiler']})"
    yield "thread pools, with the most threads: " + "; ".join(result["pools"])
    yield f"load before {result['load_before']}, after {result['load_after']}; {result['seconds']} s in all"
    if result["quick"]:
        yield "QUICK: few rounds over few rows. Not to be quoted."


def _comparison(found: Mapping[str, Any], each: Mapping[str, Any]) -> Iterator[str]:
    dimensions, threads, metric = found["dimensions"], found["threads"], each["metric"]
    yield (
        f"{found['data']}, {dimensions} dimensions, {LABELS[metric]}, {threads} thread{'s' * (threads > 1)}, "
        f"{found['rows']:,} rows, k {found['k']}, load {found['load_before'][0]}: milliseconds, least / median"
    )
    figures = by_batch(each["figures"])
    names = [name for name in METHODS if any(name in methods for methods in figures.values())]
    rows = []
    for batch, methods in figures.items():
        for clock in ("cpu", "wall"):
            cells = [
                "left out"
                if "left_out" in (of := methods.get(name, {"left_out": ""}))
                else f"{_ms(of[clock + '_min'])} / {_ms(of[clock + '_median'])}"
                for name in names
            ]
            rows.append([str(batch) if clock == "cpu" else "", clock.upper() if clock == "cpu" else clock, *cells])
            if clock == "wall":
                rows.append(["", "rounds", *(str(methods.get(name, {}).get("runs", "")) for name in names)])
    yield table(["batch", "", *names], rows)
    ratios = [row for batch in figures for row in _ratio(figures[batch], batch, found, metric)]
    if ratios:
        yield table(
            ["batch", "best peer", "CPU, least", "CPU, median", "wall, median", "wanted (CPU, median)", ""], ratios
        )
    yield from _notes(found, each, figures)


def _ratio(methods: Mapping[str, Any], batch: int, found: Mapping[str, Any], metric: str) -> Iterator[list[str]]:
    ratio = ratios(methods)
    if ratio is None:
        return
    wanted = target(batch, found["dimensions"], metric) if found["threads"] == 1 else None
    yield [
        str(batch),
        ratio["peer"],
        *(f"{ratio[name]:.2f}x" for name in ("cpu_min", "cpu_median", "wall_median")),
        "" if wanted is None else f"{wanted:g}x",
        "" if wanted is None else "met" if ratio["cpu_median"] >= wanted else "MISSED",
    ]


def _notes(found: Mapping[str, Any], each: Mapping[str, Any], figures: Mapping[int, Any]) -> Iterator[str]:
    least: dict[str, float] = {}
    error = 0.0
    for methods in figures.values():
        for name, one in methods.items():
            if "recall" in one:
                least[name] = min(one["recall"], least.get(name, 1.0))
            error = max(error, one.get("score_error", 0.0))
    yield f"recall in 64-bit arithmetic, least over the batches, first {each['checked']} queries: " + ", ".join(
        f"{name} {least[name]:.6f}".rstrip("0").rstrip(".") for name in METHODS if name in least
    )
    if OURS in least:
        yield f"scores of {OURS} differ from those of 64-bit arithmetic by at most {error:.1e} of the largest there can be"
    if each["faiss_threshold"] is not None:
        chosen = ", ".join(
            f"{batch}: {faiss_default(each['faiss_threshold'], batch, found['dimensions'])[6:]}" for batch in figures
        )
        yield f"FAISS by default (threshold {each['faiss_threshold']:,}) takes at {chosen}"
    for batch, methods in figures.items():
        for name, one in methods.items():
            if "left_out" in one:
                yield f"{name} left out at {batch}: {one['left_out']}"
    if each["missing"]:
        yield f"not installed: {', '.join(each['missing'])}"


def _summary(result: Mapping[str, Any]) -> Iterator[str]:
    batches = sorted(
        {each["batch"] for found in result["compare"] for one in found["metrics"] for each in one["figures"]}
    )
    rows = []
    for found in result["compare"]:
        for each in found["metrics"]:
            figures = by_batch(each["figures"])
            cells = []
            for batch in batches:
                ratio = ratios(figures.get(batch, {}))
                wanted = target(batch, found["dimensions"], each["metric"]) if found["threads"] == 1 else None
                figure = "cpu_median" if found["threads"] == 1 else "wall_median"
                cells.append("" if ratio is None else f"{ratio[figure]:.2f}x")
                cells.append(
                    ""
                    if ratio is None or wanted is None
                    else "met"
                    if ratio[figure] >= wanted
                    else f"MISSED {wanted:g}x"
                )
            rows.append(
                [found["data"], str(found["dimensions"]), LABELS[each["metric"]], str(found["threads"]), *cells]
            )
    if rows:
        yield "Times the best tuned peer (medians; CPU time with one thread, wall time with more)"
        yield table(
            ["data", "dimensions", "metric", "threads", *(cell for batch in batches for cell in (f"at {batch}", ""))],
            rows,
        )
    abouts = {(found["data"], found["dimensions"]): found["about"] for found in result["compare"]}
    yield from (f"{data}, {dimensions}: {about}" for (data, dimensions), about in abouts.items())


def _bandwidth(result: Mapping[str, Any]) -> Iterator[str]:
    yield "Bytes read for one query against measured memory bandwidth (medians of wall time; median of the bandwidths measured by each process)"
    rows = []
    for found in result["compare"]:
        for each in found["metrics"]:
            one = by_batch(each["figures"]).get(1, {})
            plain = found["rows"] * found["dimensions"] * 4
            for name, size in ((OURS, _read(found, each)), (FAISS_SCAN, plain)):
                if size and name in one and "left_out" not in one[name]:
                    speed = size / one[name]["wall_median"]
                    rows.append(
                        [
                            found["data"],
                            str(found["dimensions"]),
                            LABELS[each["metric"]],
                            str(found["threads"]),
                            name,
                            f"{size / 1e6:.1f} MB",
                            f"{speed / 1e9:.1f} GB/s",
                            f"{found['bandwidth'] / 1e9:.1f} GB/s",
                            f"{speed / found['bandwidth']:.0%}",
                        ]
                    )
    yield table(["data", "dimensions", "metric", "threads", "method", "read", "is", "memory gives", ""], rows)


def _read(found: Mapping[str, Any], each: Mapping[str, Any]) -> float | None:
    """Bytes of the codes, and of the low codes and the rows of those that were looked at more closely."""
    counters, dimensions = _counters(each, 1), found["dimensions"]
    if not counters:
        return None
    closer = counters["refined"] * dimensions / 2 + counters["scored"] * dimensions * 4
    return float(each["memory"]["codes"] + closer)


def _counters(each: Mapping[str, Any], batch: int) -> Mapping[str, float]:
    # Keys of JSON objects are strings.
    return each["counters"].get(str(batch)) or each["counters"].get(batch) or {}


def _candidates(result: Mapping[str, Any]) -> Iterator[str]:
    yield "Rows a query, as the kernel counts them (one thread; rows is what there is, then what is left after each step)"
    rows, names = [], []
    for found in result["compare"]:
        for each in found["metrics"]:
            if found["threads"] == min(one["threads"] for one in result["compare"]):
                for batch in by_batch(each["figures"]):
                    counters = _counters(each, batch)
                    names = names or list(counters)
                    if counters:
                        rows.append(
                            [found["data"], str(found["dimensions"]), LABELS[each["metric"]], str(batch)]
                            + [f"{counters.get(name, 0):,.1f}" for name in names]
                        )
    yield table(["data", "dimensions", "metric", "batch", *names], rows)


def _promise(result: Mapping[str, Any]) -> Iterator[str]:
    yield f'"10 ms to {PROMISE * 1000:g} ms at 100,000 vectors": one query, k 10, median wall time'
    rows = []
    for found in result["compare"]:
        for each in found["metrics"]:
            one = by_batch(each["figures"]).get(1, {})
            peers = {name: of["wall_median"] for name, of in one.items() if name != OURS and "left_out" not in of}
            if OURS in one and peers and found["rows"] == 100_000:
                ours, best = one[OURS]["wall_median"], min(peers, key=lambda name: peers[name])
                rows.append(
                    [
                        f"{found['data']}, {found['dimensions']}, {LABELS[each['metric']]}",
                        str(found["threads"]),
                        f"{_ms(peers[best])} ({best})",
                        _ms(ours),
                        "met" if ours <= PROMISE else "MISSED",
                    ]
                )
    yield (
        table(["", "threads", "best peer, ms", f"{OURS}, ms", ""], rows)
        if rows
        else "not measured: needs 100,000 rows and batch 1"
    )


def _index(result: Mapping[str, Any]) -> Iterator[str]:
    yield "The index: building, memory, opening, filter"
    for found in result["index"]:
        build, size = found["build"], found["bytes_per_vector"]
        yield (
            f"{found['data']}, {found['rows']:,} x {found['dimensions']}, {LABELS[found['metric']]}, "
            f"{found['threads']} thread{'s' * (found['threads'] > 1)}"
        )
        yield f"  build: {build['wall']:.2f} s, {build['cpu']:.2f} s of CPU; save: {found['save']:.2f} s"
        parts = ", ".join(f"{name} {value:.1f}" for name, value in size.items())
        yield (
            f"  bytes a vector: {sum(size.values()):.1f} ({parts}), {sum(size.values()) / found['float32_bytes']:.2f} times float32; "
            f"file {found['file_bytes'] / found['rows']:.1f}"
        )
        for state, meaning in (("cold", "file dropped from memory before"), ("warm", "at once again")):
            each = found[f"open_{state}"]
            yield (
                f"  open, {state} ({meaning}): {_ms(each['open'])} ms; first search {_ms(each['first_search'])} ms, "
                f"second {_ms(each['second_search'])} ms"
            )
        rows = [
            [
                name,
                f"{_ms(of['cpu_min'])} / {_ms(of['cpu_median'])}",
                f"{_ms(of['wall_min'])} / {_ms(of['wall_median'])}",
                f"{of['recall']:.4f}" if "recall" in of else "",
            ]
            for name, of in found["filter"]["figures"].items()
        ]
        yield table(
            [
                f"one query, {found['filter']['allowed']:,} rows",
                "CPU ms, least / median",
                "wall ms, least / median",
                "recall",
            ],
            rows,
        )


def _sweep(swept: Mapping[int, Mapping[str, Any]], axis: str, found: Mapping[str, Any]) -> Iterator[str]:
    fixed = f"{found['rows']:,} rows" if axis == "batch" else "one query"
    metric = found["metric"] if "metric" in found else found["metrics"][0]["metric"]
    yield f"Against {axis}: {found['data']}, {found['dimensions']} dimensions, {LABELS[metric]}, {fixed}, 1 thread, CPU milliseconds, median"
    names = [name for name in METHODS if any(name in methods for methods in swept.values())]
    yield table(
        [axis, *names],
        [
            [
                f"{at:,}",
                *(_ms(of["cpu_median"]) if "cpu_median" in (of := methods.get(name, {})) else "" for name in names),
            ]
            for at, methods in swept.items()
        ],
    )
    if found.get("too_large"):
        yield f"not enough memory for {', '.join(f'{rows:,}' for rows in found['too_large'])} vectors"


def _ms(seconds: float) -> str:
    value = seconds * 1000
    return (
        f"{value:.0f}"
        if value >= 100
        else f"{value:.1f}"
        if value >= 10
        else f"{value:.2f}"
        if value >= 0.1
        else f"{value:.3f}"
    )
