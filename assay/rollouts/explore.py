"""Which train tasks solutions are sampled for, where the stage `presample` has divided them."""

from pathlib import Path

import pyarrow.compute as pc

from assay.trajectories import read_table


def tasks_to_explore(folder: Path) -> frozenset[str] | None:
    """Ids of the tasks to train on, of what the stage published in `folder`; None: all."""
    splits = read_table("splits", folder)
    explored = splits.filter(pc.equal(splits["subset"], "explore"))["task_id"].to_pylist()
    return frozenset(explored) if len(splits) else None
