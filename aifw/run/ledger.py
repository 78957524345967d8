"""What running jobs have reserved, as a value: each change makes another ledger, and when nothing runs it is empty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from aifw.plan.needs import MEMORY

_NOTHING: Mapping[str, Mapping[str, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Ledger:
    """Reservations of running jobs.

    Attributes:
        entries: By job, what it reserved of each resource: bytes of `memory`, processors, accelerators.
    """

    entries: Mapping[str, Mapping[str, int]] = field(default_factory=lambda: _NOTHING)

    def reserved(self, job: str, needs: Mapping[str, int]) -> Ledger:
        """The ledger with a job more.

        Raises:
            ValueError: The job has a reservation, or one of the amounts is negative.
        """
        if job in self.entries:
            raise ValueError(f"{job} has a reservation already")
        if any(amount < 0 for amount in needs.values()):
            raise ValueError(f"{job} cannot reserve less than nothing: {dict(needs)}")
        return Ledger(MappingProxyType({**self.entries, job: MappingProxyType(dict(needs))}))

    def released(self, job: str) -> Ledger:
        """The ledger without a job.

        Raises:
            KeyError: It has no reservation.
        """
        entries = dict(self.entries)
        del entries[job]
        return Ledger(MappingProxyType(entries))

    def used(self, held: Mapping[str, int] = MappingProxyType({})) -> dict[str, int]:
        """Sum of all reservations, by resource.

        Args:
            held: Bytes each job holds now. Of memory, what one holds counts where that is more than it reserved.
        """
        found: dict[str, int] = {}
        for needs in self.entries.values():
            for name, amount in needs.items():
                found[name] = found.get(name, 0) + amount
        beyond = sum(max(0, held.get(job, 0) - needs.get(MEMORY, 0)) for job, needs in self.entries.items())
        if beyond:
            found[MEMORY] = found.get(MEMORY, 0) + beyond
        return found

    def memory(self, job: str) -> int:
        """Bytes a job reserved; 0 for one that reserved none."""
        return self.entries[job].get(MEMORY, 0) if job in self.entries else 0

    def promised(self, held: Mapping[str, int]) -> int:
        """Bytes that are reserved and not held yet: they look available and are not.

        Args:
            held: Bytes each job holds now. What one holds beyond its reservation does not make up for another that holds less.
        """
        return sum(max(0, needs.get(MEMORY, 0) - held.get(job, 0)) for job, needs in self.entries.items())
