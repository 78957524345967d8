"""Prompts answered one after the other, token by token, under a clock: rows of suites `latency`, `throughput`, `resources` and `cost`.

Every prompt is continued greedily, as a single user would see it: no other request shares the device. The first few do not count, since
libraries choose kernels and fill caches then. Where more requests are wanted than there are items, items come again; their rows are of
one group, so that repetitions do not pass for independent samples.

How fast a machine is changes from minute to minute, and would pass for a difference between two models that are timed one after the
other. So for latency and throughput both are held in memory and answer each prompt in turn, now one first, now the other. What they take
of the machine is measured with one in memory.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from aifw.errors import InputInvalid
from aifw.evaluation.kinds import Prices, TimingOptions
from aifw.evaluation.runs import Rows
from aifw.evaluation.runs.items import Items
from aifw.evaluation.runs.side import Side
from aifw.hardware.consumption import consumption
from aifw.models.answer import Decoder, next_tokens
from aifw.models.load import quiet

TIMED = ("latency", "throughput", "resources", "cost")
_OF_THE_CLOCK = frozenset({"latency", "throughput"})


class TimingRun:
    """See the module.

    Args:
        wanted: The suites that are asked for.
        steps: Items there are.
        options: How many requests, and how long.
        prices: Terms of the cost.
        paired: A baseline is timed too.
    """

    def __init__(
        self, wanted: Sequence[str], steps: int, options: TimingOptions, prices: Prices, *, paired: bool
    ) -> None:
        self.suites: tuple[str, ...] = tuple(suite for suite in TIMED if suite in wanted)
        self._in_turn = paired and bool(_OF_THE_CLOCK & set(self.suites))
        self._alone = not self._in_turn or bool(set(self.suites) - _OF_THE_CLOCK)
        self._each = options.warm_up + (options.requests or steps)
        self.steps = self._each * (self._in_turn + self._alone)
        self._options = options
        self._prices = prices
        self._opened: list[tuple[Side, Items]] = []
        self._requests: dict[str, list[dict[str, Any]]] = {}
        self._runs: dict[str, dict[str, Any]] = {}

    def measure(self, side: Side, items: Items) -> None:
        """Answer all requests, first alone and then, once there are two, in turn."""
        if self._alone:
            # What it takes to load a model and to get going is not what a request takes.
            self._warm_up([(side, items)], 0)
            with consumption() as taken:
                rows = self._answered([(side, items)], 0)[side.name]
            self._requests[side.name] = rows
            self._runs[side.name] = {
                "items": len(rows),
                "tokens": sum(row["tokens"] for row in rows),
                "seconds": sum(row["seconds"] for row in rows),
                **taken.known,
                "unknown": dict(taken.unknown),
            }
        self._opened.append((side, items))
        if self._in_turn and len(self._opened) == 2:
            self._warm_up(self._opened, self._each * self._alone)
            self._requests = self._answered(self._opened, self._each * self._alone)
            # The first was let go of when its turn was over, and is here once more.
            self._opened[0][0].close()

    def _warm_up(self, sides: Sequence[tuple[Side, Items]], before: int) -> None:
        """Load what is not there yet, and have each side answer some requests, in turn, that nobody times."""
        options = self._options
        with quiet():
            ready = [(side, side.decoder, items.prompts(options.requests, options.max_tokens)) for side, items in sides]
            for number in range(-options.warm_up, 0):
                sides[-1][0].tell(before + options.warm_up + number)
                for side, decoder, prompts in ready[::-1] if number % 2 else ready:
                    _timed(decoder, prompts[number % len(prompts)], options.max_tokens, side.ends)

    def _answered(self, sides: Sequence[tuple[Side, Items]], before: int) -> dict[str, list[dict[str, Any]]]:
        """Rows of the requests of each side, which take turns in being first."""
        options = self._options
        prompts = {side.name: items.prompts(options.requests, options.max_tokens) for side, items in sides}
        chosen = sides[0][1].chosen(options.requests)
        rows: dict[str, list[dict[str, Any]]] = {side.name: [] for side, _ in sides}
        with quiet():
            for number in range(options.requests or len(chosen)):
                sides[-1][0].tell(before + options.warm_up + number)
                at, again = number % len(chosen), number // len(chosen)
                for side, items in sides[::-1] if number % 2 else sides:
                    timed = _timed(side.decoder, prompts[side.name][at], options.max_tokens, side.ends)
                    identity = items.identified(chosen[at])
                    if again:
                        # No item of its own, so nothing that could change under its id.
                        identity = {"id": f"{identity['id']}#{again}", "group": identity["group"]}
                    rows[side.name].append(identity | timed)
        for side, _ in sides:
            if not all(row["new_tokens"] for row in rows[side.name]):
                raise InputInvalid(f"{side.source.address} gives no token for some prompts", hint="shorten the prompts")
        return rows

    def rows(self, side: str) -> Rows:
        """A row for each request, or one for all of them."""
        run, requests = self._runs.get(side, {}), self._requests[side]
        whole = {"id": "run", "group": "run"}
        prices = {name: value for name, value in self._prices.model_dump().items() if value is not None}
        made: dict[str, list[dict[str, Any]]] = dict.fromkeys(_OF_THE_CLOCK, requests)
        if run:
            known = {name: value for name, value in run.items() if name not in {"tokens", "seconds"}}
            terms = {name: run[name] for name in ("tokens", "seconds", "joules") if name in run}
            made |= {"resources": [whole | known], "cost": [whole | terms | {"prices": prices}]}
        return {suite: made[suite] for suite in self.suites}


def _timed(decoder: Decoder, prompt: Sequence[int], most: int, ends: frozenset[int]) -> dict[str, Any]:
    """Seconds to the first token and to the whole answer, and tokens read and written."""
    began = time.perf_counter()
    first, count = 0.0, 0
    for _ in next_tokens(decoder, prompt, most, ends=ends):
        count += 1
        if count == 1:
            first = time.perf_counter() - began
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "first_token": first, "new_tokens": count, "tokens": len(prompt) + count}
