"""How much of alpha was spent on the held-out sets that decide about an alias."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aifw.state.store import Store


def texts(store: Store, alias: str) -> Iterable[str]:
    """A line for each held-out set, the one looked at last first."""
    from aifw.state.looks import spent

    for each in spent(store, alias):
        looks = f"{each.looks:,} look{'' if each.looks == 1 else 's'} at the held-out set {each.data[:8]}"
        total, planned = each.verdict.get("alpha_total"), each.verdict.get("looks")
        if total is None or planned is None:
            yield looks
        elif each.looks >= planned:
            yield f"{looks}, all that alpha {100 * total:.3g} % was to last for: a new held-out set is needed"
        else:
            yield f"{looks} of {planned:,}, {100 * each.verdict['alpha_spent']:.2g} of {100 * total:.3g} % alpha spent"


def document(store: Store, alias: str) -> list[dict[str, Any]]:
    """The same as `--json` prints it."""
    from aifw.state.looks import spent

    return [
        {
            "holdout": each.holdout,
            "data": each.data,
            "looks": each.looks,
            "last": each.last,
            "planned": each.verdict.get("looks"),
            "alpha_spent": each.verdict.get("alpha_spent"),
            "alpha_total": each.verdict.get("alpha_total"),
        }
        for each in spent(store, alias)
    ]
