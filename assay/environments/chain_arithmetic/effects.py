"""The oracle of steps: what each re-check of a trace does to the running result, whoever wrote the trace.

It knows the task's meta and reads text; of how demonstrations are written it knows nothing.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import add, mul, sub
from typing import Any, Literal

Effect = Literal["helpful", "ineffective", "harmful"]
OPERATIONS = {"+": add, "-": sub, "*": mul}

_STATED = re.compile(r"= {0,3}(-?[0-9]+(?:\.[0-9]+)?)")
_MARKER = r"(?:wait|but|however|hmm|alternatively|similarly|hold on|looking back|let me double-check)(?!\w)"
_RECHECK = re.compile(rf"(?<!\w){_MARKER}(?:[\s,]{{1,3}}{_MARKER})*", re.IGNORECASE)


@dataclass(frozen=True)
class Recheck:
    """A part of the thinking that begins with a marker."""

    start: int
    """Its first character within the text."""
    end: int
    """Where the next one, or the close tag, begins."""
    before: str | None
    """The result last stated before it; None: none was."""
    after: str | None
    """The result last stated at its end."""
    effect: Effect
    """helpful: a wrong or missing result becomes right; harmful: a right one wrong."""


@dataclass(frozen=True)
class Reading:
    """What a trace does."""

    complete: bool
    """The thinking is opened and closed."""
    first: str | None
    """The result last stated before the first re-check: what the policy would have answered without any."""
    last: str | None
    """The result last stated."""
    right: bool
    """Whether that is the task's answer."""
    rechecks: tuple[Recheck, ...]

    @property
    def overthinking(self) -> float | None:
        """Share of re-checks that are ineffective or harmful; None where there are none."""
        return sum(check.effect != "helpful" for check in self.rechecks) / len(self.rechecks) if self.rechecks else None


def read_trace(text: str, meta: Mapping[str, Any], starts: Sequence[int] | None = None, *, opened_by_prompt: bool = False) -> Reading:
    """The running result of a trace and what each re-check does to it.

    The running result is the number behind the last `=` of the thinking, which is what demonstrations answer with; it is right where it is
    the task's answer, also where the policy came upon it by accident or has not finished. Thinking that is never closed ends with the text;
    without an open tag there is none. Re-checks begin at markers ("but wait" is one), or at `starts`: rising characters of the thinking,
    such as the splits of `segment`. meta: `start`, `operations` and `modulus` of the task. Any text can be read; time is
    proportional to its length.
    """
    tag = 0 if opened_by_prompt else text.find("<think>")
    if tag < 0:
        return Reading(False, None, None, False, ())
    begin = tag if opened_by_prompt else tag + len("<think>")
    close = text.find("</think>", begin)
    end = len(text) if close < 0 else close
    if starts is None:
        starts = [match.start() for match in _RECHECK.finditer(text, begin, end)]
    target = answer_of(meta)
    stated = [(match.start(1), match[1]) for match in _STATED.finditer(text, begin, end)]
    results = _last_before([*starts, end], stated)
    rechecks = tuple(
        Recheck(start, stop, before, after, _effect(_is(before, target), _is(after, target)))
        for (start, stop), (before, after) in zip(pairwise([*starts, end]), pairwise(results), strict=True)
    )
    return Reading(close >= 0, results[0], results[-1], _is(results[-1], target), rechecks)


def is_chain(meta: Mapping[str, Any]) -> bool:
    """Whether a task's meta is that of a chain, which `read_trace` needs."""
    return {"start", "operations", "modulus"} <= meta.keys()


def answer_of(meta: Mapping[str, Any]) -> int:
    """The task's answer, from left to right and modulo at the end."""
    value = meta["start"]
    for sign, operand in meta["operations"]:
        value = OPERATIONS[sign](value, operand)
    return value % meta["modulus"]


def _last_before(positions: Sequence[int], stated: Sequence[tuple[int, str]]) -> list[str | None]:
    """For each position the result last stated before it."""
    found: list[str | None] = []
    current, read = None, 0
    for position in positions:
        while read < len(stated) and stated[read][0] < position:
            current, read = stated[read][1], read + 1
        found.append(current)
    return found


def _is(result: str | None, target: int) -> bool:
    """Whether a stated number is the answer; compared as text, as a policy may write numbers of any length."""
    if result is None or result.startswith("-"):
        return False
    whole, _, decimals = result.partition(".")
    return (whole.lstrip("0") or "0") == str(target) and not decimals.strip("0")


def _effect(before: bool, after: bool) -> Effect:
    return "ineffective" if before == after else "helpful" if after else "harmful"
