r"""math-verify as the reference: how texts are put before it, and what its silence means.

Its own time limits are off (signal.alarm fails outside the main thread, and is swallowed to False): the pool's wall
clock holds. The gold comes first, as its comparison is not symmetric. Its way of searching a number in any text is
used for prose only: asked so, it reads `2\sqrt{3}` as 2, `- 5` as 5, `1//2` as 0 and `+5` not at all. A formula is
given to it as a formula, whole or not at all.
"""

import logging
import re
from functools import lru_cache
from typing import Any

from assay.verifiers.complexity import MAX_TOKENS, is_explosive, nesting, tokens
from assay.verifiers.numeric import agree, read, read_sum
from assay.verifiers.verdicts import Finding, abstain, correct, wrong

MAX_DEPTH = 15
"""Brackets within brackets; the parser takes about a tenth of a second for every further level."""

_CURRENCY = re.compile(r"(?<!\\)\\\$")
"""An escaped dollar: money, and no beginning of a formula."""
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:\s\d{3})+(?:\.\d+)?")
_DELIMITED = re.compile(r"\$|\\\(|\\\[|\\boxed|\\fbox|\\begin\{(?:equation|align)")
_GROUPED = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|operatorname|mbox)\s*\{[^{}]*\}")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp sqrt abs max min gcd lcm mod det"
    " pi inf infinity alpha beta gamma theta phi deg and or percent pct frac dfrac text".split()
)
_PERCENT = re.compile(r"(.*?)\s*\\?%", re.DOTALL)
_ARITHMETIC = re.compile(r"[\d./+\- ]*")
_BROKEN = re.compile(r"[/+\-]\s*$|^\s*/|[/+\-]\s*/|\.(?!\d)|^\D*$")
_LARGE_GAMMA = re.compile(r"\\Gamma\s*(?:\\left)?\s*[({]\s*\d{6}")
"""The one function that is evaluated while it is read."""
_PLAIN_WORDS = re.compile(r"[A-Za-z]+(?:[\s,.'-]+[A-Za-z]+)*[.!?]?")


def judge(answer: str, gold: str) -> Finding:
    """Correct, wrong or an abstention. Slow, and may hang: for the pool only."""
    if max(nesting(gold), nesting(answer)) > MAX_DEPTH or max(tokens(gold), tokens(answer)) > MAX_TOKENS:
        return abstain("too_complex")
    if _LARGE_GAMMA.search(answer) or _LARGE_GAMMA.search(gold):
        return abstain("too_complex")
    golds = _expressions(gold)
    if not golds:
        return abstain("gold_unparseable")
    if is_words(answer) and _GROUPED.search(gold):
        answer = rf"\text{{{answer.strip()}}}"  # words are a formula only where the gold is one of that kind
    answers = _expressions(answer)
    if not answers:
        return wrong("unparseable")
    if any(first == second for first in golds for second in answers):
        return correct()
    if any(map(is_explosive, (*golds, *answers))):
        return abstain("too_complex")
    return correct() if _verify(golds, answers) else wrong()


def quick(answer: str, gold: str) -> Finding | None:
    """The same verdicts where no formula has to be read, None elsewhere. Cheap and bounded: for any process."""
    if not gold.strip() or is_words(gold):
        return abstain("gold_unparseable")
    target = read(gold)
    if target is not None:
        if answer == gold:
            return correct()
        if is_broken(answer) or is_words(answer):
            return wrong("unparseable")
        try:
            value = read(answer) or read_sum(_unstopped(answer.strip()))
        except ZeroDivisionError:
            return wrong("unparseable")
        same = None if value is None else agree(value, target)
        if same is not None:
            return correct() if same else wrong()
    return None


def is_broken(text: str) -> bool:
    """Unfinished arithmetic without letters (`12/`, `1//2`, `-`): certainly not a formula."""
    text = _unstopped(text.strip())
    return _ARITHMETIC.fullmatch(text) is not None and _BROKEN.search(text) is not None


def is_words(text: str) -> bool:
    """Nothing but words, one of three letters at least. As a formula `cat` is c·a·t, which equals `act`: not
    math-verify's."""
    if _PLAIN_WORDS.fullmatch(text.strip()) is None:
        return False
    return any(len(word) > 2 and word.lower() not in _FUNCTIONS for word in _WORD.findall(text))


def is_prose(text: str) -> bool:
    """A sentence rather than a formula: two words, or one long one, that are not names of functions."""
    words = [word for word in _WORD.findall(_GROUPED.sub(" ", text)) if word.lower() not in _FUNCTIONS]
    return len(words) > 1 or any(len(word) > 3 for word in words)


def _unstopped(text: str) -> str:
    """Without the full stop of a sentence."""
    return text[:-1] if text.endswith(".") and not text.endswith("..") else text


@lru_cache(maxsize=4096)
def _expressions(text: str) -> tuple[Any, ...]:
    """What math-verify reads in a text: SymPy expressions with a definite value; none where it cannot read it."""
    from math_verify import LatexExtractionConfig, parse
    from sympy import Basic, MatrixBase

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its time limit is off
    text = _CURRENCY.sub("", text).strip()
    if is_words(text):
        return ()
    if _DELIMITED.search(text) or is_prose(text):
        found = parse(text, parsing_timeout=None)
    else:
        text = _unstopped(text)
        if _THOUSANDS.fullmatch(text):
            text = "".join(text.split())  # as a formula `1 234` would be 1 + 234
        percent = _PERCENT.fullmatch(text)
        formula = f"${percent[1]}$%" if percent else f"${' '.join(text.split())}$"
        found = parse(formula, [LatexExtractionConfig()], parsing_timeout=None)
    return tuple(one for one in found if isinstance(one, (Basic, MatrixBase)) and not _is_undefined(one))


def _is_undefined(expression: Any) -> bool:
    """Whether there is a division by zero in it, carried out or not."""
    from sympy import Pow, nan, zoo

    powers = (power for power in expression.atoms(Pow) if power.exp.is_negative) if hasattr(expression, "atoms") else ()
    return expression.has(nan, zoo) or any(power.base.is_number and power.base.is_zero for power in powers)


def _verify(golds: tuple[Any, ...], answers: tuple[Any, ...]) -> bool:
    """Whether any pair is equal. An exception counts only where no pair is."""
    from math_verify import verify

    failed: Exception | None = None
    for first in golds:
        for second in answers:
            try:
                if verify(first, second, timeout_seconds=None, raise_on_error=True):
                    return True
            except Exception as error:  # SymPy raises many kinds; the pool makes an abstention of it
                failed = error
    if failed is not None:
        raise failed
    return False


def warm_up() -> None:
    """Import, and a first parse, whose tables later parses share. Called once, before workers are forked."""
    _expressions(r"-\frac{1}{2}+\sqrt{3}x^2")
