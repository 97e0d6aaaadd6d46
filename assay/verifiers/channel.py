"""The noise channel: verdicts of the rule that are turned round on purpose, at rates that are then known.

A flip is decided by a stored uniform draw. Draws are hashes of what identifies the sample within its run, not of the method, so
that runs which differ in the method alone meet the same noise (common random numbers).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assay.environments import Task
from assay.params.noise import FormatNoise, IndependentNoise, NoiseParams, check_rates
from assay.trajectories import seed_from
from assay.verifiers.extract import answer_format

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
_RANGE = 2.0**31  # of seed_from


def uniform(*parts: str | int | float | None) -> float:
    """A draw in [0, 1) that depends on nothing but the parts."""
    return seed_from(*parts) / _RANGE


@dataclass(frozen=True)
class Channel:
    """P(observed right | wrong) and P(observed wrong | right); the theory's Def. 3.1. Rates may differ from row to row."""

    false_positive_rate: float | Floats
    false_negative_rate: float | Floats

    def __post_init__(self) -> None:
        """Raises ValueError for rates that are no probabilities, and for a row's rates whose sum is 1 or more."""
        for name in ("false_positive_rate", "false_negative_rate"):
            rates = np.ravel(getattr(self, name))
            bad = rates[~((rates >= 0) & (rates < 1))]  # also those that are not numbers
            if bad.size:
                raise ValueError(f"the channel's {name} is {bad[0]:g}, expected a number of at least 0 and below 1")
        both = np.broadcast_arrays(self.false_positive_rate, self.false_negative_rate)
        positive, negative = (np.ravel(rates) for rates in both)
        if positive.size:
            worst = int(np.argmax(positive + negative))
            check_rates(float(positive[worst]), float(negative[worst]), "the channel's rates")

    @property
    def determinant(self) -> float | Floats:
        """1 - both rates, c in the paper: what is left of the reward's signal."""
        return 1 - np.asarray(self.false_positive_rate) - np.asarray(self.false_negative_rate)

    def flipped(self, right: Bools, draws: Floats) -> Bools:
        """(rows,) whether each verdict is turned round, given whether it says right and its draw in [0, 1). Rate 0 never flips."""
        return np.asarray(draws < np.where(right, self.false_negative_rate, self.false_positive_rate))


def draws_of(
    noise: NoiseParams, seed: int, trajectories: pa.Table, answers: Sequence[str], tasks: Mapping[str, Task]
) -> tuple[Channel, Floats] | None:
    """The channel of each row and its draw, (rows,); None without noise.

    Independent noise draws by (run seed, iteration, round, task, sample index), for a continuation also by its solution. Noise by format
    draws by (environment, gold, text): the same text is always judged the same way (section B.10 of the paper, its non-iid study).
    """
    task_ids = trajectories["task_id"].to_pylist()
    if isinstance(noise, IndependentNoise):
        names = ("iteration", "round", "sample_index")
        keys = zip(task_ids, *(trajectories[name].to_pylist() for name in names), strict=True)
        whose = zip(trajectories["kind"].to_pylist(), trajectories["parent_id"].to_pylist(), strict=True)
        further = [(parent,) if kind == "continuation" else () for kind, parent in whose]
        draws = np.asarray([uniform(seed, "noise", *key, *more) for key, more in zip(keys, further, strict=True)], dtype=np.float64)
        return Channel(noise.false_positive_rate, noise.false_negative_rate), draws
    if isinstance(noise, FormatNoise):
        risky = set(noise.risky)
        rates, found = np.empty(len(task_ids)), np.empty(len(task_ids))
        for row, (task_id, answer, text) in enumerate(zip(task_ids, answers, trajectories["text"].to_pylist(), strict=True)):
            task = tasks[task_id]
            high = answer_format(answer) in risky or answer_format(task.gold) in risky
            rates[row] = noise.high_false_negative_rate if high else noise.low_false_negative_rate
            found[row] = uniform("noise", task.environment, task.gold, text)
        return Channel(noise.false_positive_rate, rates), found
    return None
