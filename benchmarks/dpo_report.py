"""Tables and the picture of `dpo.py`, and the time that the products of matrices alone would take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from table import table


def limit_seconds(model: Path, tokens: Sequence[float], threads: int, precisions: Sequence[str]) -> dict[str, float]:
    """Processor seconds a pair of the multiplications of matrices alone, at the speed measured here for such matrices.

    Counted is a row of the prompt and both answers forward, the gradients by its inputs back, an adapter of rank 8, and the output layer at the
    positions of answers, twice.
    """
    import torch

    from aifw.models.describe import describe
    from aifw.models.memory_training import on_pairs
    from aifw.models.size import Shape
    from aifw.models.work import micro_step

    shape = Shape.of(describe(model))
    prompt, chosen, rejected = tokens
    how = on_pairs(1, prompt, (chosen + rejected) / 2, rank=8)
    operations = micro_step(shape, how).operations
    torch.set_num_threads(threads)
    found = {"operations": operations}
    rows = 2 * round(sum(tokens))
    for precision in precisions:
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        left, right = (
            torch.randn(rows, int(shape.hidden)).to(kind),
            torch.randn(int(shape.intermediate), int(shape.hidden)).to(kind),
        )
        times = []
        for _ in range(40):
            before = time.process_time()
            for _ in range(20):
                torch.nn.functional.linear(left, right)
            times.append((time.process_time() - before) / 20)
        speed = 2 * rows * shape.hidden * shape.intermediate / min(times)
        found[precision] = operations / speed
        found[f"{precision}_speed"] = speed
    return found


def median(runs: Sequence[Mapping[str, Any]], name: str, axis: int) -> float | None:
    """Of the runs that have it."""
    values = [run[name][axis] for run in runs if run[name] is not None]
    return statistics.median(values) if values else None


def print_report(report: Mapping[str, Any]) -> None:
    """Everything, for people."""
    machine = report["machine"]
    print(f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}; load {report['load_before']} before")
    print(", ".join(f"{name} {number}" for name, number in report["versions"].items()))
    for case in report["cases"]:
        _print_case(case)


def _print_case(case: Mapping[str, Any]) -> None:
    prompt, chosen, rejected = case["tokens"]
    print(
        f"\n{case['case']}, {case['threads']} threads: pairs of {prompt:.0f} + {chosen:.0f} + {rejected:.0f} tokens\n"
    )
    print("TRL's options, reference stored, long and short apart:")
    print(
        table(
            ("", "processor s a pair", "wall", "reference", "peak MB"),
            [
                (
                    f"{options['precision']}, micro-batch {options['micro_batch']}"
                    + (" *" if options == case["best"] else ""),
                    f"{pair[0]:.3f}",
                    f"{pair[1]:.3f}",
                    f"{reference[0]:.3f}" if reference else "-",
                    f"{peak / 1e6:,.0f}",
                )
                for options, pair, reference, peak in case["grid"]
            ],
        )
    )
    base = case["sides"]["TRL, best"]
    trained, wall = (median(base, "per_pair", axis) for axis in (0, 1))
    whole = _whole(base)
    rows = []
    for name, runs in case["sides"].items():
        own, own_wall, own_whole = median(runs, "per_pair", 0), median(runs, "per_pair", 1), _whole(runs)
        assert None not in {own, own_wall, trained, wall}
        heldout = runs[-1]["heldout"]
        limit = case["limit"].get(name.removeprefix("aifw, "))
        rows.append(
            (
                name,
                f"{own:.3f}",
                f"{trained / own:.2f}x",
                f"{own_wall:.3f}",
                f"{wall / own_wall:.2f}x",
                f"{own_whole:.3f}" if own_whole else "-",
                f"{whole / own_whole:.2f}x" if whole and own_whole else "-",
                f"{statistics.median(run['peak'] for run in runs) / 1e6:,.0f}",
                f"{limit / own:.0%}" if limit else "-",
                f"{runs[-1]['losses'][-1]:.5f}",
                f"{heldout:.5f}" if heldout is not None else "-",
            )
        )
    print()
    print(
        table(
            (
                "",
                "processor s a pair",
                "",
                "wall",
                "",
                "with reference",
                "",
                "peak MB",
                "of the limit",
                "last loss",
                "held out",
            ),
            rows,
        )
    )
    limit = case["limit"]
    for name in ("fp32", "bf16"):
        if name in limit:
            print(
                f"limit {name}: {limit['operations'] / 1e9:.1f} billion operations a pair at {limit[f'{name}_speed'] / 1e9:.0f} a processor second: {limit[name]:.3f} s"
            )


def _whole(runs: Sequence[Mapping[str, Any]]) -> float | None:
    trained, reference = median(runs, "per_pair", 0), median(runs, "reference_per_pair", 0)
    return None if trained is None or reference is None else trained + reference


def write_plot(report: Mapping[str, Any], path: Path) -> None:
    """Loss curves of both sides over each other, and processor time a pair."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    cases = [case for case in report["cases"] if "-" not in case["case"]]
    figure, rows = plt.subplots(2, len(cases), figsize=(4.2 * len(cases), 6.4), squeeze=False)
    colours = {"TRL, best": "#d95f02", "TRL, best, allocator": "#fc8d62", "TRL, as it comes": "#e6ab02", "aifw, fp32": "#1b9e77", "aifw, bf16": "#7570b3", "aifw, compiled": "#666666"}  # fmt: skip
    for (curve, bars), case in zip(rows.T, cases, strict=True):
        for name, runs in case["sides"].items():
            losses = runs[-1]["losses"]
            dashed = name.startswith("TRL")
            curve.plot(
                range(1, len(losses) + 1),
                losses,
                "--" if dashed else "-",
                color=colours[name],
                label=name,
                lw=2.4 if dashed else 1.4,
            )
        curve.set_title(f"{case['case']}, {case['threads']} threads", fontsize=10)
        curve.set_xlabel("step")
        curve.set_ylabel("loss")
        curve.legend(fontsize=7, frameon=False)
        names = list(case["sides"])
        trained = [median(case["sides"][name], "per_pair", 0) or 0.0 for name in names]
        scored = [median(case["sides"][name], "reference_per_pair", 0) or 0.0 for name in names]
        bars.barh(names, trained, color=[colours[name] for name in names])
        bars.barh(names, scored, left=trained, color="#bbbbbb", label="reference pass")
        for index, value in enumerate(trained):
            bars.text(value / 2, index, f"{value:.2f}", va="center", ha="center", fontsize=7, color="white")
        bars.invert_yaxis()
        bars.set_xlabel("processor seconds a pair")
        bars.tick_params(labelsize=7)
        bars.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
