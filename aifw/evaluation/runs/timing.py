"""Prompts answered one after the other, token by token, under a clock: rows of suites `latency`, `throughput`, `resources` and `cost`.

Every prompt is continued greedily, as a single user would see it: no other request shares the device. The first few do not count, since
libraries choose kernels and fill caches then. Where more requests are wanted than there are items, items come again; their rows are of
one group, so that repetitions do not pass for independent samples.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
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


class TimingRun:
    """See the module.

    Args:
        wanted: The suites that are asked for.
        steps: Items there are.
        options: How many requests, and how long.
        prices: Terms of the cost.
    """

    def __init__(self, wanted: Sequence[str], steps: int, options: TimingOptions, prices: Prices) -> None:
        self.suites = tuple(suite for suite in TIMED if suite in wanted)
        self.steps = options.warm_up + (options.requests or steps)
        self._options = options
        self._prices = prices
        self._requests: dict[str, list[dict[str, Any]]] = {}
        self._runs: dict[str, dict[str, Any]] = {}

    def measure(self, side: Side, items: Items) -> None:
        """Answer all requests."""
        options = self._options
        positions = items.chosen(options.requests)
        prompts = items.prompts(options.requests, options.max_tokens)
        decoder = side.decoder
        rows: list[dict[str, Any]] = []
        with quiet():
            for number in range(options.warm_up):
                side.tell(number)
                _timed(decoder, prompts[number % len(prompts)], options.max_tokens, side.ends)
            with consumption() as taken:
                for number in range(options.requests or len(prompts)):
                    side.tell(options.warm_up + number)
                    at, again = number % len(prompts), number // len(prompts)
                    identity = items.identified(positions[at])
                    if again:
                        # No item of its own, so nothing that could change under its id.
                        identity = {"id": f"{identity['id']}#{again}", "group": identity["group"]}
                    rows.append(identity | _timed(decoder, prompts[at], options.max_tokens, side.ends))
        if not all(row["new_tokens"] for row in rows):
            raise InputInvalid(f"{side.source.address} gives no token for some prompts", hint="shorten the prompts")
        self._requests[side.name] = rows
        self._runs[side.name] = {
            "items": len(rows),
            "tokens": sum(row["tokens"] for row in rows),
            "seconds": sum(row["seconds"] for row in rows),
            **taken.known,
            "unknown": dict(taken.unknown),
        }

    def rows(self, side: str) -> Rows:
        """A row for each request, or one for all of them."""
        run, requests = self._runs[side], self._requests[side]
        whole = {"id": "run", "group": "run"}
        prices = {name: value for name, value in self._prices.model_dump().items() if value is not None}
        made: Mapping[str, list[dict[str, Any]]] = {
            "latency": requests,
            "throughput": requests,
            "resources": [whole | {name: value for name, value in run.items() if name not in {"tokens", "seconds"}}],
            "cost": [
                whole
                | {name: run[name] for name in ("tokens", "seconds", "joules") if name in run}
                | {"prices": prices}
            ],
        }
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
