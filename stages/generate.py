"""Generate tasks of every environment and split, and demonstrations; the gate stops the pipeline on bad data."""

from pathlib import Path

from assay.rounds import generate_tasks
from stages import TASKS, machine, stage, stage_params


def main() -> None:
    generate_tasks(stage_params("generate"), Path(), TASKS, gates=Path("data/gates"), execution=machine())


if __name__ == "__main__":
    stage(main)
