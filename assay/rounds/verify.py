"""Verdicts over trajectories and the estimate of the rule's noise. The body of the stage `verify`, and of a fused round."""

import pyarrow as pa

from assay.environments import Task
from assay.params import Params
from assay.verifiers import estimate_noise, verify_trajectories


def verify(tasks: pa.Table, trajectories: pa.Table, params: Params, workers: int) -> tuple[pa.Table, pa.Table]:
    """Tables `verdicts` and `noise_estimates` of the given trajectories."""
    by_id = {row["task_id"]: Task.from_row(row) for row in tasks.to_pylist()}
    verdicts = verify_trajectories(by_id, trajectories, params.verification, workers)
    return verdicts, estimate_noise(verdicts, by_id, trajectories)
