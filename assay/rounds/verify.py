"""Verdicts over trajectories and the estimate of the rule's noise. The body of the stage `verify`, and of a fused round."""

from collections import Counter
from collections.abc import Mapping

import pyarrow as pa

from assay.environments import Task
from assay.isolation import Pool
from assay.params import Params
from assay.rounds.lines import lines
from assay.verifiers import estimate_noise, verify_trajectories


def verify(
    tasks: Mapping[str, Task], trajectories: pa.Table, params: Params, workers: int, pool: Pool | None = None
) -> tuple[pa.Table, pa.Table]:
    """Tables `verdicts` and `noise_estimates` of the given trajectories. `pool`: of `pool_for`, kept open by the caller."""
    say = lines("verdicts that need a worker")
    verdicts = verify_trajectories(tasks, trajectories, params.verification, workers, say, pool)
    return verdicts, estimate_noise(verdicts, tasks, trajectories)


def describe(verdicts: pa.Table, estimates: pa.Table) -> str:
    """What people read after verification: what the rule said, and how often it is wrong where that is known."""
    rule = Counter(verdict for verdict, role in zip(*_columns(verdicts, "verdict", "role"), strict=True) if role == "rule")
    total = max(rule.total(), 1)
    lines = [f"rule: {rule.total():,} verdicts, " + ", ".join(f"{rule[v] / total:.1%} {v}" for v in ("correct", "wrong", "abstain"))]
    for row in estimates.to_pylist():
        rate, low, high = (row[f"false_negative_{name}"] for name in ("rate", "low", "high"))
        known = "nothing right to measure it on" if rate is None else f"{rate:.3f} [{low:.3f}, {high:.3f}]"
        lines.append(f"{row['environment']}: false-negative rate of {row['verifier']} against {row['against']}: {known}")
    return "\n".join(lines)


def _columns(table: pa.Table, *names: str) -> list[list[str]]:
    return [table.column(name).to_pylist() for name in names]
