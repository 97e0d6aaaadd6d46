"""Verdicts of rule, reference and oracle over the trajectories of iteration k, and the estimate of the rule's noise."""

from pathlib import Path

from assay.environments import tasks_from_table
from assay.params import load_execution
from assay.rounds import describe, verify
from assay.trajectories import read_table, write_shard
from stages import TASKS, iteration_argument, stage, stage_params


def main() -> None:
    k = iteration_argument()
    out = Path(f"data/verify/{k}")
    tasks = tasks_from_table(read_table("tasks", TASKS / "tasks.parquet"))
    trajectories = read_table("trajectories", Path(f"data/rollout/{k}"))
    verdicts, estimates = verify(tasks, trajectories, stage_params("verify"), load_execution().verifier_workers)
    write_shard(out / "verdicts.parquet", "verdicts", verdicts)
    write_shard(out / "noise_estimates.parquet", "noise_estimates", estimates)
    print(describe(verdicts, estimates))


if __name__ == "__main__":
    stage(main)
