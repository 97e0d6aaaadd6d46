"""Gates over what was sampled and verified, then the training batch of iteration k: kept rows, and dropped ones with a reason."""

from pathlib import Path

from assay.rounds import assemble, stored_critic
from assay.training.rehearsal import read_presampled
from assay.trajectories import read_table, write_shard
from stages import PRESAMPLE, TASKS, iteration_argument, stage, stage_params


def main() -> None:
    k, params, reference = iteration_argument(), stage_params("filter"), Path("models/0/policy")
    presampled = read_presampled(PRESAMPLE, reference, params.sampling.temperature)
    batches = assemble(
        read_table("tasks", TASKS / "tasks.parquet"),
        read_table("trajectories", Path(f"data/rollout/{k}")),
        read_table("verdicts", Path(f"data/verify/{k}")),
        read_table("noise_estimates", Path(f"data/verify/{k}")),
        params,
        steps=read_table("steps", Path(f"data/verify/{k}")),
        values_of=stored_critic(Path(f"models/{k}"), params),
        policy=Path(f"models/{k}/policy"),
        reference=reference,
        rehearsal=presampled.rehearsal,
        gates=Path(f"data/gates/{k}"),
    )
    write_shard(Path(f"data/filter/{k}/batches.parquet"), "batches", batches)


if __name__ == "__main__":
    stage(main)
