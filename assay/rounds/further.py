"""What is sampled after the plan, in the same engine session: critiques and continuations of what the policy has just written."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext

import pyarrow as pa

from assay.engines import Renderer
from assay.environments import Task
from assay.isolation import Pool
from assay.params import Params
from assay.params.verification import VerificationParams
from assay.rollouts.derived import Derived, derive
from assay.verifiers import pool_for, verify_trajectories
from assay.verifiers.critiques import outcomes


def further_samples(
    renderer: Renderer, trajectories: pa.Table, tasks: Mapping[str, Task], params: Params, workers: int = 1,
    offline: pa.Table | None = None, note: Callable[[str], None] = lambda line: print(line, flush=True), pool: Pool | None = None,
) -> Derived:  # fmt: skip
    """The plan that follows from sampled trajectories: critiques and continuations (`rollouts.derived`). pool: one that `level_pool` made,
    which stays open; None: one is opened where it is needed."""
    further = derive(trajectories, tasks, params, renderer, lambda rows: own_levels(rows, tasks, params, workers, pool), offline)
    for line in further.notes:
        note(line)
    return further


def level_pool(tasks: Mapping[str, Task], params: Params, workers: int) -> Pool:
    """Workers for `own_levels`, started when they are needed."""
    return pool_for(tasks, _options(params), workers)


def own_levels(
    solutions: pa.Table, tasks: Mapping[str, Task], params: Params, workers: int, pool: Pool | None = None
) -> list[float | None]:
    """Level that each solution earns by the verifier that its task names, at default limits. For choosing what to judge: which verdicts
    count is decided when all are verified."""
    with nullcontext(pool) if pool is not None else level_pool(tasks, params, workers) as open_one:
        verdicts = verify_trajectories(tasks, solutions, _options(params), workers, None, open_one)
    known = outcomes(solutions, verdicts, params.self_verification)
    return [known[name].level for name in solutions["trajectory_id"].to_pylist()]


def _options(params: Params) -> VerificationParams:
    return VerificationParams(functions=params.verification.functions, reference="none", oracle=False)
