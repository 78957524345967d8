"""Progress on a terminal: finished jobs as lines, running ones redrawn in place. The only module that imports rich."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from aifw.cli.narrate import PAUSED, Narrator
from aifw.plan.columns import about, padded
from aifw.units import format_bytes

_FRAMES = "◐◓◑◒"
_PER_SECOND = 8
_MOST_WAITING = 3


class LiveProgress:
    """Listens to a run and keeps the terminal up to date until it is stopped."""

    def __init__(self, narrator: Narrator, after: Mapping[str, tuple[str, ...]]) -> None:
        self._narrator = narrator
        self._after = after
        self._began = time.time()
        self._console = Console(highlight=False, soft_wrap=False)
        self._live = Live(
            console=self._console,
            get_renderable=self._picture,
            refresh_per_second=_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def stop(self) -> None:
        """Clear what is drawn; finished lines stay."""
        self._live.stop()

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take in an event."""
        for line in self._narrator.hear(event):
            self._console.print(Text.from_ansi(line), soft_wrap=True)

    def _picture(self) -> Group:
        """What is drawn below the finished lines; called by the drawing thread."""
        narrator, now = self._narrator, time.time()
        running = list(narrator.running.values())
        waiting = list(narrator.waiting)
        frame = _FRAMES[int(now * _PER_SECOND / 2) % len(_FRAMES)]
        size = max((len(each) for each in (*(job.address for job in running), *waiting[:_MOST_WAITING])), default=0)
        lines = [Text(f"{frame} {padded(job.address, size)}   {job.text(now)}", style="bold") for job in running]
        for address in [] if narrator.stopping else waiting[:_MOST_WAITING]:
            blockers = [each for each in self._after.get(address, ()) if each in narrator.running or each in waiting]
            text = f"waits for {', '.join(blockers)}" if blockers else "waits for room"
            if narrator.waiting.get(address) == PAUSED:
                text = "paused, goes on when there is room"
            lines.append(Text(f"· {padded(address, size)}   {text}", style="dim"))
        facts = [f"pool {format_bytes(narrator.used)} of {format_bytes(narrator.budget)}", about(now - self._began)]
        if len(waiting) > _MOST_WAITING:
            facts.insert(0, f"{len(waiting) - _MOST_WAITING} more waiting")
        lines.append(Text(f"  {' · '.join(facts)}", style="dim"))
        for line in lines:
            line.no_wrap = True
            line.overflow = "ellipsis"
        return Group(*lines)
