"""One answer from several samples: by majority, or weighted by what the policy says of its own solutions (RISE, eq. 5).

Answers are compared as they are: give equal ones equal text. None is a sample without an answer; it has no vote. A sample without a
critique has the score 0, and its vote.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal


class VoteError(ValueError):
    """Answers or scores that no vote can be held over."""


@dataclass(frozen=True)
class Vote:
    """The answer that several samples of one question agree on."""

    answer: str | None
    """None: no sample has an answer."""
    weights: dict[str, float]
    """Of each answer, in order of first appearance."""
    tied: bool
    """Whether another answer has exactly the same weight."""


def majority_vote(answers: Sequence[str | None]) -> Vote:
    """The most frequent answer; of several, the one that appears first (maj@k)."""
    return _best({answer: Fraction(count) for answer, count in Counter(a for a in answers if a is not None).items()}, {})


def weighted_vote(
    answers: Sequence[str | None],
    says_right: Sequence[float],
    *,
    alpha: float = 2.0,
    d: float = 2.0,
    reading: Literal["group_mean", "constant"] = "group_mean",
) -> Vote:
    """argmax over answers a of count(a) (alpha + sum of s over a's samples) / (n + alpha d).

    says_right: per sample s in [0, 1], 1 where its critique says right (or the mean of several). reading: the formula as printed leaves n
    and the range of the sum open; group_mean takes n = count(a), so that the second factor is the smoothed mean score of the answer;
    constant takes n = all samples, which cannot change the argmax. They can disagree. With alpha = 0, group_mean is the sum of s. Ties,
    in exact arithmetic: more votes, then the answer that appears first. Raises VoteError for lengths that differ, a score outside [0, 1]
    or a negative alpha or d.
    """
    if len(answers) != len(says_right):
        raise VoteError(f"{len(answers)} answers but {len(says_right)} scores: give one score for each sample")
    if alpha < 0 or d < 0:
        raise VoteError(f"alpha is {alpha} and d is {d}, expected numbers that are not negative")
    if reading not in ("group_mean", "constant"):
        raise VoteError(f"reading is {reading!r}, expected group_mean or constant")
    counts, sums = Counter[str](), dict[str, Fraction]()
    for answer, score in zip(answers, says_right, strict=True):
        if not 0 <= score <= 1:
            raise VoteError(f"a score is {score}, expected a number in [0, 1]")
        if answer is not None:
            counts[answer] += 1
            sums[answer] = sums.get(answer, Fraction(0)) + Fraction(score)
    prior = Fraction(alpha)
    weights = {}
    for answer, count in counts.items():
        n = count if reading == "group_mean" else len(answers)
        weights[answer] = count * (prior + sums[answer]) / (n + prior * Fraction(d))
    return _best(weights, counts)


def _best(weights: dict[str, Fraction], counts: dict[str, int]) -> Vote:
    shown = {answer: float(weight) for answer, weight in weights.items()}
    if not weights:
        return Vote(None, {}, False)
    top = max(weights.values())
    first = [answer for answer, weight in weights.items() if weight == top]
    return Vote(max(first, key=lambda answer: counts.get(answer, 0)), shown, len(first) > 1)
