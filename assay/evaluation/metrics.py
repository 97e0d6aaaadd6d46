"""Files for DVC: metrics.json (`dvc metrics show`, `dvc metrics diff`) and one CSV per plot (`dvc plots show`)."""

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from assay.evaluation.evaluate import ALL

DIGITS = 6
"""Significant digits in metrics.json and the CSV files; the Parquet table keeps all."""
SINGLE = (
    "accuracy_rule",
    "accuracy_reference",
    "accuracy_oracle",
    "abstain_share",
    "truncated_share",
    "length_mean",
    "entropy",
    "keep_rate",
    "explore_rate",
    "verification_accuracy",
    "verification_balanced_accuracy",
    "verification_majority_accuracy",
    "score",
    "executable_share",
    "solve_f1",
    "solve_p",
    "solve_p_strict",
    "solve_r",
)


class Lookup:
    """evaluations by (iteration, environment, split, metric)."""

    def __init__(self, evaluations: pa.Table) -> None:
        self.rows = {(r["iteration"], r["environment"], r["split"], r["metric"]): r for r in evaluations.to_pylist()}
        self.iterations = sorted({key[0] for key in self.rows})
        self.environments = sorted({key[1] for key in self.rows} - {ALL})
        self.splits = [split for split in ("eval", "ood", "train") if any(key[2] == split for key in self.rows)]
        self.pass_at = sorted(
            {int(key[3][5:]) for key in self.rows if key[3].startswith("pass@") and key[3][5:].isdigit()}
        )

    def get(self, iteration: int, split: str, metric: str, environment: str = ALL) -> dict[str, Any] | None:
        """The row, or None where it is absent or has no value."""
        row = self.rows.get((iteration, environment, split, metric))
        return row if row is not None and row["value"] is not None else None

    def value(self, iteration: int, split: str, metric: str, environment: str = ALL) -> float | None:
        row = self.get(iteration, split, metric, environment)
        return None if row is None else row["value"]


def metrics_json(evaluations: pa.Table) -> dict[str, Any]:
    """Nested metrics: `first` and `last` policy, `gain` between them, and every policy; split by split.

    Keys: pass@k with _low and _high, the single metrics, accuracy_n (tasks that the accuracies are over), and per
    environment pass@1. Values are rounded to DIGITS significant digits.
    """
    table = Lookup(evaluations)
    policies = {f"policy_{k}": {split: _one(table, k, split) for split in table.splits} for k in table.iterations}
    first, last = table.iterations[0], table.iterations[-1]
    gain = {
        split: {
            f"pass@{k}{end}": _round(row[name])
            for k in table.pass_at
            if (row := table.get(last, split, f"pass@{k}_gain"))
            for end, name in _ENDS
        }
        for split in table.splits
    }
    return {
        "first": policies[f"policy_{first}"],
        "last": policies[f"policy_{last}"],
        "gain": gain,
        "policies": policies,
    }


_ENDS = (("", "value"), ("_low", "low"), ("_high", "high"))


def _one(table: Lookup, iteration: int, split: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for k in table.pass_at:
        row = table.get(iteration, split, f"pass@{k}")
        if row:
            found |= {f"pass@{k}{end}": _round(row[name]) for end, name in _ENDS}
    for metric in SINGLE:
        row = table.get(iteration, split, metric)
        if row:
            found[metric] = _round(row["value"])
            if metric == "accuracy_rule":
                found["accuracy_n"] = row["n"]
    by_environment = {
        name: _round(value)
        for name in table.environments
        if (value := table.value(iteration, split, "pass@1", name)) is not None
    }
    return found | ({"pass@1_by_environment": by_environment} if by_environment else {})


def plot_tables(
    evaluations: pa.Table, updates: pa.Table | None, noise: pa.Table | None
) -> dict[str, list[dict[str, Any]]]:
    """Rows of each plot by file stem. A plot without data is a file with its header only (see HEADERS)."""
    table = Lookup(evaluations)
    main = table.splits[0]
    # The largest k depends on the scale, but dvc.yaml must name a column: it stands once more under a name of its own.
    columns = [(f"pass@{k}", k) for k in table.pass_at] + [("pass@largest", table.pass_at[-1])]
    wide = [
        {"policy": k}
        | {
            f"{column}{end}": _round(row[name])
            for column, n in columns
            if (row := table.get(k, main, f"pass@{n}"))
            for end, name in _ENDS
        }
        for k in table.iterations
    ]
    accuracy = [
        {"policy": k}
        | {role: _round(table.value(k, main, f"accuracy_{role}")) for role in ("rule", "reference", "oracle")}
        | {"tasks": (table.get(k, main, "accuracy_rule") or {}).get("n")}
        for k in table.iterations
    ]
    lengths = [
        {"policy": k}
        | {name: _round(table.value(k, main, name)) for name in ("length_mean", "truncated_share", "entropy")}
        for k in table.iterations
    ]
    steps = (
        []
        if updates is None
        else [
            {name: _round(row[name]) for name in HEADERS["learning"]}
            for row in updates.sort_by("global_step").to_pylist()
        ]
    )
    rates = [] if noise is None else [{name: _round(row[name]) for name in HEADERS["noise"]} for row in _ordered(noise)]
    return {"pass_at_k": wide, "accuracy": accuracy, "lengths": lengths, "learning": steps, "noise": rates}


HEADERS: dict[str, tuple[str, ...]] = {
    "pass_at_k": ("policy",),
    "accuracy": ("policy", "rule", "reference", "oracle", "tasks"),
    "lengths": ("policy", "length_mean", "truncated_share", "entropy"),
    "learning": (
        "global_step",
        "iteration",
        "loss",
        "policy_loss",
        "divergence",
        "entropy",
        "gradient_norm",
        "learning_rate",
        "clip_low_share",
        "clip_high_share",
        "mismatch_mean",
        "mismatch_max",
        "advantage_mean",
        "advantage_std",
    ),
    "noise": (
        "iteration",
        "environment",
        "verifier",
        "against",
        "n",
        "false_negative_rate",
        "false_negative_low",
        "false_negative_high",
        "true_false_negative_rate",
        "false_positive_rate",
        "false_positive_low",
        "false_positive_high",
        "true_false_positive_rate",
        "round",
        "smoothed_rate",
        "smoothed_false_positive_rate",
        "false_positive_source",
    ),
}


def write_evaluation(
    out: Path, evaluations: pa.Table, updates: pa.Table | None = None, noise: pa.Table | None = None
) -> None:
    """metrics.json and plots/*.csv below `out`. (evaluations.parquet is written by `evaluate_run`.)"""
    write_text(out / "metrics.json", json.dumps(metrics_json(evaluations), indent=1) + "\n")
    for name, rows in plot_tables(evaluations, updates, noise).items():
        columns = list(dict.fromkeys([*HEADERS[name], *(key for row in rows for key in row)]))
        write_text(out / "plots" / f"{name}.csv", to_csv(rows, columns))


def to_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """CSV with a header; None is an empty field."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing: temporary file beside it, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _ordered(noise: pa.Table) -> list[dict[str, Any]]:
    keys = [(name, "ascending") for name in ("iteration", "round", "environment", "verifier", "against")]
    return noise.sort_by(keys).to_pylist()


def _round(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
