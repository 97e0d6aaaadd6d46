"""The gates over sampled answers and their verdicts: those of presamples, of a batch before it is made, and of the last policy."""

from pathlib import Path

import pyarrow as pa

from assay.params import Params
from assay.trajectories import Limits, run_gate


def limits_of(params: Params) -> Limits:
    """What the numbers of a run with these parameters are compared with."""
    own, size = params.self_verification, params.sampling.group_size
    critiques = (own.group_size or size) if own.share else None
    return Limits(abstain=params.verification.abstain_limit, group_size=size, critique_group_size=critiques)


def check_answers(tasks: pa.Table, trajectories: pa.Table, verdicts: pa.Table, limits: Limits, gates: Path) -> None:
    """The gates `trajectories` and `verdicts`, with a line for each. gates: folder for data docs. Raises GateError."""
    print(run_gate("trajectories", {"trajectories": trajectories, "tasks": tasks}, gates / "trajectories", limits), flush=True)
    whole = {"verdicts": verdicts, "trajectories": trajectories, "tasks": tasks}
    print(run_gate("verdicts", whole, gates / "verdicts", limits), flush=True)
