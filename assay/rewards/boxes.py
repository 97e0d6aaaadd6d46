r"""Closed boxes, `\boxed{...}` or `\fbox{...}`, within a text."""

import re
from dataclasses import dataclass, field

_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)


@dataclass(frozen=True)
class Box:
    r"""One `\boxed{...}` of a text, by where its content lies."""

    start: int
    """Where its content begins, in characters."""
    end: int
    """Where it ends."""
    text: str = field(repr=False)
    """The whole."""

    @property
    def content(self) -> str:
        """Stripped; may be empty. Cut out when asked for: thousands of nested boxes would be millions of characters."""
        return self.text[self.start : self.end].strip()


def is_answered(text: str, *, right: bool, read: bool, boxed: bool, readable: bool = False) -> bool:
    """Whether a completion gives an answer at all: what a closed box holds, even nothing (RISE, B1.1), or what the verifier takes for one.

    right: training takes it for right, be it that the verifier read it or that an appeal upheld what it could not read. read: the
    verifier could read an answer. boxed: an answer counts only in a closed box. readable: a box that the verifier cannot read is none
    (VSRM, B.1.4).
    """
    in_box = bool(closed_boxes(text))
    return (in_box or not boxed) and (right or read or (in_box and not readable))


def closed_boxes(text: str) -> list[Box]:
    """Boxes in the order in which they begin, nested ones included; a box that is never closed is none.

    One pass with a stack, so that time is proportional to the text however braces nest. An escaped brace is no brace.
    """
    if "boxed" not in text and "fbox" not in text:
        return []
    opened: list[tuple[int, bool]] = []
    found: list[Box] = []
    for match in _BRACES.finditer(text):
        token = match.group()
        if token.endswith("{") and token != "\\{":
            opened.append((match.end(), len(token) > 1))
        elif token == "}" and opened:
            start, is_box = opened.pop()
            if is_box:
                found.append(Box(start, match.start(), text))
    return sorted(found, key=lambda box: box.start)
