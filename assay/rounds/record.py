"""The record of a whole staged run, read back from the outputs of its stages."""

from pathlib import Path

from assay.evaluation import RunRecord
from assay.trajectories import read_table


def read_record(data: Path, iterations: int) -> RunRecord:
    """Tables of iterations 0 .. `iterations` - 1 and of `finish`; folders of other iterations are not looked at."""
    own = range(iterations)
    finish = data / "finish"
    verify = [data / "verify" / str(k) for k in own]
    return RunRecord(
        tasks=read_table("tasks", data / "tasks" / "tasks.parquet"),
        trajectories=read_table("trajectories", *(data / "rollout" / str(k) for k in own), finish),
        verdicts=read_table("verdicts", *verify, finish),
        noise_estimates=read_table("noise_estimates", *verify, finish),
        batches=read_table("batches", *(data / "filter" / str(k) for k in own)) if iterations else None,
        updates=read_table("updates", *(data / "update" / str(k) for k in own)) if iterations else None,
        token_statistics=read_table("token_statistics", *(data / "update" / str(k) for k in own)) if iterations else None,
    )
