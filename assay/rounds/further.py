"""What is sampled after the plan, in the same engine session: critiques and continuations of what the policy has just written."""

from collections.abc import Callable, Mapping

import pyarrow as pa

from assay.engines import Renderer
from assay.environments import Task
from assay.params import Params
from assay.params.verification import VerificationParams
from assay.rollouts.derived import Derived, derive
from assay.verifiers import pool_for, verify_trajectories
from assay.verifiers.critiques import outcomes


def further_samples(
    renderer: Renderer, trajectories: pa.Table, tasks: Mapping[str, Task], params: Params, workers: int = 1,
    offline: pa.Table | None = None, note: Callable[[str], None] = lambda line: print(line, flush=True),
) -> Derived:  # fmt: skip
    """The plan that follows from sampled trajectories: critiques and continuations (`rollouts.derived`)."""
    further = derive(trajectories, tasks, params, renderer, lambda rows: own_levels(rows, tasks, params, workers), offline)
    for line in further.notes:
        note(line)
    return further


def own_levels(solutions: pa.Table, tasks: Mapping[str, Task], params: Params, workers: int) -> list[float | None]:
    """Level that each solution earns by the verifier that its task names, at default limits. For choosing what to judge: which verdicts
    count is decided when all are verified."""
    options = VerificationParams(functions=params.verification.functions, reference="none", oracle=False)
    with pool_for(tasks, options, workers) as pool:
        verdicts = verify_trajectories(tasks, solutions, options, workers, None, pool)
    known = outcomes(solutions, verdicts, params.self_verification)
    return [known[name].level for name in solutions["trajectory_id"].to_pylist()]
