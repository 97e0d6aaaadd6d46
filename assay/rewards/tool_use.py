"""Rewards of one turn with tools, and metrics of a whole episode (FTRL, arXiv 2508.08791; its code where text and code differ).

An environment hides sub-answers behind its tools. A call solves one when the tool's feedback holds it. The reward reads as an F1 score:
the precision of the turn's calls, q / p, with a completeness of q / 1, so that one call that solves one sub-answer earns 1.
Pure: tools are executed elsewhere; what they said arrives as `Call.feedback`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Branch = Literal["f1", "empty", "malformed", "answer", "done_noanswer", "zero"]
Variant = Literal["f1", "precision", "recall", "precision_times_recall"]
VARIANTS: tuple[Variant, ...] = ("f1", "precision", "recall", "precision_times_recall")
"""2q / (p + 1), and the paper's ablations q / p, q, q * q / p."""
TAGS = ("<tool_call>", "</tool_call>", "<tool_parsed_response>")
"""In a turn without a call that can be read, each of them tells that one was meant."""
EMPTY, MALFORMED, DONE = -0.5, -0.3, 0.5

Unsolved = Mapping[str, Sequence[str]]
"""Sub-answers that are still to be found, by the tool that gives them."""


@dataclass(frozen=True)
class Call:
    """A call that was parsed and executed."""

    name: str
    arguments: Mapping[str, Any]
    feedback: str
    """What the tool, or the message of its failure, said to the policy."""


@dataclass(frozen=True)
class State:
    """What is left of an environment before a turn."""

    unsolved: Unsolved
    answer: str | None
    """The final answer; None: it has none, and no text earns the reward for it."""
    solve_rate: float = 0.0
    """Share of all sub-answers that earlier turns have solved."""
    split: str = "train"


@dataclass(frozen=True)
class Match:
    """What one call did."""

    answer: str | None
    """The sub-answer that it solved."""
    echo: bool
    """The sub-answer that its feedback holds stood in its own arguments: it may have been guessed, and said back. Told even where the
    guard is off."""


@dataclass(frozen=True)
class TurnReward:
    """Reward of one turn, and where it comes from."""

    reward: float
    branch: Branch
    t: int
    """Sub-answers that were unsolved before the turn."""
    p: int
    """Calls of the turn."""
    q: int
    """Sub-answers that they solved."""
    matches: tuple[Match, ...]
    """One per call."""
    unsolved: dict[str, tuple[str, ...]]
    """After the turn; tools keep their key when nothing is left."""


@dataclass(frozen=True)
class EpisodeMetrics:
    """Of one episode. Averaged per sample, so the mean F1 is not the harmonic mean of the other two means."""

    precision: float
    """Solve-P: solved per call, 1 where no call was made (as in the paper's code: it flatters the lazy)."""
    strict_precision: float
    """The same, but 0 where no call was made."""
    recall: float
    """Solve-R: solved per sub-answer."""
    f1: float
    """Solve-F1: 2 S / (C + U)."""


_AROUND = " \n\t.*_`\"'"


def normalise(text: str) -> str:
    """Lower case, without commas and outer white space."""
    return text.lower().replace(",", "").strip()


def as_text(result: Any) -> str:
    """A tool's result as the policy reads it: JSON for dicts and lists, `str` for all else."""
    return json.dumps(result, ensure_ascii=False) if isinstance(result, (dict, list)) else str(result)


def verifies(said: Any, gold: str) -> bool:
    """Whether every ", "-separated piece of the gold is a substring of what was said, both normalised. Known weakness: short golds are
    found in anything ("12" in "2012"), so generators do not make them. A gold of which nothing is left is found in nothing."""
    text = normalise(as_text(said))
    pieces = [piece for piece in map(normalise, gold.split(", ")) if piece]
    return bool(pieces) and all(piece in text for piece in pieces)


def says_only(text: str, gold: str) -> bool:
    """Whether a text, behind its last thought, is the gold and nothing beside, without outer punctuation. The substring by which
    FTRL finds an answer is also in a list of all candidates."""
    said = text.rsplit("</think>", 1)[-1]
    return bool(gold) and normalise(said).strip(_AROUND) == normalise(gold).strip(_AROUND)


def _strings(value: Any) -> Iterator[str]:
    """All that stand in arguments, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield str(key)
            yield from _strings(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _strings(one)


def solve(call: Call, unsolved: Unsolved, echo_guard: bool = False) -> tuple[Match, dict[str, tuple[str, ...]]]:
    """What a call solves, and what is left after it: the first sub-answer of the called tool that its feedback verifies, at most one.
    The order of sub-questions is not enforced. echo_guard: sub-answers that stand in the call's own arguments are passed over."""
    left = {name: tuple(answers) for name, answers in unsolved.items()}
    # JSON alone would hide an answer with quotation marks.
    given = "\n".join((json.dumps(dict(call.arguments), ensure_ascii=False), *_strings(call.arguments)))
    echo = False
    for index, answer in enumerate(left.get(call.name, ())):
        if not verifies(call.feedback, answer):
            continue
        echoed = verifies(given, answer)
        echo = echo or echoed
        if echoed and echo_guard:
            continue
        left[call.name] = left[call.name][:index] + left[call.name][index + 1 :]
        return Match(answer, echoed), left
    return Match(None, echo), left


def turn_reward(
    text: str, calls: Sequence[Call], state: State, *, variant: Variant = "f1", echo_guard: bool = False, done_bonus: float = DONE
) -> TurnReward:
    """Reward of one turn, in [-0.5, 2) for the variant f1. text: what the policy wrote outside of its calls, or all of it where no call
    could be read. Cases in the order of the code:

        2q / (p + 1)    p > 0 (or the variant's formula)
        -0.5            nothing was written
        -0.3            a tag of a tool call was, but no call could be read
        1 / (1 + t)     the text holds the final answer
        done_bonus      all is solved, but the text does not hold the answer
        0               otherwise

    A blank text counts as nothing written: the code compares with "", and would pay the done bonus for a space.
    Raises ValueError for a state of the test split, which no reward may be computed on, and for an unknown variant.
    """
    if state.split == "test":
        raise ValueError("a reward was asked for on the test split: it is for evaluation, by episode_metrics")
    if variant not in VARIANTS:
        raise ValueError(f"reward variant {variant!r} is unknown, expected one of {', '.join(VARIANTS)}")
    t = sum(map(len, state.unsolved.values()))
    left: dict[str, tuple[str, ...]] = {name: tuple(answers) for name, answers in state.unsolved.items()}
    matches = []
    for call in calls:
        match, left = solve(call, left, echo_guard)
        matches.append(match)
    p, q = len(calls), sum(match.answer is not None for match in matches)
    branch: Branch = "f1"
    if p:
        reward = _of_calls(p, q, variant)
    else:
        reward, branch = _of_text(text, t, state, done_bonus)
    return TurnReward(reward, branch, t, p, q, tuple(matches), left)


def _of_calls(p: int, q: int, variant: Variant) -> float:
    if variant == "precision":
        return q / p
    if variant == "recall":
        return float(q)
    return q * q / p if variant == "precision_times_recall" else 2 * q / (p + 1)


def _of_text(text: str, t: int, state: State, done_bonus: float) -> tuple[float, Branch]:
    if not text.strip():
        return EMPTY, "empty"
    if any(tag in text for tag in TAGS):
        return MALFORMED, "malformed"
    gold = normalise(state.answer or "")
    if gold and gold in normalise(text):  # not split at commas, unlike sub-answers
        return 1 / (1 + t), "answer"
    return (done_bonus, "done_noanswer") if state.solve_rate == 1 else (0.0, "zero")


def episode_metrics(solved: int, calls: int, total: int) -> EpisodeMetrics:
    """solved: sub-answers that the episode solved; calls: all that it made; total: sub-answers of the environment. Raises ValueError
    where an environment without sub-answers, or more solved than there are calls or sub-answers, shows a fault elsewhere."""
    if total < 1 or not 0 <= solved <= min(calls, total):
        raise ValueError(f"{solved} solved sub-answers of {total} with {calls} calls cannot be: expected 0 <= solved <= both, total >= 1")
    strict = solved / calls if calls else 0.0
    return EpisodeMetrics(strict if calls else 1.0, strict, solved / total, 2 * solved / (calls + total))
