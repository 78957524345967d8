"""The order in which resources can be made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush

from aifw.spec.models import Spec


def edges(spec: Spec, initialised: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Which resources each resource waits for.

    A reference through an alias is an edge only as long as the alias has never been set: it then means the resource the alias starts with.
    """
    known = frozenset(initialised)
    return {
        address: tuple(sorted({reference.address for reference in resource.references if reference.alias not in known}))
        for address, resource in spec.resources.items()
    }


def order(waits_for: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Sort so that everything comes after what it waits for; among equals by address, so that the order written does not matter.

    Kahn, "Topological sorting of large networks" (1962), with a heap. The spec has no cycles: that is checked when it is loaded.
    """
    missing = {address: len(needed) for address, needed in waits_for.items()}
    dependants: dict[str, list[str]] = {}
    for address, needed in waits_for.items():
        for each in needed:
            dependants.setdefault(each, []).append(address)
    ready = [address for address, count in missing.items() if count == 0]
    heapify(ready)
    done: list[str] = []
    while ready:
        address = heappop(ready)
        done.append(address)
        for dependant in dependants.get(address, ()):
            missing[dependant] -= 1
            if missing[dependant] == 0:
                heappush(ready, dependant)
    assert len(done) == len(waits_for), "the spec has a cycle"
    return done


def upstream(waits_for: Mapping[str, tuple[str, ...]], targets: Iterable[str]) -> frozenset[str]:
    """The targets and everything they wait for."""
    found: set[str] = set()
    pending = list(targets)
    while pending:
        address = pending.pop()
        if address not in found:
            found.add(address)
            pending.extend(waits_for[address])
    return frozenset(found)
