"""One update of a policy on a stored batch. The body of the stage `update`."""

from pathlib import Path

from assay.params import Params
from assay.trajectories import read_table, write_shard


def update(
    params: Params, batch: Path, model: Path, next_model: Path, record: Path, scratch: Path, live: Path | None
) -> None:
    """Train model/policy on the batch, publish next_model (policy, trainer) and the tables `updates`, `token_statistics` in `record`.

    model/trainer, where it exists, carries optimizer, schedule and random state on from the update before.
    """
    from assay.training.update import update as train

    trainer = model / "trainer"
    result = train(
        model / "policy",
        trainer if trainer.is_dir() else None,
        read_table("batches", batch),
        params,
        out=next_model,
        scratch=scratch,
        live=live,
        progress=lambda line: print(line, flush=True),
    )
    if result.main:
        write_shard(record / "updates.parquet", "updates", result.updates)
        write_shard(record / "token_statistics.parquet", "token_statistics", result.token_statistics)
