"""How much work an expression would be, estimated before any of it is done.

SymPy evaluates exact numbers of any size: `9^{9^{9^9}}` is read in a millisecond and then fills memory or time. The
pool would end it, after seconds; this sees it at once. Estimates err on the large side.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

MAX_BITS = 1_000_000
"""Largest number that is evaluated, about 300,000 decimal digits."""
MAX_EXPANSION = 100
"""Largest power of a sum with symbols that is expanded."""
MAX_TERMS = 2000
"""Most summands that a formula with symbols may have when it is expanded."""
MAX_RADICAND = 2048
"""Bits of the largest number whose root is taken exactly: it is factored for that."""
MAX_NODES = 4000
MAX_TOKENS = 600
"""Signs, numbers, commands and lone letters of a text that is parsed: the parser takes milliseconds for each."""

_TOKEN = re.compile(r"\\[A-Za-z]+|(?<![A-Za-z])[A-Za-z](?![A-Za-z])|[0-9]+|[^\sA-Za-z0-9]")


def tokens(text: str) -> int:
    """Parts of a text that a parser of formulas looks at, words aside."""
    return sum(1 for _ in _TOKEN.finditer(text))


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
    """Whether a SymPy expression has too many parts, or would have when it is expanded or evaluated."""
    from sympy import preorder_traversal

    for count, _ in enumerate(preorder_traversal(expression)):
        if count > MAX_NODES:
            return True
    return bits(expression) > MAX_BITS or terms(expression) > MAX_TERMS


def terms(expression: Any) -> float:
    """Upper bound on the summands of a formula with symbols when it is expanded; infinite beyond MAX_EXPANSION."""
    from sympy import Add, Mul, Pow

    inner = [terms(part) for part in getattr(expression, "args", ()) if hasattr(part, "args")]
    if not inner:
        return 1.0
    if isinstance(expression, Add):
        return sum(inner)
    if isinstance(expression, Mul):
        return math.prod(inner)
    if isinstance(expression, Pow) and expression.base.free_symbols and expression.exp.is_Rational and inner[0] > 1:
        power = math.ceil(abs(expression.exp))
        return math.inf if power > MAX_EXPANSION or inner[0] > MAX_TERMS else _multisets(int(inner[0]), power)
    return max(inner)


def _multisets(kinds: int, size: int) -> float:
    """Summands of the expanded power `size` of a sum of `kinds`."""
    return float(min(math.comb(size + kinds - 1, kinds - 1), 10**9))


def bits(expression: Any, sizes: Mapping[Any, float] | None = None) -> float:
    """Upper bound on the bits of any number that arises when the expression is evaluated; infinite where it is out of
    reach. sizes: bits of symbols that stand for numbers, as those of a sum do."""
    from sympy import Add, Float, Integer, Mul, Pow, Product, Rational, Sum, Symbol, binomial, factorial, gamma
    from sympy.functions.elementary.hyperbolic import HyperbolicFunction

    known = sizes or {}
    if isinstance(expression, Integer):
        return int(expression.p).bit_length() + 1.0
    if isinstance(expression, Rational):
        return max(int(expression.p).bit_length(), int(expression.q).bit_length()) + 1.0
    if isinstance(expression, Float):
        return 64.0
    if isinstance(expression, Symbol):
        return known.get(expression, 1.0)
    if isinstance(expression, Sum | Product):
        return _series(expression, known)
    inner = [bits(part, known) for part in getattr(expression, "args", ()) if hasattr(part, "args")]
    if not inner:
        return 1.0
    if isinstance(expression, Mul):
        return sum(inner)
    if isinstance(expression, Add):
        return max(inner) + math.log2(len(inner)) + 1
    if isinstance(expression, Pow):
        return _power(expression, inner, known)
    if isinstance(expression, factorial | gamma):
        return _bound(inner[0]) * inner[0]
    if isinstance(expression, binomial):
        return _bound(min(inner)) * max(inner)
    if isinstance(expression, HyperbolicFunction):
        return max(inner) if expression.free_symbols - known.keys() else 2 * _bound(inner[0])
    return max(inner)


def _power(expression: Any, inner: list[float], known: Mapping[Any, float]) -> float:
    base, exponent = expression.as_base_exp() if len(inner) != 2 else expression.args
    if (exponent.free_symbols | base.free_symbols) - known.keys():
        return max(inner)
    size = bits(base, known)
    if not exponent.is_Rational:
        return size * _bound(bits(exponent, known))
    if not exponent.is_Integer and size > MAX_RADICAND:
        return math.inf
    return size * max(1.0, abs(exponent.p) / exponent.q) if abs(exponent.p) < 2**64 else math.inf


def _series(expression: Any, known: Mapping[Any, float]) -> float:
    """Of a sum or product over a range of whole numbers; 1 where the range has a symbol in it, or no end: it stays as it is."""
    from sympy import Product

    count, within = 1.0, dict(known)
    for symbol, *limits in expression.limits:
        if any(limit.free_symbols - within.keys() or not limit.is_finite for limit in limits):
            return 1.0
        largest = max((bits(limit, within) for limit in limits), default=1.0)
        within[symbol] = largest
        count *= _bound(largest)
    size = bits(expression.function, within)
    if isinstance(expression, Product):
        return count * size
    return size + math.log2(count) if count < math.inf else math.inf


def _bound(size: float) -> float:
    """The largest number of so many bits."""
    return math.inf if size > 64 else 2.0**size
