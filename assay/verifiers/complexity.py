"""How much work an expression would be, estimated before any of it is done.

SymPy evaluates exact numbers of any size: `9^{9^{9^9}}` is read in a millisecond and then fills memory or time. The
pool would end it, after seconds; this sees it at once. Estimates err on the large side.
"""

import math
from typing import Any

MAX_BITS = 1_000_000
"""Largest number that is evaluated, about 300,000 decimal digits."""
MAX_EXPANSION = 100
"""Largest power of a sum with symbols that is expanded."""
MAX_NODES = 4000


def nesting(text: str) -> int:
    """Depth of brackets of all kinds in a text."""
    depth = deepest = 0
    for letter in text:
        if letter in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in ")]}":
            depth = max(0, depth - 1)
    return deepest


def is_explosive(expression: Any) -> bool:
    """Whether a SymPy expression holds a number beyond MAX_BITS, a power beyond MAX_EXPANSION, or too many parts."""
    from sympy import preorder_traversal

    for count, _ in enumerate(preorder_traversal(expression)):
        if count > MAX_NODES:
            return True
    return bits(expression) > MAX_BITS


def bits(expression: Any) -> float:
    """Upper bound on the bits of any number that arises when the expression is evaluated; infinite where it is out of
    reach."""
    from sympy import Add, Float, Integer, Mul, Pow, Rational, binomial, factorial

    if isinstance(expression, Integer):
        return int(expression.p).bit_length() + 1.0
    if isinstance(expression, Rational):
        return max(int(expression.p).bit_length(), int(expression.q).bit_length()) + 1.0
    if isinstance(expression, Float):
        return 64.0
    inner = [bits(part) for part in getattr(expression, "args", ()) if hasattr(part, "args")]
    if not inner:
        return 1.0
    if isinstance(expression, Mul):
        return sum(inner)
    if isinstance(expression, Add):
        return max(inner) + math.log2(len(inner)) + 1
    if isinstance(expression, Pow):
        base, exponent = expression.as_base_exp() if len(inner) != 2 else expression.args
        if exponent.free_symbols:
            return max(inner)
        times = _bound(bits(exponent))
        if base.free_symbols:
            return math.inf if isinstance(base, Add) and times > 2 * MAX_EXPANSION else max(inner)
        return bits(base) * times
    if isinstance(expression, factorial):
        return _bound(inner[0]) * inner[0]
    if isinstance(expression, binomial):
        return _bound(min(inner)) * max(inner)
    return max(inner)


def _bound(size: float) -> float:
    """The largest number of so many bits."""
    return math.inf if size > 64 else 2.0**size
