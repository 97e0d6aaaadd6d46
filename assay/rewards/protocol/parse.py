"""The Sketch-and-Fill format read with exact positions: `<think>`, `<key>`, `<orc>`, `<note>`, each once and in this order.

`parse` is strict, as the format gate is; `read_leniently` takes what it can, as the published evaluator does. Neither ever raises for a
text, however broken; both take time proportional to its length.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

BLOCKS = ("think", "key", "orc", "note")
FIELDS = ("action", "objects", "parameters")
Code = Literal["block", "outside", "empty", "key_line", "fields", "numbering"]
_TAG = re.compile(r"<(/?)(think|key|orc|note)>")
_HALF = re.compile(r"[\ud800-\udfff]")
_NUMBERED = re.compile(r"Step ([0-9]{1,6}):[ \t]*")


@dataclass(frozen=True)
class Problem:
    """Why a text is not of the format."""

    code: Code
    """block: one is missing, repeated or out of order; outside: text beside the blocks; empty: nothing in one; key_line: not
    `Step x: {JSON object}`; fields: not the three, or not of their types; numbering: not 1..n."""
    message: str
    position: int
    """Characters before it in the text."""


@dataclass(frozen=True)
class Block:
    """What stands between a block's tags: text[start:end]."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class Step:
    """A line of `<key>`: one action on all objects, with all parameters. text[start:end] is the line, text[json_start:end] its object."""

    number: int
    action: str
    objects: tuple[str, ...]
    parameters: tuple[str, ...]
    start: int = 0
    json_start: int = 0
    end: int = 0


@dataclass(frozen=True)
class OrcLine:
    """A line of `<orc>` that is not blank; `number` is None where it does not begin with `Step x:`."""

    number: int | None
    sentence: str
    start: int
    sentence_start: int
    end: int

    @property
    def words(self) -> int:
        return len(self.sentence.split())


@dataclass(frozen=True)
class Parsed:
    """A text as far as it could be read."""

    blocks: dict[str, Block]
    """By name; empty where the blocks are not as they should be."""
    key: tuple[Step, ...]
    """The lines that could be read."""
    orc: tuple[OrcLine, ...]
    problems: tuple[Problem, ...]

    @property
    def well_formed(self) -> bool:
        """I_format of SCORE."""
        return not self.problems


def parse(text: str, *, numbering: bool = True) -> Parsed:
    """The four blocks of a text, with everything that is wrong with them.

    White space around blocks is free, anything else there is not. A blank block is a problem, for a reward that an empty `<note>` earns
    would be one without safety text. `numbering`: the lines of `<key>` must be numbered 1..n (configurable, E.3 of the method file).
    """
    blocks, problems = _blocks(text)
    if not blocks:
        return Parsed({}, (), (), tuple(problems))
    for block in blocks.values():
        if not text[block.start : block.end].strip():
            problems.append(Problem("empty", f"<{block.name}> is empty", block.start))
    steps, bad = _steps(text, blocks["key"])
    problems += bad
    if numbering:
        wrong = next((step for place, step in enumerate(steps, 1) if step.number != place), None)
        if wrong is not None and not bad:
            problems.append(Problem("numbering", f"step {wrong.number} is not numbered in order", wrong.start))
    return Parsed(blocks, tuple(steps), _orc(text, blocks["orc"]), tuple(problems))


def read_leniently(text: str) -> tuple[list[str], tuple[Step, ...], str]:
    """Non-blank lines of the key, the steps among them, and the orc, as the published evaluator takes them.

    The first `<key>` and `<orc>` that are closed count; malformed lines are skipped. Where there is none of one of them, the whole text is
    the key and the orc is empty.
    """
    key, orc = _first(text, "key"), _first(text, "orc")
    if key is None or orc is None:
        key, orc_text = Block("key", 0, len(text)), ""
    else:
        orc_text = text[orc.start : orc.end].strip()
    steps, _ = _steps(text, key)
    return [line.strip() for line in text[key.start : key.end].split("\n") if line.strip()], tuple(steps), orc_text


def _blocks(text: str) -> tuple[dict[str, Block], list[Problem]]:
    tags = list(_TAG.finditer(text))
    expected = [tag for name in BLOCKS for tag in (f"<{name}>", f"</{name}>")]
    for tag, want in zip(tags, expected, strict=False):
        if tag.group() != want:
            return {}, [Problem("block", f"{tag.group()} where {want} should be", tag.start())]
    if len(tags) != len(expected):
        extra = tags[len(expected)] if len(tags) > len(expected) else None
        what = f"{extra.group()} once more" if extra else f"{expected[len(tags)]} is missing"
        return {}, [Problem("block", what, extra.start() if extra else len(text))]
    blocks = {name: Block(name, tags[2 * i].end(), tags[2 * i + 1].start()) for i, name in enumerate(BLOCKS)}
    edges = [0, *(tag.end() for tag in tags[1::2])], [*(tag.start() for tag in tags[::2]), len(text)]
    return blocks, [
        Problem("outside", "text outside the blocks", start) for start, end in zip(*edges, strict=True) if text[start:end].strip()
    ]


def _first(text: str, name: str) -> Block | None:
    start = text.find(f"<{name}>")
    end = text.find(f"</{name}>", start) if start >= 0 else -1
    return None if end < 0 else Block(name, start + len(name) + 2, end)


def _lines(text: str, block: Block) -> list[tuple[int, int]]:
    """Start and end of each line that is not blank, without white space around it. Only line feeds end lines: the separators that
    `str.splitlines` knows beside them may stand in JSON strings."""
    found, at = [], block.start
    for line in text[block.start : block.end].split("\n"):
        bare = line.strip()
        if bare:
            start = at + line.index(bare)
            found.append((start, start + len(bare)))
        at += len(line) + 1
    return found


def _steps(text: str, block: Block) -> tuple[list[Step], list[Problem]]:
    steps, problems = [], []
    for start, end in _lines(text, block):
        match = _NUMBERED.match(text, start, end)
        value = _object(text[match.end() : end]) if match else None
        if match is None or not isinstance(value, dict):
            problems.append(Problem("key_line", "not `Step x: {JSON object}`", start))
            continue
        if not _has_fields(value):
            problems.append(Problem("fields", "not exactly action (text), objects and parameters (lists of texts)", start))
            continue
        step = Step(
            int(match[1]), value["action"], tuple(value["objects"]), tuple(value["parameters"]), start, match.end(), end
        )  # fmt: skip
        steps.append(step)
    return steps, problems


def _object(text: str) -> Any:
    """The JSON value, None where it is none, says a name twice, or is nested without end."""
    try:
        return json.loads(text, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError):
        return None


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name occurs twice")
    return value


def _has_fields(value: dict[str, Any]) -> bool:
    lists = value.get("objects"), value.get("parameters")
    return (
        set(value) == set(FIELDS)
        and _is_text(value["action"])
        and all(isinstance(texts, list) and all(map(_is_text, texts)) for texts in lists)
    )


def _is_text(value: Any) -> bool:
    """JSON can escape half a character (a lone surrogate), which no file or database takes: that is no text."""
    return isinstance(value, str) and bool(value.strip()) and not _HALF.search(value)


def _orc(text: str, block: Block) -> tuple[OrcLine, ...]:
    found = []
    for start, end in _lines(text, block):
        match = _NUMBERED.match(text, start, end)
        at = match.end() if match else start
        found.append(OrcLine(int(match[1]) if match else None, text[at:end], start, at, end))
    return tuple(found)
