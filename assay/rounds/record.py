"""The record of a whole run, read back from the outputs of its stages."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from assay.evaluation import RunRecord
from assay.evaluation.record import BATCH_COLUMNS
from assay.trajectories import read_table, schema
from assay.verifiers.critiques import CRITIQUES

STAGED: Mapping[str, str] = {
    "trajectories": "rollout", "states": "rollout", "turns": "rollout", "tool_calls": "rollout", "verdicts": "verify", "steps": "verify",
    "noise_estimates": "verify", "batches": "filter", "updates": "update",
    "token_statistics": "update",
}  # fmt: skip
"""Table -> stage whose output of each iteration holds it."""
FUSED: Mapping[str, str] = dict.fromkeys(STAGED, "train")
FINISHED = ("trajectories", "turns", "tool_calls", "verdicts", "noise_estimates")
"""Tables that `finish` adds to."""


def read_record(tasks: Path, data: Path, stages: Mapping[str, str], iterations: int, presample: Path | None = None) -> RunRecord:
    """Tables of iterations 0 .. `iterations` - 1 and of `finish` below `data`; folders of other iterations are not looked at.

    presample: where policy 0's answers lie.
    """
    tables = {}
    for name, stage in stages.items():
        folders = [data / stage / str(k) for k in range(iterations)]
        folders += [data / "finish"] if name in FINISHED else []
        # Most of a record is tokens: those that no section looks at are not read.
        columns = _used(folders) if name == "trajectories" else BATCH_COLUMNS if name == "batches" else None
        tables[name] = read_table(name, *folders, columns=columns)
    splits = read_table("splits", presample) if presample is not None else None
    return RunRecord(tasks=read_table("tasks", tasks), splits=splits if splits is not None and len(splits) else None, **tables)


def _used(folders: list[Path]) -> list[str]:
    """Columns of trajectories: the prompts of critiques alone are looked at, for what they had no room for."""
    kinds = read_table("trajectories", *folders, columns=["kind"])["kind"]
    judging = pc.any(pc.is_in(kinds, pa.array(CRITIQUES))).as_py()
    return [name for name in schema("trajectories").names if judging or name != "prompt_ids"]
