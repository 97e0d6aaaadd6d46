"""Bring the warehouse up to date. It is derived data: a warehouse that another process holds is said so, and the run succeeds."""

from pathlib import Path

from assay.trajectories import sync
from stages import stage

TEMPORARY = (".dvc", "tmp", "exps")
"""Where DVC copies the project to for `dvc exp run --temp` and for queued experiments; it removes the copy at the end."""


def main() -> None:
    if is_temporary(Path().resolve()):
        print("warehouse: nothing to do in an experiment's temporary copy; `assay sync` in the workspace takes the experiment in")
    else:
        print(sync(Path()))


def is_temporary(folder: Path) -> bool:
    """Whether the project in this folder is such a copy: a warehouse would be made from all versions, and thrown away."""
    parts = folder.parts
    return any(parts[start : start + len(TEMPORARY)] == TEMPORARY for start in range(len(parts)))


if __name__ == "__main__":
    stage(main)
