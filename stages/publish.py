"""Bring the warehouse up to date. It is derived data: a warehouse that another process holds is said so, and the run succeeds."""

from pathlib import Path

from assay.trajectories import sync
from stages import stage


def main() -> None:
    print(sync(Path()))


if __name__ == "__main__":
    stage(main)
