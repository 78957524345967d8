"""Small formulas over named numbers, as a spec writes them: `difference_accuracy / baseline_accuracy`.

Numbers, names, `+ - * /` and brackets. Values may be intervals; then so is the result, by interval arithmetic (Moore 1966): it holds the
truth wherever every interval that goes in does, and is wider than it need be where a name occurs twice.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

_OPERATIONS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_MOST = 500


@dataclass(frozen=True, slots=True)
class Range:
    """A number between two others, or exactly one."""

    value: float
    low: float
    high: float

    @classmethod
    def exact(cls, value: float) -> Range:
        """A number without doubt."""
        return cls(value, value, value)


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula that can be computed.

    Attributes:
        text: As written.
        names: Names it is made of, sorted.
    """

    text: str
    names: tuple[str, ...]

    def __call__(self, values: Mapping[str, Range]) -> Range | None:
        """Compute it; None where it is not defined, such as a quotient by what may be 0.

        Raises:
            KeyError: A name has no value.
        """
        found = _compute(ast.parse(self.text, mode="eval").body, values)
        return found if found is not None and math.isfinite(found.value) else None


def parse(text: str) -> Formula:
    """Read a formula.

    Raises:
        ValueError: It is none, or has something else in it.
    """
    if len(text) > _MOST:
        raise ValueError(f"a formula has at most {_MOST} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ValueError("expected a formula such as `accuracy - baseline_accuracy`") from error
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED) or (isinstance(node, ast.Constant) and type(node.value) not in {int, float}):
            raise ValueError("a formula is made of names, numbers, `+ - * /` and brackets")
    names = tuple(sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}))
    if not names:
        raise ValueError("a formula names at least one measure")
    return Formula(text.strip(), names)


_ALLOWED = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.Name,
    ast.Constant,
    ast.Load,
    ast.USub,
    ast.UAdd,
    *_OPERATIONS,
)


def _compute(node: ast.expr, values: Mapping[str, Range]) -> Range | None:
    if isinstance(node, ast.Constant):
        assert isinstance(node.value, int | float)
        return Range.exact(float(node.value))
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.UnaryOp):
        inner = _compute(node.operand, values)
        if inner is None or isinstance(node.op, ast.UAdd):
            return inner
        return Range(-inner.value, -inner.high, -inner.low)
    assert isinstance(node, ast.BinOp)
    left, right = _compute(node.left, values), _compute(node.right, values)
    if left is None or right is None:
        return None
    if isinstance(node.op, ast.Div) and right.low <= 0 <= right.high:
        return None
    ends = list(_ends(_OPERATIONS[type(node.op)], left, right))
    return Range(_OPERATIONS[type(node.op)](left.value, right.value), min(ends), max(ends))


def _ends(operation: Callable[[float, float], float], left: Range, right: Range) -> Iterator[float]:
    for one, other in product((left.low, left.high), (right.low, right.high)):
        yield operation(one, other)
