"""Train policy k into policy k + 1 on the batch that `filter` assembled."""

from pathlib import Path

from assay.rounds import scratch_folder, update
from stages import CONFIG, SCRATCH, iteration_argument, stage, stage_params


def main() -> None:
    k = iteration_argument()
    batch, model = Path(f"data/filter/{k}/batches.parquet"), Path(f"models/{k}")
    with scratch_folder(SCRATCH, f"update-{k}", [CONFIG / "update.json", batch, model]) as scratch:
        update(
            stage_params("update"), batch, model, Path(f"models/{k + 1}"), Path(f"data/update/{k}"), scratch, live=Path(f"data/dvclive/{k}")
        )


if __name__ == "__main__":
    stage(main)
