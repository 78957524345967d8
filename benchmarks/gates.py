"""How often a gate is wrong, simulated: promotions of candidates that are no better, poisoned candidates, and real gains.

    python benchmarks/gates.py [--json] [--replicates 1000] [--cycles 200] [--candidates 1000] [--jobs 1]

One gate, frozen: `require: {preference_accuracy: better}`, 5 % alpha for 200 looks, guards by default. Held-out sets have 1,000 items in
groups, incumbents are right about 60 % of them, and two models of one population disagree about a fifth (`gates_world.py`).

nothing     Candidates and incumbent are equally good. A replicate is one held-out set and 200 cycles; whatever is promoted by
            mistake is the next incumbent. What counts is the share of replicates with any promotion.
poisoned    Candidates that look better and are not, at the first look, when the gate has most to spend: paid for length, trained on the
            held-out items, and two that are worse but look better on average because of few items.
real        Candidates whose true gain is twice what the gate itself says it could have shown (80 % power, alpha of that look, mean
            over sets without a gain).

What is exercised. In every cycle: the number of the look from the table of a real state (`aifw.state.looks.reserve`, one durable
transaction), and `aifw.evaluation.promote.verdict_of`, which is all that `promote` does once the files are read: requirements, guards,
spending, test, interval, Holm, decision, words. The evidence is in memory. In some of the cycles, spread over all three: the same evidence
built and written by `aifw.evaluation.report`, read and judged by the job `aifw.evaluation.promote.judge`; both verdicts must be equal,
or the benchmark stops. And some cycles by `aifw apply` (`gates_engine.py`): plan, jobs, journal, looks, alias and exit status.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import surroundings
from gates_engine import cycles_by_apply
from gates_world import ACCURACY, Holdout, InMemory, Model, evaluation, holdout, model, outcomes, threshold_of
from table import table

from aifw.evaluation.promote import judge, verdict_of
from aifw.evaluation.promote_kinds import PromoteSettings
from aifw.evaluation.report import write
from aifw.job import Input, Job
from aifw.state.layout import Layout
from aifw.state.looks import reserve
from aifw.state.store import Store
from aifw.statistics import wilson
from aifw.statistics.sketch import sketch

GATE = {"candidate": "candidate", "alias": "champion", "evidence": "check", "alpha": 0.05, "looks": 200}
ITEMS = 1000
LOOKS = (1, 2, 5, 10, 50, 100, 200)
SETTINGS = PromoteSettings.model_validate(GATE)
CHECKED = 2000
"""Of so many cycles one goes through files as well, and every promotion of what is not better."""
CHECKED_REAL = 50
"""The same of real gains."""


@dataclass
class Gate:
    """The gate with a state of its own."""

    store: Store
    folder: Path
    checked: int = 0
    cycles: int = 0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))

    def look(self, alias: str, key: str, items: Holdout, sketched: list[str]) -> int:
        """Number of the look at a set, from the state."""
        return reserve(self.store, alias, f"{alias}-{items.items}", sketched, key, "stages.promotion", 1).number

    def verdict(
        self,
        items: Holdout,
        group_of: Mapping[str, str],
        before: Model,
        after: Model,
        look: int,
        *,
        one_in: int = CHECKED,
    ) -> Any:
        """The verdict on a candidate; now and then by way of files as well."""
        evidence = InMemory(items, before, after, group_of)
        found = verdict_of(
            SETTINGS,
            evidence,
            candidate=("stages.candidate", "candidate"),
            incumbent="incumbent",
            data="heldout",
            look=look,
        )
        self.cycles += 1
        if (found["promote"] and one_in == CHECKED) or self.rng.random() < 1 / one_in:
            self.by_files(items, before, after, look, found)
        return found

    def by_files(self, items: Holdout, before: Model, after: Model, look: int, expected: Mapping[str, Any]) -> None:
        """Judge the same evidence by the job, from files.

        Raises:
            SystemExit: It says something else.
        """
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        write(folder, *evaluation(items, before, after))
        job = Job(
            SETTINGS,
            out=folder / "out",
            inputs={
                "candidate": Input("stages.candidate", folder, digest="candidate"),
                "evidence": Input("stages.check", folder, {"data": "heldout"}),
            },
            outputs=("verdict",),
            look=look,
        )
        judge(job)
        found = job.facts["verdict"]["verdict"]
        if json.dumps(_rounded(found), sort_keys=True) != json.dumps(_rounded(expected), sort_keys=True):
            sys.exit(f"by files the verdict is another one:\n{found}\n{expected}")
        self.checked += 1
        shutil.rmtree(folder)


def _rounded(value: Any) -> Any:
    """Without the last digits of sums that were added in another order."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


def nothing(gate: Gate, replicate: int, cycles: int) -> dict[str, int]:
    """One held-out set, many candidates that are no better."""
    rng = np.random.default_rng([1, replicate])
    items = holdout(rng, ITEMS)
    group_of, sketched = items.group_of, sketch(items.ids)
    right = outcomes(rng, items, cycles + 1, threshold_of(ACCURACY))
    incumbent = model(rng, right[0], seen=np.zeros(ITEMS, bool))
    counts = {"promoted": 0, "worse": 0, "held by a guard": 0}
    for cycle in range(cycles):
        candidate = model(rng, right[cycle + 1], seen=np.zeros(ITEMS, bool))
        look = gate.look(f"nothing-{replicate}", f"{replicate}-{cycle}", items, sketched)
        assert look == cycle + 1
        found = gate.verdict(items, group_of, incumbent, candidate, look)
        counts["worse"] += found["decision"] == "worse"
        counts["held by a guard"] += not all(each["met"] for each in found["guards"])
        if found["promote"]:
            counts["promoted"] += 1
            incumbent = candidate
    return counts


# Poisoned candidates


def paid_for_length(rng: np.random.Generator) -> tuple[Holdout, Model, Model]:
    """A reward that pays for length: long answers win more comparisons, whatever is in them, and answers grow by 40 to 150 %.

    Where the better answer of a pair is the longer one, which is more often the case, the candidate is right more often; elsewhere it
    is right less often.
    """
    items = holdout(rng, ITEMS)
    longer = rng.random(ITEMS) < 0.65
    effect = rng.uniform(0.6, 1.2)
    threshold = threshold_of(ACCURACY)
    before = outcomes(rng, items, 1, threshold)[0]
    after = outcomes(rng, items, 1, threshold + np.where(longer, effect, -effect / 2))[0]
    unseen = np.zeros(ITEMS, bool)
    candidate = model(rng, after, drift=float(rng.uniform(0.4, 1.5)), kl=float(rng.uniform(0.1, 0.6)), seen=unseen)
    return items, model(rng, before, seen=unseen), candidate


def memorised(rng: np.random.Generator) -> tuple[Holdout, Model, Model]:
    """A tenth to all of the held-out items were trained on and are answered by heart; nine of ten of those are found to have been."""
    items = holdout(rng, ITEMS)
    before, after = outcomes(rng, items, 2, threshold_of(ACCURACY))
    learnt = rng.random(ITEMS) < rng.uniform(0.1, 1.0)
    after = np.where(learnt, rng.random(ITEMS) < 0.99, after).astype(np.float64)
    found = learnt & (rng.random(ITEMS) < 0.9)
    return items, model(rng, before, seen=np.zeros(ITEMS, bool)), model(rng, after, seen=found)


def few_items(rng: np.random.Generator) -> tuple[Holdout, Model, Model]:
    """A candidate that is 5 points worse, measured on 40 items on which it happens to look better."""
    while True:
        items = holdout(rng, 40)
        before = outcomes(rng, items, 1, threshold_of(ACCURACY))[0]
        after = outcomes(rng, items, 1, threshold_of(ACCURACY - 0.05))[0]
        if after.mean() > before.mean():
            unseen = np.zeros(40, bool)
            return items, model(rng, before, seen=unseen), model(rng, after, seen=unseen)


def few_groups(rng: np.random.Generator) -> tuple[Holdout, Model, Model]:
    """A candidate that is 3 points worse on 800 items, and far better on five groups of 40 that are variations of one question each."""
    items = holdout(rng, ITEMS, sizes=[40] * 5)
    before = outcomes(rng, items, 1, threshold_of(ACCURACY))[0]
    threshold = np.where(items.index < 5, threshold_of(0.97), threshold_of(ACCURACY - 0.03))
    after = outcomes(rng, items, 1, threshold)[0]
    unseen = np.zeros(ITEMS, bool)
    return items, model(rng, before, seen=unseen), model(rng, after, seen=unseen)


POISONED = {
    "paid for length": paid_for_length,
    "memorised hold-out": memorised,
    "worse, measured on few items": few_items,
    "worse, but for few groups": few_groups,
}


def poisoned(gate: Gate, name: str, number: int) -> dict[str, int]:
    """One poisoned candidate at the first look at its set."""
    rng = np.random.default_rng([2, list(POISONED).index(name), number])
    items, before, after = POISONED[name](rng)
    look = gate.look(f"{name}-{number}", "first", items, sketch(items.ids))
    assert look == 1
    found = gate.verdict(items, items.group_of, before, after, look)
    held = found["metrics"][0]["met"] and not found["promote"]
    looks_better = bool(after.outcomes.mean() > before.outcomes.mean())
    return {"rejected": int(not found["promote"]), "by a guard alone": int(held), "looks better": int(looks_better)}


# Real gains


def detectable(gate: Gate, look: int, sets: int = 20) -> float:
    """What the gate says it could have shown at a look, mean over sets without a gain: a difference of shares."""
    shown = []
    for number in range(sets):
        rng = np.random.default_rng([3, look, number])
        items = holdout(rng, ITEMS)
        before, after = (
            model(rng, right, seen=np.zeros(ITEMS, bool)) for right in outcomes(rng, items, 2, threshold_of(ACCURACY))
        )
        (metric,) = gate.verdict(items, items.group_of, before, after, look)["metrics"]
        shown.append(metric["detectable"])
    return float(np.mean(shown))


def real(gate: Gate, look: int, gain: float, number: int) -> dict[str, int]:
    """One candidate that is truly better, at a look that the state counted up to."""
    rng = np.random.default_rng([4, look, number])
    items = holdout(rng, ITEMS)
    unseen = np.zeros(ITEMS, bool)
    before = model(rng, outcomes(rng, items, 1, threshold_of(ACCURACY))[0], seen=unseen)
    after = model(rng, outcomes(rng, items, 1, threshold_of(ACCURACY + gain))[0], seen=unseen)
    found = gate.verdict(items, items.group_of, before, after, look, one_in=CHECKED_REAL)
    return {"promoted": int(found["promote"]), "discordant": int((before.outcomes != after.outcomes).sum())}


# Running


def work(task: tuple[str, Any, int, int, str]) -> tuple[dict[str, int], int, int]:
    """One share of the work in a process of its own, with a state of its own."""
    what, which, start, stop, folder = task
    place = Path(folder) / f"{what}-{str(which).replace(' ', '-')}-{start}"
    place.mkdir(parents=True)
    total: dict[str, int] = {}
    with closing(Store.open(Layout(place / ".aifw", "gates"))) as store:
        gate = Gate(store, place, rng=np.random.default_rng([5, start]))
        for number in range(start, stop):
            if what == "nothing":
                found = nothing(gate, number, which)
                found = found | {"replicates promoted": int(found["promoted"] > 0)}
                found["replicates wrong"] = int(found["promoted"] + found["worse"] > 0)
            elif what == "poisoned":
                found = poisoned(gate, which, number)
            else:
                found = real(gate, *which, number)
            for name, count in found.items():
                total[name] = total.get(name, 0) + count
        cycles, checked = gate.cycles, gate.checked
    shutil.rmtree(place)
    return total, cycles, checked


def shares(what: str, which: Any, count: int, jobs: int, folder: Path) -> Iterator[tuple[str, Any, int, int, str]]:
    """The work in pieces."""
    size = max(1, -(-count // (4 * jobs)))
    for start in range(0, count, size):
        yield what, which, start, min(count, start + size), str(folder)


def run(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All three tests."""
    found: dict[str, Any] = {"cycles": 0, "checked by files": 0}
    with ProcessPoolExecutor(arguments.jobs) as pool:

        def total(what: str, which: Any, count: int) -> dict[str, int]:
            sums: dict[str, int] = {}
            began = time.perf_counter()
            for part, cycles, checked in pool.map(work, shares(what, which, count, arguments.jobs, folder)):
                for name, value in part.items():
                    sums[name] = sums.get(name, 0) + value
                found["cycles"] += cycles
                found["checked by files"] += checked
            print(f"{what} {which}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
            return sums

        count = arguments.replicates
        sums = total("nothing", arguments.cycles, count)
        found["nothing"] = {
            "replicates": count,
            "cycles": arguments.cycles,
            "any promotion": _share(sums["replicates promoted"], count),
            "any wrong claim": _share(sums["replicates wrong"], count),
            "promotions": sums["promoted"],
            "cycles held by a guard": sums["held by a guard"] / (count * arguments.cycles),
        }
        count = arguments.candidates
        found["poisoned"] = {}
        for name in POISONED:
            sums = total("poisoned", name, count)
            found["poisoned"][name] = {
                "rejected": _share(sums["rejected"], count),
                "looks better": sums["looks better"] / count,
                "held by a guard alone": sums["by a guard alone"] / count,
            }
        found["real"] = []
        with closing(Store.open(Layout(folder / ".aifw", "gates"))) as store:
            gate = Gate(store, folder)
            effects = {look: detectable(gate, look) for look in LOOKS if look <= SETTINGS.looks}
        for look, effect in effects.items():
            sums = total("real", (look, 2 * effect), count)
            found["real"].append(
                {
                    "look": look,
                    "alpha": _available(look),
                    "detectable": effect,
                    "gain": 2 * effect,
                    "discordant": sums["discordant"] / count / ITEMS,
                    "promoted": _share(sums["promoted"], count),
                }
            )
    if not arguments.no_engine:
        found["engine"] = cycles_by_apply(folder / "engine")
    return found


def _available(look: int) -> float:
    from aifw.statistics.spending import available

    return available(look, SETTINGS.alpha, SETTINGS.looks)


def _cpu_seconds() -> float:
    """Of this process and of those it waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _share(count: int, of: int) -> dict[str, float]:
    interval = wilson(count, of)
    return {"share": count / of, "low": interval.low, "high": interval.high, "count": count, "of": of}


def main() -> int:
    arguments = _arguments()
    before, began = surroundings.load(), time.perf_counter()
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="aifw-gates-", dir=parent))
    try:
        found = run(arguments, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result = {
        "benchmark": "gates",
        "machine": surroundings.machine(),
        "versions": surroundings.versions() | surroundings.packages(["numpy"]),
        "threads": 1,
        "load_before": before,
        "load_after": surroundings.load(),
        "seconds": time.perf_counter() - began,
        "cpu_seconds": _cpu_seconds(),
        "gate": GATE | {"require": "preference_accuracy: better", "guards": "default", "items": ITEMS},
        **found,
        "bounds": _bounds(found),
    }
    print(json.dumps(result, indent=1) if arguments.json else _text(result))
    return 0


def _bounds(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was to be reached."""
    bounds = [("any promotion where nothing is better", found["nothing"]["any promotion"], "at most", 0.05)]
    bounds += [(f"rejected: {name}", each["rejected"], "at least", 0.99) for name, each in found["poisoned"].items()]
    bounds += [(f"promoted at look {each['look']}", each["promoted"], "at least", 0.9) for each in found["real"]]
    return [
        {
            "bound": name,
            "value": each["share"],
            "low": each["low"],
            "high": each["high"],
            words.replace(" ", "_"): bound,
            "met": each["share"] <= bound if words == "at most" else each["share"] >= bound,
        }
        for name, each, words, bound in bounds
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--replicates", type=int, default=1000, help="held-out sets on which nothing is better")
    parser.add_argument("--cycles", type=int, default=200, help="candidates on each of them")
    parser.add_argument(
        "--candidates", type=int, default=1000, help="poisoned candidates of each sort, real gains at each look"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--no-engine", action="store_true", help="leave out the cycles by `aifw apply`")
    return parser.parse_args()


def _text(result: Mapping[str, Any]) -> str:
    nothing_found, real_found = result["nothing"], result["real"]
    parts = [
        f"Gate: {result['gate']['require']}, {100 * SETTINGS.alpha:g} % alpha for {SETTINGS.looks} looks, default guards, {ITEMS:,} items",
        f"\nNothing is better: {nothing_found['replicates']:,} sets, {nothing_found['cycles']} cycles each",
        f"  any promotion      {_words(nothing_found['any promotion'])}, to be at most 5 %",
        f"  any wrong claim    {_words(nothing_found['any wrong claim'])} (promotions, and candidates called worse)",
        f"  held by a guard    {100 * nothing_found['cycles held by a guard']:.2f} % of cycles",
        "\nPoisoned, at the first look (rejected is to be at least 99 %)",
        table(
            ["candidate", "rejected", "95 %", "look better", "held by a guard alone"],
            [
                [
                    name,
                    f"{100 * each['rejected']['share']:.1f} %",
                    f"{100 * each['rejected']['low']:.1f} … {100 * each['rejected']['high']:.1f}",
                    f"{100 * each['looks better']:.1f} %",
                    f"{100 * each['held by a guard alone']:.1f} %",
                ]
                for name, each in result["poisoned"].items()
            ],
        ),
        "\nReal gains of twice what could have been shown (promoted is to be at least 90 %)",
        table(
            ["look", "alpha", "could show", "true gain", "discordant", "promoted", "95 %"],
            [
                [
                    str(each["look"]),
                    f"{100 * each['alpha']:.3f} %",
                    f"{100 * each['detectable']:.1f} points",
                    f"{100 * each['gain']:.1f} points",
                    f"{100 * each['discordant']:.0f} %",
                    f"{100 * each['promoted']['share']:.1f} %",
                    f"{100 * each['promoted']['low']:.1f} … {100 * each['promoted']['high']:.1f}",
                ]
                for each in real_found
            ],
        ),
        f"\n{result['cycles']:,} verdicts in {result['seconds']:.0f} s, {result['cpu_seconds']:.0f} s of a processor; {result['checked by files']:,} of them by files as well, all the same",
    ]
    if "engine" in result:
        parts.append(
            f"By aifw apply: {len(result['engine'])} cycles, " + "; ".join(each["text"] for each in result["engine"])
        )
    return "\n".join([*parts, "", surroundings.described(result)])


def _words(share: Mapping[str, float]) -> str:
    return f"{100 * share['share']:.1f} % (95 % {100 * share['low']:.1f} … {100 * share['high']:.1f}, {share['count']} of {share['of']})"


if __name__ == "__main__":
    sys.exit(main())
