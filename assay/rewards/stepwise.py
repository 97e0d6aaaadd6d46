"""Verifiable stepwise reward: each reasoning step earns what it changes in the chance of a right answer.

A trace is split into steps (`segment`). At each split the policy is made to answer at once, several times (`states`): the share of right
answers is the accuracy of that state, its change over a step is the step's reward (`step_accuracies`, `step_rewards`), which is put on a
token of the step beside the outcome's reward on the last one (`place`). Source: VSRM (arXiv 2508.10293) and its released code.

Two things hold for the caller: accuracies are of the policy that sampled the trace and are never used again after an update; and an
estimator that sums a row's rewards (group z-score, leave-one-out) would lose all of this: use REINFORCE++ or PPO.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from assay.rewards.segmentation import MARKERS, PARITY, Rules, Segmentation, Split, StepwiseError, segment
from assay.rewards.spans import Offsets, token_at, token_offsets

__all__ = [
    "MARKERS", "PARITY", "OutcomeRewards", "Rules", "Segmentation", "Split", "State", "StepReward", "StepwiseError", "outcome_branch",
    "place", "propagate", "segment", "states", "step_accuracies", "step_rewards", "step_tokens", "token_offsets",
]  # fmt: skip

PARITY_CHARACTERS = 7
"""Where the released code cuts a response whose close tag is missing: it adds the tag's length, 8, to a search result of -1."""

Branch = Literal["correct", "wrong", "no_answer", "no_format"]


@dataclass(frozen=True)
class State:
    """An intermediate state: what a continuation is sampled from, after the prompt."""

    tokens: int
    """Leading token ids of the response."""
    close: bool
    """Whether the close tag's ids are appended, so that the policy answers at once."""


@dataclass(frozen=True)
class StepReward:
    """What one step earns, and why."""

    difference: float
    """Accuracy after the step minus accuracy before it."""
    distance: int | None
    """Steps ahead to the change that is passed back: 0 is the step's own, None: none within the window."""
    reward: float

    def effect(self, epsilon: float = 1e-5) -> Literal["helpful", "ineffective", "harmful"]:
        """Of the step's own difference."""
        return "ineffective" if abs(self.difference) < epsilon else "helpful" if self.difference > 0 else "harmful"


@dataclass(frozen=True)
class OutcomeRewards:
    """Outcome and format reward of a whole response. The defaults are the released code's; where a policy often fails the format,
    -10 dominates a whitened batch: use -1 and -0.95."""

    correct: float = 1.0
    wrong: float = 0.0
    no_answer: float = -9.5
    no_format: float = -10.0

    def of(self, branch: Branch) -> float:
        return {"correct": self.correct, "wrong": self.wrong, "no_answer": self.no_answer, "no_format": self.no_format}[branch]


def outcome_branch(*, complete: bool, answered: bool, correct: bool) -> Branch:
    """Which reward a response gets: no complete think block, one without a parsable answer, a wrong or a right answer."""
    return "no_format" if not complete else "no_answer" if not answered else "correct" if correct else "wrong"


def states(text: str, segmentation: Segmentation, offsets: Offsets, *, parity: bool = False) -> list[State]:
    """The K + 1 states of a response of K splits: before each step with the thinking closed, and the whole thinking.

    The last one ends behind the response's own close tag; where that is missing, the whole response is closed, without the end token.
    parity: as the released code does, the state of an unclosed response is its first 7 characters, and a split
    cuts at the token of its first character, blank or not. No tokens: no states.
    """
    if not offsets:
        return []
    found = [State(token_at(offsets, begin), True) for begin in _beginnings(text, segmentation, parity)]
    if segmentation.resume is not None:
        last = State(token_at(offsets, segmentation.resume - 1) + 1, False)
    elif parity:
        last = State(sum(end <= PARITY_CHARACTERS for _, end in offsets), False)
    else:
        last = State(1 + max((i for i, (start, end) in enumerate(offsets) if end > start), default=-1), True)
    return [*found, last]


def step_tokens(text: str, segmentation: Segmentation, offsets: Offsets, *, parity: bool = False) -> list[tuple[int, int]]:
    """First and last token of each step, both included.

    The first is the token of the step's first character that is not blank, as a token that ends a sentence often holds the blanks behind
    it (parity: of its first character). The last step ends before the close tag, which belongs to no step. Two steps that begin within
    one token have it both as first and last.
    """
    if not offsets or not segmentation.splits:
        return []
    first = [token_at(offsets, begin) for begin in _beginnings(text, segmentation, parity)]
    end = len(offsets) if segmentation.resume is None else token_at(offsets, segmentation.end)
    if segmentation.resume is None:
        while end > first[-1] + 1 and offsets[end - 1][0] == offsets[end - 1][1]:
            end -= 1
    return [(a, max(a, b - 1)) for a, b in zip(first, [*first[1:], end], strict=True)]


def step_accuracies(verdicts: Sequence[Sequence[bool | None]]) -> list[float]:
    """Accuracy of each state: the share of its continuations that are right.

    verdicts: per state one verdict for each continuation, None where the verifier abstained; these do not count. A state of which nothing
    is known has the accuracy of the state before it (the first: of the next known one), so that the step between them earns nothing
    and the change goes to the step that is known to make it. Raises StepwiseError for a state without continuations.
    """
    known: list[float | None] = []
    for state, given in enumerate(verdicts):
        if not given:
            raise StepwiseError(
                f"state {state} has no continuation, so its accuracy is unknown: sample at least one for each state, or switch "
                "step rewards off"
            )
        decided = [verdict for verdict in given if verdict is not None]
        known.append(sum(map(bool, decided)) / len(decided) if decided else None)
    current = next((value for value in known if value is not None), 0.0)
    filled = []
    for value in known:
        current = current if value is None else value
        filled.append(current)
    return filled


def step_rewards(accuracies: Sequence[float], *, gamma: float = 0.7, window: int = 4, epsilon: float = 1e-5) -> list[StepReward]:
    """What each step earns, from the accuracies A of the K + 1 states.

    d[j] = A[j+1] - A[j]; r[j] = d[j] where |d[j]| >= epsilon, else gamma^q d[j+q] with the smallest q in 1..window whose |d[j+q]| >=
    epsilon, else 0. A step that changes nothing itself is judged by what it leads to; one that leads to nothing earns 0, no penalty.
    gamma 0 or window 0: plain differences, which add up to A[K] - A[0]. Returns K rewards in [-1, 1]; none for fewer than two states.
    Raises StepwiseError for an accuracy, gamma or window out of range.
    """
    if not 0 <= gamma <= 1 or window < 0 or not epsilon > 0:
        raise StepwiseError(f"gamma is {gamma}, window {window}, epsilon {epsilon}: expected gamma in [0, 1], window >= 0, epsilon > 0")
    for state, accuracy in enumerate(accuracies):
        if not 0 <= accuracy <= 1:
            raise StepwiseError(f"state {state}: accuracy is {accuracy}, expected a share in [0, 1]")
    differences = [after - before for before, after in pairwise(accuracies)]
    steps = []
    for j, difference in enumerate(differences):
        ahead = enumerate(differences[j : j + window + 1])
        distance = next((q for q, change in ahead if abs(change) >= epsilon), None)
        reward = 0.0 if distance is None else gamma**distance * differences[j + distance]
        steps.append(StepReward(difference, distance, reward))
    return steps


def propagate(accuracies: Sequence[float], gamma: float = 0.7, window: int = 4, epsilon: float = 1e-5) -> list[float]:
    """The rewards of `step_rewards` alone."""
    return [step.reward for step in step_rewards(accuracies, gamma=gamma, window=window, epsilon=epsilon)]


def place(
    tokens: int,
    spans: Sequence[tuple[int, int]],
    rewards: Sequence[float],
    outcome: float,
    *,
    at: Literal["end", "start"] = "end",
    overwrite: bool = False,
) -> np.ndarray:
    """Reward of each of a response's tokens: steps on the last token of each (or the first: parity), the outcome on the last token of all.

    spans: of step_tokens. Returns (tokens,) in float64. Rewards that meet on one token add up; overwrite: the outcome replaces what is on
    the last token (parity). At the start, only a step's first token sees its reward in its return: the rest of the step does not.
    An empty response earns nothing. Raises StepwiseError where spans, rewards and tokens do not fit together.
    """
    if at not in ("end", "start"):
        raise StepwiseError(f"step rewards are placed at {at!r}, expected end or start")
    if len(spans) != len(rewards):
        raise StepwiseError(f"{len(spans)} steps but {len(rewards)} step rewards: a response of K splits has K + 1 states and K rewards")
    if not np.isfinite([*rewards, outcome]).all():
        raise StepwiseError("a step's reward or the outcome is not finite; leave abstained rows out before")
    out = np.zeros(tokens)
    for step, (first, last) in enumerate(spans):
        if not 0 <= first <= last < tokens:
            raise StepwiseError(f"step {step} is tokens {first} to {last} of a response of {tokens}")
        out[last if at == "end" else first] += rewards[step]
    if tokens:
        out[-1] = outcome if overwrite else out[-1] + outcome
    return out


def _beginnings(text: str, segmentation: Segmentation, parity: bool) -> list[int]:
    """First character of each step; the first that is not blank, unless the whole step is."""
    positions = [split.position for split in segmentation.splits]
    if parity:
        return positions
    begins = []
    for position, end in pairwise([*positions, segmentation.end]):
        step = text[position:end]
        begins.append(position + (len(step) - len(step.lstrip()) if step.strip() else 0))
    return begins
