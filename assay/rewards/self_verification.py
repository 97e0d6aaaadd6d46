r"""Self-verification: a policy is also trained to judge its own solutions, with the outcome verifier's verdict as the truth.

A solution of this iteration is put before the same policy (`critiques`), which boxes a score; the critique is rewarded for finding what
the verifier found. Source: RISE (arXiv 2505.13445), B1 of the methods; `unbiased_reward` is our extension to noisy verifiers (C2).
No gradient goes from a critique to the solution's tokens: they are part of its prompt. Binary corrections of solutions read 1 for right, 0
for any other level.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from assay.rewards.boxes import closed_boxes
from assay.rewards.critiques import (
    BINARY,
    THREE_LEVEL,
    FittedPrompt,
    Levels,
    SelfVerificationError,
    critique_prompt,
    fitted_critique_prompt,
    score_text,
)
from assay.rewards.voting import Vote, majority_vote, weighted_vote
from assay.trajectories.identity import content_hash

__all__ = [
    "BINARY", "THREE_LEVEL", "FittedPrompt", "Levels", "Score", "SelfVerificationError", "Vote", "critique_group",
    "critique_prompt", "critique_reward", "fitted_critique_prompt", "majority_vote", "outcome_level", "read_score",
    "score_text", "unbiased_reward", "weighted_vote",
]  # fmt: skip

_NUMBER = re.compile(r"[+-]?(?:\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})", re.ASCII)
_FRACTION = re.compile(r"([+-]?)(?:\\[dt]?frac\s*\{\s*(\d{1,9})\s*\}\s*\{\s*(\d{1,9})\s*\}|(\d{1,9})\s*/\s*(\d{1,9}))", re.ASCII)
TOLERANCE = 1e-9
"""Of a score from a level."""


@dataclass(frozen=True)
class Score:
    """What a critique's boxes say."""

    value: float | None
    """The level that it gives; None where it gives none of them."""
    status: Literal["given", "missing", "out_of_scale"]
    """missing: no closed box, as in a critique that was cut; out_of_scale: the last box holds something else than a level."""
    raw: str | None
    """Content of the last box."""
    boxes: int
    contradictory: bool
    """An earlier box holds another score than the last one, which counts."""
    lenient: float | None
    """For the record only: where value is None, the level that a grader which knows percentages (100 or 0.01 for 1) would have read."""
    says_right: bool
    """The score as a binary verdict: whether it is the best level. A critique without a score does not say so."""


def read_score(critique: str, levels: Levels = THREE_LEVEL) -> Score:
    """The score that a critique gives: the content of its last closed box, as a number, if it is one of the levels.

    critique: the sampled text alone, never with its prompt, whose quoted solution may box what it likes. 1, 1.0, +1, -1/2 and -.5 are
    numbers; "1 (right)" and 100 are none of the levels.
    """
    boxes = closed_boxes(critique)
    if not boxes:
        return Score(None, "missing", None, 0, False, None, False)
    numbers = [_number(box.content) for box in boxes]
    last = numbers[-1]
    value = next((level for level in levels.values if last is not None and abs(last - level) <= TOLERANCE), None)
    contradictory = any(number != last for number in numbers[:-1])
    lenient = None
    if value is None and last is not None:
        scaled = ((last - 100 * level, last - level / 100, level) for level in levels.values if level)
        lenient = next((level for above, below, level in scaled if min(abs(above), abs(below)) <= TOLERANCE), None)
    status: Literal["given", "out_of_scale"] = "out_of_scale" if value is None else "given"
    return Score(value, status, boxes[-1].content, len(boxes), contradictory, lenient, value == levels.right)


def outcome_level(verdict: str, *, answered: bool, levels: Levels = THREE_LEVEL) -> float | None:
    """A solution's reward, which is the target of its critiques: right, wrong, or without an answer. None: the verifier abstained.

    verdict: correct, wrong or abstain. answered: whether the solution gives an answer in the asked form (`boxes.is_answered`): not one
    without a box where only a box counts, even if what it says is right.

    Raises SelfVerificationError for another verdict.
    """
    if verdict == "abstain":
        return None
    if verdict not in ("correct", "wrong"):
        raise SelfVerificationError(f"verdict is {verdict!r}, expected correct, wrong or abstain")
    return levels.unanswered if not answered else levels.right if verdict == "correct" else levels.wrong


def critique_reward(score: Score, target: float | None, rewards: Levels = THREE_LEVEL) -> float | None:
    """What a critique earns: `right` where its score equals the target, `wrong` where its box holds anything else, else `unanswered`.

    target: outcome_level of the solution; None (the verifier abstained) gives None: no reward, no gradient. rewards: THREE_LEVEL as
    trained in the paper, BINARY for 1 and 0.
    """
    if target is None:
        return None
    if score.status == "missing":
        return rewards.unanswered
    return rewards.right if score.value is not None and abs(score.value - target) <= TOLERANCE else rewards.wrong


def unbiased_reward(says_right: Any, corrected: Any) -> np.ndarray:
    """Reward of a critique under a noisy verifier: s r + (1 - s)(1 - r). Its mean over the channel is 1 where s is the truth, else 0 (C2).

    says_right: (rows,), s: 1 or 0; nan for a critique without a score, which is never right and earns 0. corrected: (rows,), the
    backward-corrected verdict r = (observed - fpr) / (1 - fpr - fnr) on the critique's *solution*
    (`assay.objectives.corrections.backward`), so critiques of one solution share one flip: their mean is as noisy as one of them. Beyond
    [0, 1], as the correction is. Rewarding agreement with the observed verdict instead would teach the critic the verifier's errors.
    Raises SelfVerificationError for shapes that differ, another s, or a correction that is not finite.
    """
    said, truth = np.asarray(says_right, dtype=np.float64), np.asarray(corrected, dtype=np.float64)
    if said.shape != truth.shape:
        raise SelfVerificationError(f"{said.shape} critiques but {truth.shape} corrected verdicts: give each critique that of its solution")
    silent = np.isnan(said)
    if not (silent | (said == 0) | (said == 1)).all():
        raise SelfVerificationError("a critique says 1 (right) or 0 (not right), or nan where it gives no score")
    if not np.isfinite(truth).all():
        raise SelfVerificationError("a corrected verdict is not finite; leave out critiques whose solution's verifier abstained")
    return np.where(silent, 0.0, np.where(said == 1, truth, 1 - truth))


def critique_group(parent_id: str) -> str:
    """Group of all critiques of one solution: never a group of solutions, so that group statistics do not mix the two."""
    return content_hash("critiques of", parent_id)


def _number(text: str) -> float | None:
    text = text.strip().strip("$").strip().replace("−", "-")
    if _NUMBER.fullmatch(text):
        return float(text)
    if match := _FRACTION.fullmatch(text):
        top, bottom = int(match[2] or match[4]), int(match[3] or match[5])
        return (-1 if match[1] == "-" else 1) * top / bottom if bottom else None
    return None
