"""Gates over what was sampled and verified, then the training batch of iteration k: kept rows, and dropped ones with a reason."""

from pathlib import Path

from assay.rounds import assemble
from assay.trajectories import read_table, write_shard
from stages import TASKS, iteration_argument, stage, stage_params


def main() -> None:
    k = iteration_argument()
    batches = assemble(
        read_table("tasks", TASKS / "tasks.parquet"),
        read_table("trajectories", Path(f"data/rollout/{k}")),
        read_table("verdicts", Path(f"data/verify/{k}")),
        read_table("noise_estimates", Path(f"data/verify/{k}")),
        stage_params("filter"),
        policy=Path(f"models/{k}/policy"),
        reference=Path("models/0/policy"),
        gates=Path(f"data/gates/{k}"),
    )
    write_shard(Path(f"data/filter/{k}/batches.parquet"), "batches", batches)


if __name__ == "__main__":
    stage(main)
