"""Train policy k into policy k + 1 on the batch that `filter` assembled."""

import os
import sys
from pathlib import Path

from assay.rounds import scratch_folder, update
from stages import CONFIG, SCRATCH, iteration_argument, machine, module_name, stage, stage_code, stage_params

LAUNCHED = "ASSAY_LAUNCHED"


def main() -> None:
    k = iteration_argument()
    batch, model = Path(f"data/filter/{k}/batches.parquet"), Path(f"models/{k}")
    with scratch_folder(SCRATCH, f"update-{k}", [CONFIG / "update.json", batch, model], stage_code()) as scratch:
        update(
            stage_params("update"), batch, model, Path(f"models/{k + 1}"), Path(f"data/update/{k}"), scratch, live=Path(f"data/dvclive/{k}")
        )


def launch() -> None:
    """Become `accelerate launch` of this stage, where execution.accelerate_launch asks for several processes."""
    arguments = machine().accelerate_launch
    if arguments and LAUNCHED not in os.environ:
        os.environ[LAUNCHED] = "1"  # accelerate may also start a single process, in which nothing else says so
        command = [sys.executable, "-m", "accelerate.commands.launch", *arguments, "-m", module_name(), *sys.argv[1:]]
        os.execv(command[0], command)


if __name__ == "__main__":
    launch()
    stage(main)
