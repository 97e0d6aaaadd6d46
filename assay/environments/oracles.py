"""Oracles: exact verdicts, where the task family allows them. True error rates of verifiers come from here."""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

MAX_CHARACTERS = 200
"""A longer answer is not read: exact numbers of the built-in tasks are far shorter, and reading stays cheap."""

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)"
_SIGN = r"(?:[+-]\s*)?"
_NUMBER = rf"{_SIGN}(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)"
_PART = rf"(?:\(\s*({_NUMBER})\s*\)|({_NUMBER}))"
_BRACED = rf"(?:\{{\s*({_NUMBER})\s*\}}|([0-9]))"
_PLAIN = re.compile(_NUMBER)
_RATIO = re.compile(rf"{_PART}\s*/\s*{_PART}")
_MIXED = re.compile(rf"({_SIGN})([0-9]+)\s+([0-9]+)\s*/\s*([0-9]+)")
_LATEX = re.compile(rf"({_SIGN})([0-9]*)\s*\\[dt]?frac\s*{_BRACED}\s*{_BRACED}")
_NAME = re.compile(r"\\?[A-Za-z]{1,20}(?:_\{?\w{1,10}\}?)?")
_ARITHMETIC = re.compile(r"(?:[\d\s+\-*/().,^{}]|\\(?:[dt]?frac|cdot|times|div|left|right)(?![A-Za-z]))*")
_SPACING = re.compile(r"\\[,;!:]|\\ |~")
_BRACKETS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("(", ")"), ("{", "}"))


class OracleError(ValueError):
    """The gold itself cannot be read: the verdict is then an abstention, never a wrong answer."""


def parse_rational(text: str) -> Fraction | None:
    r"""The exact value of a written rational number, or None where the text is not one.

    Read: integers (`-2`, `+5`, `1,234`), finite decimals (`0.75`, `.75`, `5.`), fractions (`6/8`, `-3 / 4`, `3/-4`,
    `1.5/2`), mixed numbers (`1 3/4`, `-1 3/4` = -7/4), percentages (`75%` = 3/4, as math-verify has it), LaTeX
    (`\frac{6}{8}`, `\dfrac34`, `1\frac{3}{4}`) inside optional `$ $`, `\( \)`, `\[ \]`, brackets or braces, a final
    full stop. Of an equation the right-hand side counts, where the other sides are a name (`x = 3/4`), arithmetic
    (`1/2 + 1/4 = 3/4`, which is not carried out) or the same number (`0.75 = 3/4`). Not read: inequalities, expressions, repeating decimals
    (`0.333...`), exponents, a denominator of zero, texts longer than MAX_CHARACTERS. Nothing is evaluated.
    """
    if len(text) > MAX_CHARACTERS:
        return None
    text = _SPACING.sub(" ", text.replace("\u2212", "-").replace("\u2044", "/").replace("\u00a0", " "))
    *others, last = map(_strip_brackets, _strip_brackets(text).split("="))
    value = _read_percentage(last)
    fits = value is not None and all(_may_stand_before(other, value) for other in others)
    return value if fits else None


def _may_stand_before(text: str, value: Fraction) -> bool:
    """Whether a side of an equation leaves the right-hand side a claim about the answer: `5 = 3/4` claims nothing."""
    number = _read_percentage(text)
    return number == value if number is not None else _NAME.fullmatch(text) is not None or _ARITHMETIC.fullmatch(text) is not None


def _read_percentage(text: str) -> Fraction | None:
    if not text.endswith("%"):
        return _read(text)
    value = _read(text[:-1].removesuffix("\\").rstrip())
    return None if value is None else value / 100


def _strip_brackets(text: str) -> str:
    """Without outer white space, final full stop, and delimiters around the whole."""
    while True:
        text = text.strip()
        if text.endswith(".") and not text.endswith(".."):
            text = text[:-1].rstrip()
        for left, right in _BRACKETS:
            inner = text[len(left) : len(text) - len(right)]
            whole = len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right)
            if whole and left not in inner and right not in inner:
                text = inner
                break
        else:
            return text


def _read(text: str) -> Fraction | None:
    if _PLAIN.fullmatch(text):
        return _number(text)
    if match := _RATIO.fullmatch(text):
        return _divide(_number(match[1] or match[2]), _number(match[3] or match[4]))
    if match := _MIXED.fullmatch(text):
        sign, whole, part = match[1], match[2], _divide(_number(match[3]), _number(match[4]))
    elif match := _LATEX.fullmatch(text):
        sign, whole, part = match[1], match[2], _divide(_number(match[3] or match[4]), _number(match[5] or match[6]))
    else:
        return None
    if part is None or (whole and part < 0):
        return None
    return (_number(whole or "0") + part) * (-1 if sign.strip() == "-" else 1)


def _number(text: str) -> Fraction:
    return Fraction(re.sub(r"[\s,]", "", text).removesuffix("."))


def _divide(top: Fraction, bottom: Fraction) -> Fraction | None:
    return None if bottom == 0 else top / bottom


def rational(answer: str, gold: str, meta: dict[str, Any]) -> bool | None:
    """Whether the answer is exactly the gold's rational number; None where the answer cannot be read as one.

    Raises OracleError where the gold cannot be read.
    """
    target = parse_rational(gold)
    if target is None:
        raise OracleError(f"the gold {gold!r} is not a rational number")
    value = parse_rational(answer)
    return None if value is None else value == target


def sql_execution(answer: str, gold: str, meta: dict[str, Any]) -> bool | None:
    """Whether the answer's result is the gold's on every database that the meta names; None where it is no query that may be executed.

    Executes the answer: call it in a worker process. Raises OracleError where gold or database fail.
    """
    from assay.environments.text_to_sql.match import GoldError, match

    try:
        found = match(answer, gold, meta, everywhere=True)
    except GoldError as error:
        raise OracleError(str(error)) from error
    return None if found.failure is not None else found.equal


def protocol_executor(answer: str, gold: str, meta: dict[str, Any]) -> bool | None:
    """Whether the protocol can be carried out on the bench that the meta describes and reaches its goal; None where it cannot be read.

    The answer is the whole completion. The gold is not looked at: other ways lead to a goal too. Raises OracleError for an unknown bench.
    """
    from assay.environments.protocols.executor import ExecutorError, execute

    try:
        done = execute(answer, meta["bench"])
    except (ExecutorError, KeyError) as error:
        raise OracleError(f"the task's bench cannot be set up: {error}") from error
    return done.reached if done.readable else None


Oracle = Callable[[str, str, dict[str, Any]], bool | None]
ORACLES: dict[str, Oracle] = {"rational": rational, "sql_execution": sql_execution, "protocol_executor": protocol_executor}
"""By the name that a task's meta gives under `oracle`. None: the answer cannot be read. Raising: the oracle cannot
decide."""
