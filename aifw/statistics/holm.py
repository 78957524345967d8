"""Several tests at once: Holm's step-down adjustment."""

from __future__ import annotations

from collections.abc import Mapping


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values (Holm 1979): those at most alpha are shown, with at most alpha for even one of them being wrong.

    A gate that wants *all* of its measures to be better needs no adjustment (Berger 1982): it errs only where each test does. Needed
    it is wherever one of several would do, such as looking at which measures of a report became better.

    Args:
        p: Raw p-value by name.

    Returns:
        Adjusted p-value by name, in the same order; none is below the raw one.

    Raises:
        ValueError: Not a probability.
    """
    for name, value in p.items():
        if not 0 <= value <= 1:
            raise ValueError(f"the p-value of {name} is not a probability: {value}")
    adjusted: dict[str, float] = {}
    largest = 0.0
    for position, name in enumerate(sorted(p, key=lambda name: (p[name], name))):
        largest = max(largest, min(1.0, (len(p) - position) * p[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p}
