"""Steps of a reasoning trace: where it is split, by marker phrases ("wait", "however") moved back to the start of their sentence.

Source: VSRM (arXiv 2508.10293), rules of the released code. Two departures, both switched back by PARITY: markers are whole words (the
code also splits at "but" in "distribution" and "So" in "Solve"), and the point of 3.5 ends no sentence. Positions are characters of the
decoded response; the thresholds are characters for real models, tokens for tiny ones, whose traces are short.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from assay.rewards.spans import Offsets, token_at

MARKERS = (
    "wait", "but", "alternatively", "however", "hmm", "let me double-check", "but wait", "hold on", "looking back", "seems solid",
    "similarly", "that's correct, but", "that seems right", "wait, but",
)  # fmt: skip
"""In any case."""
CAPITALISED_MARKERS = ("So",)
"""In this case only."""


class StepwiseError(ValueError):
    """Options, verdicts or positions from which no steps or step rewards can be made."""


@dataclass(frozen=True)
class Rules:
    """How a trace is split into steps."""

    markers: tuple[str, ...] = MARKERS
    capitalised_markers: tuple[str, ...] = CAPITALISED_MARKERS
    opening: int = 1000
    """A marker closer than this to the beginning of the thinking is skipped: the problem is being restated."""
    interval: int = 400
    """A marker closer than this to the last split is skipped."""
    unit: Literal["characters", "tokens"] = "characters"
    """Of `opening` and `interval`."""
    whole_words: bool = True
    decimal_points_end_sentences: bool = False
    judge_opening: bool = False
    """Whether the beginning of the thinking is a split too, so that the first step, from an empty thought on, has a reward. Not in the
    paper."""
    open_tag: str = "<think>"
    close_tag: str = "</think>"

    def __post_init__(self) -> None:
        if not all((*self.markers, *self.capitalised_markers, self.open_tag, self.close_tag)):
            raise StepwiseError("a marker or a think tag is empty: it would match everywhere")
        if self.open_tag == self.close_tag:
            raise StepwiseError(f"open and close tag are both {self.open_tag!r}: the thinking would have no end; give different ones")
        if self.opening < 0 or self.interval < 1:
            raise StepwiseError(f"opening is {self.opening} and interval {self.interval}; expected at least 0 and at least 1")
        if self.unit not in ("characters", "tokens"):
            raise StepwiseError(f"unit is {self.unit!r}, expected characters or tokens")


PARITY = Rules(whole_words=False, decimal_points_end_sentences=True)
"""Splits as the released code does."""


@dataclass(frozen=True)
class Split:
    """A place in a trace where a step begins."""

    position: int
    """Where the step begins, in characters."""
    marker: str
    """As written in the trace; empty for the beginning of the thinking."""


@dataclass(frozen=True)
class Segmentation:
    """The thinking of a response and its steps. Step j (from 0) runs from split j to the next split, the last one to `end`."""

    start: int | None
    """First character of the thinking; None: there is no open tag, and no split."""
    end: int
    """Where the close tag begins; the length of the text where there is none."""
    resume: int | None
    """Behind the close tag; None where there is none."""
    splits: tuple[Split, ...] = ()

    @property
    def complete(self) -> bool:
        """A think block that is opened and closed."""
        return self.start is not None and self.resume is not None


def segment(text: str, rules: Rules | None = None, *, opened_by_prompt: bool = False, offsets: Offsets | None = None) -> Segmentation:
    """Split the thinking of a response.

    Markers are read from left to right, the longest first. One is skipped if it begins closer than `opening` to the beginning of the
    thinking or closer than `interval` to the last split. The split is where the sentence of the marker begins: behind the nearest of
    `. ! ?` and newline to its left, within the thinking, or at the marker where there is none. A marker whose sentence begins at the last
    split splits nothing. opened_by_prompt: the prompt ends with the open tag, so that the response begins inside the thinking. offsets:
    characters of each generated token (`spans.token_offsets`), for thresholds in tokens. Time is proportional to the text. Raises
    StepwiseError where the unit is tokens and offsets are missing.
    """
    rules = rules or Rules()
    start = 0 if opened_by_prompt else _behind(text, rules.open_tag, 0)
    close = text.find(rules.close_tag, start or 0)
    end, resume = (len(text), None) if close < 0 else (close, close + len(rules.close_tag))
    if start is None or start >= end:
        return Segmentation(start, end, resume)
    if rules.unit == "tokens" and offsets is None:
        raise StepwiseError("thresholds in tokens need the offsets of the tokens; give them, or set unit to characters")

    def measure(position: int) -> int:
        return token_at(offsets, position) if rules.unit == "tokens" and offsets is not None else position

    marker, sentence_end = _patterns(rules)
    sentences = [match.end() for match in sentence_end.finditer(text, start, end)]
    splits = [Split(start, "")] if rules.judge_opening else []
    begin, last = measure(start), None
    for match in marker.finditer(text, start, end):
        at = measure(match.start())
        if at - begin < rules.opening or (last is not None and at - last < rules.interval):
            continue
        before = bisect_right(sentences, match.start())
        position = sentences[before - 1] if before else match.start()
        if not splits or position > splits[-1].position:
            splits.append(Split(position, match.group()))
            last = measure(position)
    return Segmentation(start, end, resume, tuple(splits))


def _behind(text: str, tag: str, start: int) -> int | None:
    found = text.find(tag, start)
    return None if found < 0 else found + len(tag)


@lru_cache(maxsize=32)
def _patterns(rules: Rules) -> tuple[re.Pattern[str], re.Pattern[str]]:
    phrases = [(phrase, f"(?i:{re.escape(phrase)})") for phrase in rules.markers]
    phrases += [(phrase, re.escape(phrase)) for phrase in rules.capitalised_markers]
    either = "|".join(pattern for _, pattern in sorted(phrases, key=lambda item: -len(item[0]))) or "(?!)"
    marker = rf"(?<!\w)(?:{either})(?!\w)" if rules.whole_words else either
    sentence = r"[.!?\n]" if rules.decimal_points_end_sentences else r"(?<!\d)\.|\.(?!\d)|[!?\n]"
    return re.compile(marker), re.compile(sentence)
