"""Facts, metrics and verdicts in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_MOST_FACTS = 3
_MOST_COMPARED = 2
_COUNTS = ("rows", "pairs", "items", "documents", "passages")
_MINUS = "\N{MINUS SIGN}"


def summary(facts: Mapping[str, Any], outputs: Mapping[str, Mapping[str, Any]]) -> str:
    """What a job made, from the facts it stated: `1,204 train, 311 heldout`.

    Args:
        facts: Of the whole artifact.
        outputs: Facts of each named output.
    """
    for group in (facts, *outputs.values()):
        if isinstance(group.get("summary"), str):
            return str(group["summary"])
    comparison = next((found for group in outputs.values() if (found := _comparison(group))), "")
    if comparison:
        return comparison
    for group in outputs.values():
        if isinstance(group.get("provenance"), str):
            return str(group["provenance"])
    counts = [
        f"{group[name]:,} {output}"
        for output, group in outputs.items()
        if (name := next((each for each in _COUNTS if isinstance(group.get(each), int)), None))
    ]
    if counts:
        return ", ".join(counts)
    scalars = [(name, value) for group in (facts, *outputs.values()) for name, value in group.items()]
    return metrics({name: value for name, value in scalars if isinstance(value, int | float)})


def _comparison(facts: Mapping[str, Any]) -> str:
    shown = [
        f"{words(name)} {decimal(facts[f'baseline_{name}'])} → {decimal(value)}"
        for name, value in facts.items()
        if isinstance(value, int | float) and isinstance(facts.get(f"baseline_{name}"), int | float)
    ]
    del shown[_MOST_COMPARED:]
    items = f" on {facts['items']:,} items" if shown and isinstance(facts.get("items"), int) else ""
    return ", ".join(shown) + items


def metrics(values: Mapping[str, float], most: int = _MOST_FACTS) -> str:
    """The first few numbers with their names: `loss 0.588 · margin 0.21`."""
    return " · ".join(f"{words(name)} {decimal(value)}" for name, value in list(values.items())[:most])


def decision(verdict: Mapping[str, Any]) -> str:
    """A verdict in a word or two where its measures are told beside it, else as it says itself."""
    if verdict.get("metrics") and verdict.get("decision"):
        return words(str(verdict["decision"]))
    return str(verdict.get("summary") or verdict.get("decision") or "")


def verdict_lines(verdict: Mapping[str, Any]) -> Iterable[str]:
    """A line for each measure of a verdict, with the interval of the difference, and for each guard that gave the alarm."""
    level = f"{100 * (1 - float(verdict['alpha'])):.3g} %" if verdict.get("alpha") else "interval"
    for each in verdict.get("metrics", ()):
        yield _measure(each, level)
    for alarm in verdict.get("guards", ()):
        if not alarm.get("met"):
            yield f"guard: {alarm.get('text', alarm.get('measure', 'gave the alarm'))}"


def _measure(each: Mapping[str, Any], level: str) -> str:
    if isinstance(each.get("text"), str):
        # A gate that knows the units of its measures says it itself.
        return str(each["text"])
    if isinstance(each.get("text"), str) and each["text"]:
        # What was required and measured in its own unit, as the gate put it.
        return str(each["text"])
    text = f"{words(str(each.get('metric', 'measure')))}"
    if each.get("before") is not None and each.get("after") is not None:
        text += f" {decimal(each['before'])} → {decimal(each['after'])}"
    inside = []
    if each.get("difference") is not None:
        inside.append(f"{points(each['difference'])} points")
    if each.get("low") is not None and each.get("high") is not None:
        inside.append(f"{level} {points(each['low'])} … {points(each['high'])}")
    if each.get("p") is not None:
        inside.append(f"p {probability(each['p'])}")
    if each.get("n") is not None:
        inside.append(f"n {each['n']:,}")
    if not each.get("met") and each.get("detectable") is not None:
        inside.append(f"could have shown {abs(100 * float(each['detectable'])):.1f}")
    if not each.get("met") and each.get("needed") and each["needed"] > each.get("n", 0):
        inside.append(f"about {_rounded(each['needed']):,} items would show this difference")
    return f"{text} ({', '.join(inside)})" if inside else text


def _rounded(count: float) -> int:
    """Two digits that matter, upwards."""
    factor = 10 ** max(0, len(str(int(count))) - 2)
    return int(-(-count // factor) * factor)


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    value = 100 * float(share)
    return f"{_MINUS if value < 0 else '+'}{abs(value):.1f}"


def probability(value: float) -> str:
    """A p value: two digits, or that it is tiny."""
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"


def decimal(value: float) -> str:
    """A number as short as it can be read: counts with commas, others with three digits that matter."""
    if isinstance(value, int) or (float(value).is_integer() and abs(value) >= 1000):
        return f"{int(value):,}"
    if value == 0 or 0.001 <= abs(value) < 1000:
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return f"{value:.2e}"


def words(name: str) -> str:
    """A name as words."""
    return name.replace("_", " ")
