"""Several processes that each compute a part of every step and hold the same weights.

Each begins with the same weights, takes its share of the micro-batches, and gradients are added up before the optimiser's step, which so is the
same everywhere. What is reported, saved and asked is the first process's business; the others are told what it decided. They find each other
through a file and talk over the loopback interface.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from aifw.errors import JobError

_PATIENCE = timedelta(minutes=30)
"""For one that does not answer: looks at pairs kept apart are made by one alone."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among others.

    Attributes:
        rank: Which one it is, from 0.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether it reports, saves and decides."""
        return self.rank == 0

    def share(self, parts: Sequence[Any]) -> Sequence[Any]:
        """The parts of a step that are this one's."""
        return parts[self.rank :: self.count]

    def add_up(self, weights: Sequence[Any], numbers: Sequence[float]) -> list[float]:
        """Add gradients, in place, and numbers of all processes.

        Args:
            weights: Trained parameters; those without a gradient count as zero.
            numbers: As many everywhere.
        """
        if self.count == 1:
            return list(numbers)
        import torch
        from torch.distributed import all_reduce

        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        whole = torch.cat([gradient.flatten() for gradient in gradients])
        all_reduce(whole)
        parts = torch.split(whole, [gradient.numel() for gradient in gradients])
        for weight, gradient, summed in zip(weights, gradients, parts, strict=True):
            weight.grad = gradient.copy_(summed.view_as(gradient))
        sums = torch.tensor(numbers, dtype=torch.float64)
        all_reduce(sums)
        return [float(number) for number in sums]

    def agree(self, going_on: bool) -> bool:
        """What the first process says; of the others the argument is ignored."""
        if self.count == 1:
            return going_on
        import torch
        from torch.distributed import broadcast

        said = torch.tensor([going_on], dtype=torch.int64)
        broadcast(said, src=0)
        return bool(said)


@contextmanager
def together(count: int, follow: Callable[..., None], arguments: tuple[Any, ...]) -> Iterator[Ranks]:
    """Start the other processes, and end them.

    Args:
        count: Of processes, this one included.
        follow: What the others run: a function of a module, called with a `Ranks` and the arguments.
        arguments: For it; they are sent to another process.

    Raises:
        JobError: One of them failed.
    """
    if count == 1:
        yield Ranks()
        return
    from torch.distributed import DistError, destroy_process_group, is_initialized

    with tempfile.TemporaryDirectory(prefix="ranks-") as folder:
        context = get_context("spawn")
        others = [
            context.Process(target=_other, args=(folder, rank, count, follow, arguments), daemon=True)
            for rank in range(1, count)
        ]
        try:
            for other in others:
                other.start()
            _wait_for(others, Path(folder))
            _join(folder, 0, count)
            yield Ranks(0, count)
            for other in others:
                other.join()
        except (DistError, RuntimeError) as error:
            for other in others:
                other.join(5)
            failed = [other.exitcode for other in others if other.exitcode]
            if not failed:
                raise
            raise _failed(count, failed[0]) from error
        finally:
            for other in others:
                if other.is_alive():
                    other.terminate()
                if other.pid is not None:
                    other.join()
            if is_initialized():
                destroy_process_group()


def _wait_for(others: Sequence[Any], folder: Path) -> None:
    """Until all the others have imported what they need; one that dies before would never be noticed."""
    while len(list(folder.glob("ready-*"))) < len(others):
        failed = [other.exitcode for other in others if other.exitcode is not None]
        if failed:
            raise _failed(len(others) + 1, failed[0])
        time.sleep(0.05)


def _failed(count: int, status: int | None) -> JobError:
    return JobError(
        f"one of {count} training processes ended with status {status}",
        hint="its last lines are in the log; a script that trains with several processes needs `if __name__ == '__main__':`",
    )


def _join(folder: str, rank: int, count: int) -> None:
    from torch.distributed import init_process_group

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count, timeout=_PATIENCE)


def _other(folder: str, rank: int, count: int, follow: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    from torch.distributed import destroy_process_group

    (Path(folder) / f"ready-{rank}").touch()
    _join(folder, rank, count)
    try:
        follow(Ranks(rank, count), *arguments)
    finally:
        destroy_process_group()
