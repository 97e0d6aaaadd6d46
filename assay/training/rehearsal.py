"""DPH-RL's division of tasks and its stored answers: which tasks policy 0 nearly always solves, and what of them is rehearsed when.

Source: "The Choice of Divergence" (arXiv 2509.07430), section on pre-sampling; the further answer is a check against luck.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.params.exploration import PresampleParams, Rehearsal
from assay.rollouts.walk import draw
from assay.trajectories import content_hash, read_table, schema, seed_from, to_table, tree_digest

NEAR_PERFECT, EXPLORE, DROPPED = "near_perfect", "explore", "dropped"
IDENTIFYING = (".safetensors", ".json", ".model", ".txt", ".jinja")
"""Files of a policy that say what it gives to a prompt: weights, configuration, tokenizer, template."""


class RehearsalError(ValueError):
    """Tasks that cannot be divided, or stored answers that do not belong to this run."""


@dataclass(frozen=True)
class Presampled:
    """What the stage `presample` gave the others."""

    rehearsal: pa.Table
    """Table `rehearsal`, without rows where nothing is rehearsed."""
    explore: frozenset[str] | None = None
    """Tasks to train on; None: all."""


def is_candidate(solved: int, decided: int, options: PresampleParams) -> bool:
    """Whether a task is near-perfect if the further answer is right. solved: right answers among the `decided` ones of `samples`.

    An abstention is neither right nor wrong: the share of solved answers is that of decided ones, of which there must be more than half.
    """
    return 2 * decided > options.samples and solved * options.samples >= options.solved * decided


def part_of(solved: int, decided: int, recheck: bool | None, options: PresampleParams) -> str:
    """Where a task belongs. recheck: whether the further answer is right; None, where that is not known, is no success."""
    if not is_candidate(solved, decided, options):
        return EXPLORE
    if recheck or not options.recheck:
        return NEAR_PERFECT
    return EXPLORE if options.failed == "explore" else DROPPED


def split_tasks(
    environments: Mapping[str, str], outcomes: Mapping[str, Sequence[bool | None]], options: PresampleParams
) -> tuple[pa.Table, tuple[str, ...]]:
    """Table `splits`, and sentences that people should read.

    environments: by task. outcomes: by task, whether each of its samples + 1 answers is right, the further one last; None where the rule
    abstained. Raises RehearsalError where nothing is left to train on, and where no task is near-perfect unless when_empty allows it.
    """
    rows = []
    for task_id in sorted(outcomes):
        *answers, further = outcomes[task_id]
        counted = [right for right in answers if right is not None]
        solved, decided = sum(counted), len(counted)
        rows.append({
            "task_id": task_id, "environment": environments[task_id], "samples": decided, "solved": solved,
            "recheck": further if is_candidate(solved, decided, options) else None,
            "subset": part_of(solved, decided, further, options),
        })  # fmt: skip
    near = sum(row["subset"] == NEAR_PERFECT for row in rows)
    explore = sum(row["subset"] == EXPLORE for row in rows)
    if not explore:
        raise RehearsalError(
            f"all {len(rows):,} train tasks are near-perfect (presample.solved {options.solved} of {options.samples}), so there is nothing "
            "left to train on: add harder tasks, or raise presample.solved"
        )
    notes = [f"{near:,} of {len(rows):,} train tasks are near-perfect and rehearsed, {explore:,} are trained on"]
    if near + explore < len(rows):
        notes.append(f"{len(rows) - near - explore:,} did not pass the further answer and were dropped")
    if not near:
        said = f"no train task is near-perfect: policy 0 solves none of {len(rows):,} in {options.solved} of {options.samples} tries"
        if options.when_empty == "stop":
            raise RehearsalError(
                f"{said} and again; lower presample.solved, train policy 0 further (warm_start.target), or set presample.when_empty to "
                "explore"
            )
        notes = [f"{said}: all tasks are trained on, none is rehearsed"]
    if silent := sum(right is None for answers in outcomes.values() for right in answers):
        notes.append(f"{silent:,} answers on which the rule abstained were not counted")
    never = sum(row["solved"] == 0 for row in rows)
    notes.append(f"{never:,} were never solved")
    return to_table("splits", rows), tuple(notes)


def rehearsal_rows(
    trajectories: pa.Table, correct: Collection[str], splits: pa.Table, samples: int, reference_logprobs: pa.Array, base_policy: str
) -> pa.Table:
    """Table `rehearsal`: the further answer of each near-perfect task, where it is right.

    trajectories: the further answers (sample_index `samples`). correct: ids of right ones. reference_logprobs: of these rows.
    """
    near = set(splits.filter(pc.equal(splits["subset"], NEAR_PERFECT))["task_id"].to_pylist())
    columns = zip(*(trajectories[name].to_pylist() for name in ("trajectory_id", "task_id", "sample_index")), strict=True)
    keep = pa.array([name in correct and task in near and index == samples for name, task, index in columns], pa.bool_())
    names = [name for name in schema("rehearsal").names if name in trajectories.column_names]
    table = pa.table({
        **{name: trajectories[name] for name in names},
        "reference_logprobs": reference_logprobs,
        "temperature": pc.struct_field(trajectories["sampling"], "temperature"),
        "base_policy": pa.array([base_policy] * len(trajectories)),
    })  # fmt: skip
    return to_table("rehearsal", table.filter(keep).sort_by("task_id"))


def policy_identity(policy: Path) -> str:
    """Hash of a policy's weights and tokenizer."""
    return content_hash(tree_digest(file for file in sorted(policy.iterdir()) if file.suffix in IDENTIFYING))


def read_presampled(folder: Path, reference: Path, temperature: float) -> Presampled:
    """What lies in data/presample; nothing is divided where its tables are empty.

    reference: the folder of policy 0. Raises RehearsalError for answers of another policy, tokenizer or temperature.
    """
    splits, stored = read_table("splits", folder), read_table("rehearsal", folder)
    if len(splits) == 0:
        return Presampled(stored)
    if len(stored):
        identity = policy_identity(reference)
        others = pc.not_equal(stored["base_policy"], identity)
        if pc.any(others).as_py():
            row = int(np.flatnonzero(others.to_numpy())[0])
            raise RehearsalError(
                f"{folder}: rehearsal row {row} ({stored['trajectory_id'][row]}) was sampled from policy {stored['base_policy'][row]}, but "
                f"policy 0 in {reference} is {identity}: run the presample stage again"
            )
        if pc.any(pc.greater(pc.abs(pc.subtract(stored["temperature"], temperature)), 1e-5)).as_py():
            raise RehearsalError(
                f"{folder}: its rehearsal rows are of temperature {stored['temperature'][0]}, but sampling.temperature is {temperature:g}: "
                "run the presample stage again"
            )
    return Presampled(stored, frozenset(splits.filter(pc.equal(splits["subset"], EXPLORE))["task_id"].to_pylist()))


def rehearsal_batch(
    stored: pa.Table, steps: Mapping[int, tuple[int, int]], option: Rehearsal, *, seed: int, iteration: int, round: int, moment: int,
    per: int,
) -> pa.Table:  # fmt: skip
    """Rows of `batches` that are rehearsed: rows_per_step of them in each optimizer step.

    steps: by number, what the loss of the step is divided by (rows, tokens), as its other rows say. moment: how many iterations or
    rounds came before. per: steps in each of them. Which rows is a hash of seed and position: nothing is carried along.
    """
    names = [str(index) for index in range(len(stored))]
    chosen: dict[str, list] = defaultdict(list)
    for step, (rows, tokens) in sorted(steps.items()):
        drawn = draw(names, option.rows_per_step, moment * per + step, seed_from(seed, "rehearsal"))
        chosen["index"] += [int(name) for name in drawn]
        for key, value in (("step", step), ("denominator_rows", rows), ("denominator_tokens", tokens)):
            chosen[key] += [value] * len(drawn)
    count = len(chosen["index"])
    taken = stored.take(pa.array(chosen["index"], pa.int64()))
    types = schema("batches")
    known = {
        **{name: taken[name] for name in types.names if name in taken.column_names},
        "iteration": pa.array([iteration] * count, pa.int32()),
        "round": pa.array([round] * count, pa.int32()),
        "kept": pa.array([True] * count),
        "rehearsal": pa.array([True] * count),
        **{name: pa.array(chosen[name], types.field(name).type) for name in ("step", "denominator_rows", "denominator_tokens")},
    }
    table = {name: known[name] if name in known else pa.nulls(count, types.field(name).type) for name in types.names}
    return to_table("batches", pa.table(table))
