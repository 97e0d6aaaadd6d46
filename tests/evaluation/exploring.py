"""A synthetic run in which every method of exploration left its traces: Lp-Reg, the 80/20 mask, rehearsal and presamples."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from assay.evaluation import RunRecord
from assay.trajectories import to_table

KEPT_ABOVE, LOW, TOP = 0.05, 0.1, 0.2
"""Probabilities: of the proxy's support, of low-probability tokens; share of tokens selected by entropy."""


def put(table: pa.Table, name: str, values: pa.Array | list) -> pa.Table:
    """A table with a column, in place of one of that name."""
    column = values if isinstance(values, pa.Array) else pa.array(values)
    place = table.column_names.index(name) if name in table.column_names else -1
    return table.append_column(name, column) if place < 0 else table.set_column(place, name, column)


def lists(values: np.ndarray, lengths: np.ndarray) -> pa.Array:
    return pa.ListArray.from_arrays(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), pa.array(values))


def explored(record: RunRecord) -> RunRecord:
    """Entropies fall with the position, flags follow from probabilities and entropies, sums of each step are consistent."""
    assert record.token_statistics is not None and record.updates is not None
    statistics = record.token_statistics.combine_chunks()
    random = np.random.default_rng(5)
    lengths = statistics["logprobs"].combine_chunks().value_lengths().to_numpy().astype(int)
    probability = np.exp(statistics["logprobs"].combine_chunks().flatten().to_numpy().astype(float) * 2)
    position = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    entropy = random.exponential(1.0, len(position)) / (1 + position)
    negative = np.repeat(random.random(len(lengths)) < 0.5, lengths)
    kept, low = probability > KEPT_ABOVE, probability < LOW
    flags = {"kept": kept, "protected": kept & low & negative, "selected": entropy >= np.quantile(entropy, 1 - TOP)}
    statistics = put(statistics, "logprobs", lists(np.log(probability).astype(np.float32), lengths))
    statistics = put(statistics, "entropies", lists(entropy.astype(np.float32), lengths))
    for name, values in flags.items():
        statistics = put(statistics, name, lists(values, lengths))
    updates = record.updates.combine_chunks()
    size = len(updates)
    falling = np.linspace(0.08, 0.02, size)
    columns = {
        "low_probability_threshold": falling, "candidate_count": np.full(size, 60.0), "protected_count": np.linspace(18.0, 6.0, size),
        "protected_sum": np.linspace(0.9, 0.1, size), "selected_tokens": np.full(size, 128.0), "selected_share": np.full(size, 0.2),
        "entropy_threshold": falling * 10, "selected_entropy": falling * 20,
        "rehearsal_sum": np.linspace(0.0, 3.0, size), "rehearsal_tokens": np.full(size, 300.0),
    }  # fmt: skip
    for name, values in columns.items():
        updates = put(updates, name, pa.array(values, pa.float64()))
    return replace(record, token_statistics=statistics, updates=updates, splits=split_rows(record.tasks, random))


def split_rows(tasks: pa.Table, random: np.random.Generator, samples: int = 8, threshold: int = 6) -> pa.Table:
    """Train tasks by presamples: near-perfect where the threshold is reached and the recheck is right."""
    rows = []
    for task in tasks.to_pylist():
        if task["split"] == "train":
            ease = random.beta(2, 1)
            solved = int(random.binomial(samples, ease))
            recheck = bool(random.random() < ease) if solved >= threshold else None
            rows.append({
                "task_id": task["task_id"], "environment": task["environment"], "solved": solved, "samples": samples,
                "recheck": recheck, "subset": "near_perfect" if recheck else "explore",
            })  # fmt: skip
    return to_table("splits", rows)
