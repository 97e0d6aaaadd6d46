"""How wrong the rule is: its confusion with something that knows better, with intervals."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import pyarrow as pa

from assay.environments import Task
from assay.trajectories import schema, to_table

MEASURED = ("solution", "episode")
"""Kinds of trajectory whose verdicts are rewards. Where there are none of them, every kind but those of DERIVED is measured."""
DERIVED = frozenset({"critique", "evaluation_critique", "continuation"})
"""Kinds that are sampled because of other trajectories, and say nothing more about the rule."""


def measured_kinds(present: Iterable[str] = (), *, strict: bool = False) -> list[str]:
    """Kinds whose verdicts are rewards; without `strict`, what stands in for them where none is present."""
    kinds = set(present)
    return sorted(set(MEASURED) if strict or kinds & set(MEASURED) else kinds - DERIVED)


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


class Said(NamedTuple):
    """What is known of one trajectory. Right, wrong, or nothing."""

    rule: bool | None
    """As training saw it before any appeal: injected noise included."""
    reference: bool | None = None
    oracle: bool | None = None
    appealed: bool = False
    audited: bool = False
    upheld: bool | None = None
    reward: float | None = None


Key = tuple[int, int, str, str]
"""(iteration, round, environment, rule)."""


def estimate_noise(verdicts: pa.Table, tasks: Mapping[str, Task], trajectories: pa.Table) -> pa.Table:
    """`noise_estimates`: one row per (iteration, round, environment, rule).

    The rule is measured against the oracle where the environment has one that decided, else against the reference;
    rows on which either abstained do not count. Without any such row the rates are null. `true_` columns come from
    the oracle alone. Injected noise counts as the rule's.
    """
    return to_table("noise_estimates", [base_row(*item) for item in sorted(grouped(verdicts, tasks, trajectories).items())])


def base_row(key: Key, says: list[Said]) -> dict[str, Any]:
    """A row without appeals."""
    oracle = Confusion.of([(one.rule, one.oracle) for one in says if one.rule is not None and one.oracle is not None])
    reference = Confusion.of([(one.rule, one.reference) for one in says if one.rule is not None and one.reference is not None])
    against = "oracle" if any(one.oracle is not None for one in says) else "reference"
    row: dict[str, Any] = dict.fromkeys(schema("noise_estimates").names)
    row |= dict(zip(("iteration", "round", "environment", "verifier"), key, strict=True))
    row |= _estimate(oracle if against == "oracle" else reference, against)
    row["true_false_negative_rate"] = oracle.false_negative_rate
    row["true_false_positive_rate"] = oracle.false_positive_rate
    return row


def _estimate(confusion: Confusion, against: str) -> dict[str, Any]:
    right = confusion.true_positives + confusion.false_negatives
    wrong = confusion.false_positives + confusion.true_negatives
    rejected = confusion.false_negatives + confusion.true_negatives
    low, high = wilson(confusion.false_negatives, right) or (None, None)
    false_low, false_high = wilson(confusion.false_positives, wrong) or (None, None)
    return {
        "against": against,
        "false_positive_source": against if wrong else None,
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


def grouped(verdicts: pa.Table, tasks: Mapping[str, Task], trajectories: pa.Table) -> dict[Key, list[Said]]:
    """What is known of the measured trajectories, by (iteration, round, environment, rule)."""
    kinds = trajectories.column("kind").to_pylist()
    measured = set(measured_kinds(kinds))
    ids, of_task = trajectories.column("trajectory_id").to_pylist(), trajectories.column("task_id").to_pylist()
    environment = {
        name: tasks[task].environment for name, task, kind in zip(ids, of_task, kinds, strict=True) if kind in measured
    }
    says: dict[str, dict[str, Any]] = defaultdict(dict)
    where: dict[str, Key] = {}
    wanted = (
        "trajectory_id", "role", "verdict", "iteration", "round", "verifier", "flipped", "appealed", "audited", "upheld",
        "observed_reward",
    )  # fmt: skip
    columns = (verdicts.column(column).to_pylist() for column in wanted)
    for name, role, verdict, iteration, round_, verifier, flipped, *appeal in zip(*columns, strict=True):
        if name not in environment or role not in ("rule", "reference", "oracle"):
            continue
        says[name][role] = None if verdict == "abstain" else (verdict == "correct") != flipped
        if role == "rule":
            where[name] = (iteration, round_, environment[name], verifier)
            says[name] |= dict(zip(("appealed", "audited", "upheld", "reward"), appeal, strict=True))
    groups: dict[Key, list[Said]] = defaultdict(list)
    for name, key in where.items():
        groups[key].append(Said(**says[name]))
    return groups


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
