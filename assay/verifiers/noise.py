"""How wrong the rule is: its confusion with something that knows better, with intervals."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import pyarrow as pa

from assay.environments import Task
from assay.trajectories import to_table

MEASURED = ("solution", "episode")
"""Kinds of trajectory whose verdicts are rewards. Where there are none of them, every kind but critiques is
measured."""


@dataclass(frozen=True)
class Confusion:
    """Counts of rows on which the rule and the truth have both decided."""

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    true_negatives: int = 0

    @classmethod
    def of(cls, pairs: list[tuple[bool, bool]]) -> "Confusion":
        """From (rule accepts, is right) pairs."""
        return cls(*(pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))))

    @property
    def false_negative_rate(self) -> float | None:
        """P(rule rejects | right); None where nothing was right."""
        return _ratio(self.false_negatives, self.false_negatives + self.true_positives)

    @property
    def false_positive_rate(self) -> float | None:
        """P(rule accepts | wrong); None where nothing was wrong."""
        return _ratio(self.false_positives, self.false_positives + self.true_negatives)


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Score interval of a proportion (Wilson 1927, eq. 4 as usually written); None without trials.

    Trials count as independent. Rows of one task are not, so the interval is somewhat too narrow for the rate over
    all tasks.
    """
    if trials == 0:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    middle = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    low, high = (middle - half) / scale, (middle + half) / scale
    return (0.0 if successes == 0 else low, 1.0 if successes == trials else high)


def estimate_noise(verdicts: pa.Table, tasks: Mapping[str, Task], trajectories: pa.Table) -> pa.Table:
    """`noise_estimates`: one row per (iteration, round, environment, rule).

    The rule is measured against the oracle where the environment has one that decided, else against the reference;
    rows on which either abstained do not count. Without any such row the rates are null. `true_` columns come from
    the oracle alone.
    """
    groups = _grouped(verdicts, tasks, trajectories)
    rows = []
    for (iteration, round_, environment, verifier), says in sorted(groups.items()):
        oracle = Confusion.of([(rule, truth) for rule, _, truth in says if rule is not None and truth is not None])
        reference = Confusion.of([(rule, other) for rule, other, _ in says if rule is not None and other is not None])
        knows = any(truth is not None for _, _, truth in says)
        row = {"iteration": iteration, "round": round_, "environment": environment, "verifier": verifier}
        row |= _estimate(oracle if knows else reference, "oracle" if knows else "reference")
        row["smoothed_rate"] = None
        row["true_false_negative_rate"] = oracle.false_negative_rate
        row["true_false_positive_rate"] = oracle.false_positive_rate
        rows.append(row)
    return to_table("noise_estimates", rows)


def _estimate(confusion: Confusion, against: str) -> dict[str, Any]:
    right = confusion.true_positives + confusion.false_negatives
    wrong = confusion.false_positives + confusion.true_negatives
    rejected = confusion.false_negatives + confusion.true_negatives
    low, high = wilson(confusion.false_negatives, right) or (None, None)
    false_low, false_high = wilson(confusion.false_positives, wrong) or (None, None)
    return {
        "against": against,
        "n": right + wrong,
        "rule_positives": right + wrong - rejected,
        "rule_negatives": rejected,
        "examined_negatives": rejected,
        "false_negatives": float(confusion.false_negatives),
        "false_negative_rate": confusion.false_negative_rate,
        "false_negative_low": low,
        "false_negative_high": high,
        "false_positive_rate": confusion.false_positive_rate,
        "false_positive_low": false_low,
        "false_positive_high": false_high,
    }


Said = tuple[bool | None, bool | None, bool | None]
"""What rule, reference and oracle say of one trajectory: right, wrong, or nothing."""


def _grouped(
    verdicts: pa.Table, tasks: Mapping[str, Task], trajectories: pa.Table
) -> dict[tuple[int, int, str, str], list[Said]]:
    """Verdicts of the measured trajectories by (iteration, round, environment, rule)."""
    kinds = trajectories.column("kind").to_pylist()
    measured = set(MEASURED) if set(MEASURED) & set(kinds) else set(kinds) - {"critique"}
    ids, of_task = trajectories.column("trajectory_id").to_pylist(), trajectories.column("task_id").to_pylist()
    environment = {
        name: tasks[task].environment for name, task, kind in zip(ids, of_task, kinds, strict=True) if kind in measured
    }
    says: dict[str, dict[str, bool | None]] = defaultdict(dict)
    where: dict[str, tuple[int, int, str, str]] = {}
    wanted = ("trajectory_id", "role", "verdict", "iteration", "round", "verifier")
    columns = (verdicts.column(column).to_pylist() for column in wanted)
    for name, role, verdict, iteration, round_, verifier in zip(*columns, strict=True):
        if name not in environment:
            continue
        says[name][role] = None if verdict == "abstain" else verdict == "correct"
        if role == "rule":
            where[name] = (iteration, round_, environment[name], verifier)
    groups: dict[tuple[int, int, str, str], list[Said]] = defaultdict(list)
    for name, key in where.items():
        groups[key].append((says[name].get("rule"), says[name].get("reference"), says[name].get("oracle")))
    return groups


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
