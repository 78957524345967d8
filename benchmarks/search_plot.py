"""Draw what `search.py --save` wrote: time against batch size, and against the number of vectors.

python benchmarks/search_plot.py FILE.json PICTURE.png
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search_figures import FAISS_BLAS, FAISS_SCAN, LABELS, METHODS, OURS, by_batch, faiss_default

FAISS_DEFAULT, FAISS_TUNED = "FAISS, default", "FAISS, better threshold"
# Okabe and Ito's colours, and a marker and a line of its own for each: no two lines differ by colour alone.
STYLES = {
    OURS: ("#000000", "o", "-"),
    FAISS_DEFAULT: ("#D55E00", "s", "--"),
    FAISS_TUNED: ("#E69F00", "D", "-"),
    "numpy": ("#0072B2", "^", "-."),
    "torch": ("#56B4E9", "v", ":"),
    "usearch": ("#009E73", "P", (0, (5, 1, 1, 1))),
    "numkong": ("#CC79A7", "X", (0, (3, 1, 1, 1, 1, 1))),
}


def draw(result: Mapping[str, Any], picture: Path) -> None:
    """One picture with a panel for each part that was measured.

    Raises:
        ValueError: Neither was.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    panels: list[tuple[str, str, dict[str, dict[int, float]]]] = []
    for found in result["batches"]:
        each = found["metrics"][0]
        about = (
            f"{found['rows']:,} {found['data']} vectors of {found['dimensions']} dimensions, {LABELS[each['metric']]}"
        )
        panels.append(
            (about, "queries in a batch", lines(each["figures"], "batch", each["faiss_threshold"], found["dimensions"]))
        )
    for found in result["sizes"]:
        about = f"one query, {found['data']} vectors of {found['dimensions']} dimensions, {LABELS[found['metric']]}"
        panels.append((about, "vectors", lines(found["figures"], "rows", None, found["dimensions"])))
    if not panels:
        raise ValueError("there is nothing to draw: measure the parts `batches` and `sizes`")
    figure, axes = plt.subplots(1, len(panels), figsize=(7 * len(panels), 6), squeeze=False, layout="constrained")
    for axis, (title, below, drawn) in zip(axes[0], panels, strict=True):
        for name, points in drawn.items():
            colour, marker, line = STYLES[name]
            axis.loglog(
                list(points),
                [seconds * 1000 for seconds in points.values()],
                color=colour,
                marker=marker,
                linestyle=line,
                linewidth=3 if name == OURS else 1.5,
                markersize=11 if name == FAISS_DEFAULT else 7,
                markerfacecolor="none" if name == FAISS_DEFAULT else colour,
                zorder=3 if name == OURS else 2,
                label=name,
            )
        ticks = sorted({at for points in drawn.values() for at in points})
        axis.set_xticks(ticks, [f"{at:,}" for at in ticks], rotation=45 if len(ticks) > 8 else 0)
        axis.xaxis.minorticks_off()
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_xlabel(below)
        axis.set_ylabel("CPU time, ms (median)")
        axis.set_title(title, fontsize=10)
        axis.grid(which="major", alpha=0.4)
        axis.grid(which="minor", axis="y", alpha=0.15)
        axis.legend(fontsize=9)
    machine, versions = result["machine"], result["versions"]
    peers = ", ".join(f"{name} {versions[name]}" for name in ("FAISS", "numpy", "torch", "usearch", "numkong"))
    figure.suptitle(
        f"Exact search for the {(result['batches'] or result['sizes'])[0]['k']} nearest, one thread, {machine['cpu']}, "
        f"kernel {result['kernel']['level']}\n{peers}",
        fontsize=11,
    )
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def lines(
    figures: list[dict[str, Any]], key: str, threshold: int | None, dimensions: int
) -> dict[str, dict[int, float]]:
    """Median processor seconds of each line by batch size or number of rows; of FAISS, what it does by default and what it should do.

    Without a threshold the batch is one query.
    """
    drawn: dict[str, dict[int, float]] = {name: {} for name in STYLES}
    for at, methods in by_batch(figures, key).items():
        medians = {name: each["cpu_median"] for name, each in methods.items() if "cpu_median" in each}
        for name in METHODS:
            if name in medians and name in drawn:
                drawn[name][at] = medians[name]
        default = faiss_default(threshold, at, dimensions) if threshold is not None else FAISS_SCAN
        if default in medians:
            drawn[FAISS_DEFAULT][at] = medians[default]
        tuned = [medians[name] for name in (FAISS_SCAN, FAISS_BLAS) if name in medians]
        if tuned:
            drawn[FAISS_TUNED][at] = min(tuned)
    return {name: points for name, points in drawn.items() if points}


def main() -> int:
    if len(sys.argv) != 3:
        print((__doc__ or "").strip(), file=sys.stderr)
        return 64
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
