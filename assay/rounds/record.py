"""The record of a whole run, read back from the outputs of its stages."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from assay.evaluation import RunRecord
from assay.evaluation.record import BATCH_COLUMNS
from assay.trajectories import read_table, schema, shard_files
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

LOGPROBS = "sampled_logprobs"


def read_record(tasks: Path, data: Path, stages: Mapping[str, str], iterations: int, presample: Path | None = None) -> RunRecord:
    """Tables of iterations 0 .. `iterations` - 1 and of `finish` below `data`; folders of other iterations are not looked at.

    presample: where policy 0's answers lie.
    """
    tables = {}
    for name, stage in stages.items():
        folders = [data / stage / str(k) for k in range(iterations)]
        folders += [data / "finish"] if name in FINISHED else []
        # Most of a record is tokens: those that no section looks at are not read.
        if name == "trajectories":
            tables[name] = _trajectories(folders)
        else:
            tables[name] = read_table(name, *folders, columns=BATCH_COLUMNS if name == "batches" else None)
    splits = read_table("splits", presample) if presample is not None else None
    return RunRecord(tasks=read_table("tasks", tasks), splits=splits if splits is not None and len(splits) else None, **tables)


def _trajectories(folders: list[Path]) -> pa.Table:
    """Without the prompts, unless there are critiques, of which is asked what they had no room for; and with the log-probabilities of
    evaluation samples alone, shard by shard, so that no more than one shard's others are in memory."""
    kinds = read_table("trajectories", *folders, columns=["kind"])["kind"]
    judging = pc.any(pc.is_in(kinds, pa.array(CRITIQUES))).as_py()
    columns = [name for name in schema("trajectories").names if judging or name != "prompt_ids"]
    files = [file for folder in folders for file in shard_files("trajectories", folder)]
    return pa.concat_tables([_evaluated_logprobs(read_table("trajectories", file, columns=columns)) for file in files])


def _evaluated_logprobs(rows: pa.Table) -> pa.Table:
    """The same rows, with null for the sampled_logprobs of other kinds than evaluation."""
    at = rows.schema.get_field_index(LOGPROBS)
    column = pc.if_else(pc.equal(rows["kind"], "evaluation"), rows[LOGPROBS], pa.scalar(None, rows[LOGPROBS].type))
    return rows.set_column(at, rows.schema.field(at).with_nullable(True), column)
