"""How wrong the rule is: its confusion with something that knows better, with intervals."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from assay.environments import Task
from assay.trajectories import schema, to_table
from assay.verifiers.appeals_estimator import AppealsEstimator as AppealsEstimator
from assay.verifiers.channel import Channel as Channel
from assay.verifiers.proportions import clustered_wilson

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


class Said(NamedTuple):
    """What is known of one trajectory. Right, wrong, or nothing."""

    task: str
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
Decided = tuple[str, bool, bool]
"""(task, rule accepts, is right) of a row."""


def estimate_noise(verdicts: pa.Table, tasks: Mapping[str, Task], trajectories: pa.Table) -> pa.Table:
    """`noise_estimates`: one row per (iteration, round, environment, rule).

    The rule is measured against the oracle where the environment has one that decided, else against the reference;
    rows on which either abstained do not count. Without any such row the rates are null. `true_` columns come from
    the oracle alone. Injected noise counts as the rule's. Intervals take tasks as clusters.
    """
    return to_table("noise_estimates", [base_row(*item) for item in sorted(grouped(verdicts, tasks, trajectories).items())])


def base_row(key: Key, says: list[Said]) -> dict[str, Any]:
    """A row without appeals."""
    oracle = [(one.task, one.rule, one.oracle) for one in says if one.rule is not None and one.oracle is not None]
    reference = [(one.task, one.rule, one.reference) for one in says if one.rule is not None and one.reference is not None]
    against = "oracle" if any(one.oracle is not None for one in says) else "reference"
    row: dict[str, Any] = dict.fromkeys(schema("noise_estimates").names)
    row |= dict(zip(("iteration", "round", "environment", "verifier"), key, strict=True))
    row |= _estimate(oracle if against == "oracle" else reference, against)
    true = _confusion(oracle)
    row["true_false_negative_rate"] = true.false_negative_rate
    row["true_false_positive_rate"] = true.false_positive_rate
    return row


def _estimate(decided: Sequence[Decided], against: str) -> dict[str, Any]:
    confusion = _confusion(decided)
    right = confusion.true_positives + confusion.false_negatives
    wrong = confusion.false_positives + confusion.true_negatives
    rejected = confusion.false_negatives + confusion.true_negatives
    low, high = _interval([(task, not accepts) for task, accepts, is_right in decided if is_right])
    false_low, false_high = _interval([(task, accepts) for task, accepts, is_right in decided if not is_right])
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


def _confusion(decided: Sequence[Decided]) -> Confusion:
    return Confusion.of([(accepts, is_right) for _, accepts, is_right in decided])


def _interval(errs: Sequence[tuple[str, bool]]) -> tuple[float, float] | tuple[None, None]:
    """Of the share of errors among rows, each with its task: 95 %, tasks being clusters. None without rows."""
    if not errs:
        return None, None
    trials, errors = Counter(task for task, _ in errs), Counter(task for task, is_error in errs if is_error)
    found = clustered_wilson([errors[task] for task in trials], list(trials.values()))
    return found.low, found.high


def grouped(verdicts: pa.Table, tasks: Mapping[str, Task], trajectories: pa.Table) -> dict[Key, list[Said]]:
    """What is known of the measured trajectories, by (iteration, round, environment, rule)."""
    kinds = trajectories.column("kind").to_pylist()
    measured = set(measured_kinds(kinds))
    ids, of_task = trajectories.column("trajectory_id").to_pylist(), trajectories.column("task_id").to_pylist()
    task_of = {name: task for name, task, kind in zip(ids, of_task, kinds, strict=True) if kind in measured}
    says: dict[str, dict[str, Any]] = defaultdict(dict)
    where: dict[str, Key] = {}
    wanted = (
        "trajectory_id", "role", "verdict", "iteration", "round", "verifier", "flipped", "appealed", "audited", "upheld",
        "observed_reward",
    )  # fmt: skip
    columns = (verdicts.column(column).to_pylist() for column in wanted)
    for name, role, verdict, iteration, round_, verifier, flipped, *appeal in zip(*columns, strict=True):
        if name not in task_of or role not in ("rule", "reference", "oracle"):
            continue
        says[name][role] = None if verdict == "abstain" else (verdict == "correct") != flipped
        if role == "rule":
            where[name] = (iteration, round_, tasks[task_of[name]].environment, verifier)
            says[name] |= dict(zip(("appealed", "audited", "upheld", "reward"), appeal, strict=True))
    groups: dict[Key, list[Said]] = defaultdict(list)
    for name, key in where.items():
        groups[key].append(Said(task_of[name], **says[name]))
    return groups


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
