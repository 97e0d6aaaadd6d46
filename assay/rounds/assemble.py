"""Gates over what was sampled and verified, then the training batch. The body of the stage `filter`, and of a fused round."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from assay.params import Params
from assay.rounds.gates import check_answers, limits_of
from assay.rounds.lines import now_and_then
from assay.trajectories import run_gate

if TYPE_CHECKING:
    from assay.training.token_rewards import ValuesOf


def assemble(
    tasks: pa.Table,
    trajectories: pa.Table,
    verdicts: pa.Table,
    estimates: pa.Table,
    params: Params,
    *,
    policy: Path,
    reference: Path,
    gates: Path | None,
    steps: pa.Table | None = None,
    values_of: "ValuesOf | None" = None,
    rehearsal: pa.Table | None = None,
    rounds: int = 1,
    may_be_solved: bool = False,
    environment_of: Mapping[str, str] | None = None,
    note: Callable[[str], None] = lambda line: print(line, flush=True),
) -> pa.Table:
    """Table `batches`. estimates: `noise_estimates` of the verdicts, which corrections may use. policy, reference: folders of the
    policy that sampled and of policy 0, of which more than config.json is read only where an option needs it. steps: table `steps`.
    values_of: the critic, where there is one. rehearsal: stored answers of policy 0. rounds: of an iteration. may_be_solved: where all
    groups have equal rewards, no row is kept and the batch has no gate; else that is an error. environment_of: by task id, where
    somebody has read it of `tasks` already.

    gates: folder for data docs; None runs no gate. note: gets a line where a correction could not do what it should.
    Raises GateError before anything can be trained on data that fails one.
    """
    from assay.training.assemble import add_rehearsal, assemble_batch, describe
    from assay.training.corrected import Noise

    # Where groups with equal rewards are dropped, a step may be left without rows.
    solved = may_be_solved or params.filter.zero_variance_groups
    limits = replace(limits_of(params, policy), steps=None if solved else params.training.steps_per_iteration)
    if gates is not None:
        check_answers(tasks, trajectories, verdicts, limits, gates)
    if environment_of is None:
        environment_of = dict(zip(tasks["task_id"].to_pylist(), tasks["environment"].to_pylist(), strict=True))
    noise = Noise(environment_of, estimates)
    batches = assemble_batch(
        trajectories, verdicts, params, noise=noise, steps=steps, values_of=values_of, policy=policy, reference=reference,
        may_be_solved=may_be_solved, progress=now_and_then(), note=note,
    )  # fmt: skip
    if rehearsal is not None:
        batches = add_rehearsal(batches, rehearsal, params, rounds=rounds)
    if gates is not None:
        if pc.any(batches["kept"]).as_py():
            print(run_gate("batch", {"batches": reinforced(batches), "trajectories": trajectories}, gates / "batch", limits), flush=True)
        print(describe(batches), flush=True)
    return batches


def stored_critic(model: Path, params: Params) -> "ValuesOf | None":
    """Values of the critic in models/K, where the parameters ask for one. It is loaded when it is asked."""
    if params.training.critic is None:
        return None
    from assay.training.critic import stored_values

    return lambda streams: stored_values(model, params, streams)


def reinforced(batches: pa.Table) -> pa.Table:
    """The rows that were sampled for this batch; those that are rehearsed were gated by the stage that made them."""
    return batches.filter(pc.invert(batches["rehearsal"]))


def check_whole(tasks: pa.Table, read: Callable[[str], pa.Table], params: Params, policy: Path, gates: Path) -> None:
    """The gates over all rounds of a fused iteration. `read` gives a table by its name. policy: one that sampled. Raises GateError."""
    limits = limits_of(params, policy)
    trajectories = read("trajectories")
    print(run_gate("trajectories", {"trajectories": trajectories, "tasks": tasks}, gates / "trajectories", limits), flush=True)
    # The gates after the first one look at ids alone.
    known = trajectories.select(["trajectory_id", "task_id"])
    del trajectories
    given = {"verdicts": read("verdicts"), "trajectories": known, "tasks": tasks}
    print(run_gate("verdicts", given, gates / "verdicts", limits), flush=True)
    del given
    print(run_gate("batch", {"batches": reinforced(read("batches")), "trajectories": known}, gates / "batch", limits), flush=True)
