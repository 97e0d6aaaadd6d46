r"""Exact comparison of written rational numbers, without evaluating anything.

Two uses. `equal` is a step of the cascade before math-verify: it decides only where math-verify is known to decide
the same, both ways, and otherwise passes the question on. `judge` is a verifier of its own, exact where math-verify
rounds (0.333333 is not 1/3).
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from assay.verifiers.verdicts import Finding, abstain, correct, wrong

MAX_DIGITS = 15
"""Longer numbers are passed on: math-verify reads decimals as floating-point numbers of that many digits."""
CERTAIN = {True: Fraction(1, 10**5), False: Fraction(1, 10**9)}
"""Numbers nearer to each other than this, but not equal, are passed on. With a decimal among them (True) math-verify
rounds to 6 places, without one it compares to 15 digits."""

_WHOLE = r"(?:0|[1-9]\d*)"
_LITERAL = re.compile(
    rf"(?P<integer>-?(?:[1-9]\d{{0,2}}(?:,\d{{3}})+|{_WHOLE}))"
    rf"|(?P<decimal>-?{_WHOLE}\.\d+)"
    rf"|(?P<top>-?{_WHOLE}) ?/ ?(?P<bottom>[1-9]\d*)"
    rf"|(?P<sign>-?)\\frac\{{(?P<upper>-?{_WHOLE})\}}\{{(?P<lower>[1-9]\d*)\}}"
)
_NUMBER = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_DECIMAL = re.compile(rf"[+-]?{_NUMBER}")
_QUOTIENT = rf"{_NUMBER}(?:/-?{_NUMBER})*"
_SUM = re.compile(rf"[+-]?{_QUOTIENT}(?:[+-]{_QUOTIENT})*")
_TERM = re.compile(rf"(?P<sign>[+-]?)(?P<quotient>{_QUOTIENT})")


@dataclass(frozen=True)
class Literal:
    """A rational number as written."""

    value: Fraction
    is_decimal: bool
    is_computed: bool = False
    """Arithmetic on decimals, which math-verify does not always carry out: that it is equal to something is then not
    certain."""


def read(text: str) -> Literal | None:
    r"""A literal that every way of asking math-verify reads the same: plain integers (`-12`, `1,234`), decimals
    (`0.50`), fractions of integers (`-3/6`), `\frac{3}{6}`. None for anything else, whether it is a number or not."""
    text = text.strip()
    match = _LITERAL.fullmatch(text) if len(text) <= 4 * MAX_DIGITS else None
    if match is None or sum(map(str.isdecimal, text)) > MAX_DIGITS or not text.isascii():
        return None
    parts = match.groupdict()
    if parts["integer"]:
        return Literal(Fraction(int(parts["integer"].replace(",", ""))), False)
    if parts["decimal"]:
        return Literal(Fraction(parts["decimal"]), True)
    if parts["top"]:
        return Literal(Fraction(int(parts["top"]), int(parts["bottom"])), False)
    value = Fraction(int(parts["upper"]), int(parts["lower"]))
    return Literal(-value if parts["sign"] else value, False)


def read_sum(text: str) -> Literal | None:
    """The value of a sum of quotients of numbers (`2+1/2`, `07/08`, `-.5`), as a formula: what `read` leaves, of
    digits and + - / .

    Raises ZeroDivisionError for a quotient by zero; None for anything else.
    """
    text = text.strip()
    if len(text) > 4 * MAX_DIGITS or _SUM.fullmatch(text) is None or sum(map(str.isdecimal, text)) > MAX_DIGITS:
        return None
    total = Fraction(0)
    for term in _TERM.finditer(text):
        first, *others = (Fraction(number) for number in term["quotient"].split("/"))
        for other in others:
            first /= other
        total += -first if term["sign"] == "-" else first
    return Literal(total, "." in text, is_computed="." in text and _DECIMAL.fullmatch(text) is None)


def equal(answer: str, gold: str) -> bool | None:
    """Whether two literals are equal, None where that is not for this step to say."""
    first, second = read(gold), read(answer)
    return None if first is None or second is None else agree(second, first)


def agree(answer: Literal, gold: Literal) -> bool | None:
    """The same for literals that were read before."""
    if answer.value == gold.value:
        return None if answer.is_computed or gold.is_computed else True
    margin = CERTAIN[answer.is_decimal or gold.is_decimal]
    return False if abs(answer.value - gold.value) >= margin else None


def judge(answer: str, gold: str) -> Finding:
    """Exact equality of the numbers. Wrong where the answer is not a rational number, abstains where the gold is
    none."""
    from assay.environments.oracles import parse_rational

    target, value = parse_rational(gold), parse_rational(answer)
    if target is None:
        return abstain("gold_unparseable")
    if value is None:
        return wrong("unparseable")
    return correct() if value == target else wrong()
