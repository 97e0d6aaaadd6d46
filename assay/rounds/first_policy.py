"""Policy 0, made from scratch, taken from `policy.base` or fine-tuned from it. The body of the stage `warm_start`."""

from pathlib import Path
from typing import Any

from assay.environments import Task
from assay.params import Params
from assay.params.verification import VerificationParams
from assay.trajectories import read_table
from assay.verifiers import Judge


def first_policy(params: Params, tasks: Path, out: Path, scratch: Path, pretrained: Path | None = None) -> dict[str, Any]:
    """Policy 0 in `out`: trained on the demonstrations, or taken from `policy.base`. Returns its summary.

    pretrained: what `pretrained_policy` published; it goes on from the policy in it, where there is one, and else from the base or scratch.
    """
    from assay.training.base import base_policy, copy_base
    from assay.training.warm_start import warm_start

    folder = None if pretrained is None or not (pretrained / "policy").is_dir() else pretrained / "policy"
    rows = read_table("tasks", tasks / "tasks.parquet")
    base = commit = None
    if params.policy.base is not None:
        if not (params.policy.fine_tune and params.warm_start.max_steps):
            return base_policy(params, rows, out, scratch, folder)
        base = scratch / "base"
        commit = copy_base(params, base, folder)
    with Judge(VerificationParams(functions=params.verification.functions)) as judge:
        return warm_start(
            params,
            rows,
            read_table("demonstrations", tasks / "demonstrations.parquet"),
            out,
            scratch,
            is_correct=lambda task, text: judge.is_correct(Task.from_row(task), text),
            pretrained=folder if base is None else None,
            base=base,
            commit=commit,
        )
