"""Tool calls in what a policy wrote: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, read as FTRL's code does.

Pieces that are no call are dropped in silence and told about beside; a text of which nothing could be read stays whole, tags included, and
its reward is that of a malformed call.
"""

import json
from dataclasses import dataclass
from typing import Any

OPEN, CLOSE = "<tool_call>", "</tool_call>"
DEEPEST = 64
"""Objects and lists within each other in a call. JSON can be read to some hundred levels, depending on how deep the reader itself is
called; what can be read here must be readable wherever the call goes."""
END_MARKERS = ("<|im_end|>", "<|endoftext|>")
"""Of turn and text, as Qwen's models write them."""


@dataclass(frozen=True)
class ParsedCall:
    """One call as written."""

    name: str
    arguments: dict[str, Any]
    raw: str
    """The piece that it was read from."""


@dataclass(frozen=True)
class Dropped:
    """A piece that is no call."""

    raw: str
    why: str


@dataclass(frozen=True)
class ParsedTurn:
    """A turn of the policy."""

    content: str
    """What stands before the first call; the whole text where no call could be read."""
    calls: tuple[ParsedCall, ...] = ()
    dropped: tuple[Dropped, ...] = ()


def parse_turn(text: str, end_markers: tuple[str, ...] = END_MARKERS) -> ParsedTurn:
    """Never raises: the text is a policy's.

    Trailing end markers go. From the first open tag on the text is split at close tags (a last one may be missing); each piece must begin
    with the open tag, so text between two calls kills the second one. `arguments` is an object, or a string that holds one; without a name
    (non-empty text) or arguments, or nested deeper than DEEPEST, it is no call.
    """
    text = _without_end(text, end_markers)
    content, tag, rest = text.partition(OPEN)
    if not tag:
        return ParsedTurn(text)
    calls: list[ParsedCall] = []
    dropped: list[Dropped] = []
    for raw in (OPEN + rest).split(CLOSE):
        piece = raw.strip()
        if not piece:
            continue
        found = _read(piece)
        if isinstance(found, ParsedCall):
            calls.append(found)
        else:
            dropped.append(Dropped(piece, found))
    return ParsedTurn(content if calls else text, tuple(calls), tuple(dropped))


def _without_end(text: str, markers: tuple[str, ...]) -> str:
    while True:
        shorter = text.rstrip()
        for marker in markers:
            shorter = shorter.removesuffix(marker)
        if shorter == text.rstrip():
            return text
        text = shorter


def _read(piece: str) -> ParsedCall | str:
    """The call, or why it is none."""
    if not piece.startswith(OPEN):
        return "text before the open tag"
    try:
        call = json.loads(piece[len(OPEN) :])
        name, arguments = call["name"], call["arguments"]
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"[:200]
    if not isinstance(name, str) or not name:
        return "the name is no text"
    if not isinstance(arguments, dict):
        return "the arguments are no object"
    if _is_deeper(arguments, DEEPEST):
        return f"the arguments are nested more than {DEEPEST} deep"
    return ParsedCall(name, arguments, piece)


def _is_deeper(value: Any, most: int) -> bool:
    """Without recursion."""
    level = [value]
    for _ in range(most):
        level = [part for one in level for part in (one.values() if isinstance(one, dict) else one) if isinstance(part, dict | list)]
        if not level:
            return False
    return True
