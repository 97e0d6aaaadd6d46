"""Metrics of tasks with tools over evaluated episodes: Solve-P, Solve-R and Solve-F1 (FTRL, A.1.7), over all and for each scenario.

Each is of one episode; the mean over a task's episodes and then over tasks is taken, so the mean F1 is not the harmonic mean of the others.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from assay.evaluation.protocols import Measure, components
from assay.evaluation.samples import Samples

RULE = "tool_use"
METRICS: dict[str, str] = {
    "solve_f1": "solve_f1", "solve_p": "solve_p", "solve_p_strict": "solve_p_strict", "solve_r": "solve_r", "solve_calls": "calls",
    "solve_turns": "turns", "solve_exact": "exact",
}  # fmt: skip
"""Metric -> key of the verdict's components."""
COUNTS = ("solve_calls", "solve_turns")
BY_SCENARIO = ("solve_f1", "solve_p", "solve_p_strict", "solve_r", "solve_answered", "solve_exact")
"""Metrics that there are for each scenario too, as METRIC:SCENARIO."""


def episodes(samples: Samples, verdicts: pa.Table) -> dict[int, dict[str, Any]]:
    """Row of samples -> components of its verdict, of those that are whole episodes; with `right`, whether it was answered rightly."""
    rows = {name: row for row, name in enumerate(samples.rows["trajectory_id"].to_pylist())}
    found = {rows[name]: parts for name, parts in components(verdicts, "rule", RULE).items() if name in rows and "solve_f1" in parts}
    return {row: parts | {"right": bool(samples.verdicts["rule"][row] == 1)} for row, parts in found.items()}


def tool_measures(samples: Samples, verdicts: pa.Table) -> list[Measure]:
    """Of the episodes; none where there are none."""
    columns: dict[str, np.ndarray] = {}
    for row, parts in episodes(samples, verdicts).items():
        values = {metric: float(parts[key]) for metric, key in METRICS.items()} | {"solve_answered": float(parts["right"])}
        values |= {f"{metric}:{parts['scenario']}": values[metric] for metric in BY_SCENARIO}
        del values["solve_answered"]  # of all scenarios it is pass@1
        for metric, value in values.items():
            columns.setdefault(metric, np.full(len(samples.rows), np.nan))[row] = value
    return [Measure(metric, columns[metric], bounded=metric not in COUNTS) for metric in sorted(columns)]
