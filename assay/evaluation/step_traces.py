"""Traces whose steps are coloured by what they change: where a policy thinks to a purpose, and where it goes on without one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assay.evaluation.estimators import EvaluationError
from assay.evaluation.selection import clip, verdicts_by_trajectory, visible
from assay.trajectories import content_hash

TRACES = 3
"""Of the first and of the last policy with steps."""
MOST_STEPS = 40
"""Of one trace."""
LONGEST_STEP, LONGEST_END = 700, 600
"""Characters of a step, and of what stands before the first and behind the last one."""
UNKNOWN = "unknown"
"""Effect of a step next to a state of which no continuation was decided."""
MARKS = {"helpful": "▲", "ineffective": "=", "harmful": "▼", UNKNOWN: "?"}
"""Beside the colours, for those who do not see them."""


@dataclass(frozen=True)
class Part:
    """Text of a step, or of what is none."""

    text: str
    effect: str = ""
    """Key of MARKS; "" where it is no step."""
    summary: str = ""
    """Accuracy before and after, and the reward."""
    details: str = ""
    """For the tooltip."""

    @property
    def mark(self) -> str:
        return MARKS.get(self.effect, "")


@dataclass(frozen=True)
class Trace:
    """A solution as the report shows it."""

    trajectory_id: str
    moment: str
    """Which policy, or which round."""
    environment: str
    prompt: str
    gold: str
    tokens: int
    steps: int
    left_out: int
    """Steps that are not shown."""
    parts: tuple[Part, ...]
    verdicts: tuple[Mapping[str, Any], ...]


def step_traces(steps: pa.Table, trajectories: pa.Table, tasks: pa.Table, verdicts: pa.Table) -> list[Trace]:
    """TRACES each of the first and the last (iteration, round): those whose steps differ most in effect, ties by hash.

    Raises EvaluationError where a step lies outside its trace.
    """
    steps = steps.filter(pc.is_in(steps["trajectory_id"], value_set=trajectories["trajectory_id"].combine_chunks()))
    rounds = steps.select(["iteration", "round"]).group_by(["iteration", "round"]).aggregate([]).to_pylist()
    ordered = sorted((row["iteration"], row["round"]) for row in rounds)
    found = []
    for iteration, round_ in dict.fromkeys((ordered[0], ordered[-1])) if ordered else ():
        own = steps.filter(pc.and_(pc.equal(steps["iteration"], iteration), pc.equal(steps["round"], round_)))
        found += _chosen(own)
    taken = trajectories.filter(pc.is_in(trajectories["trajectory_id"], value_set=pa.array(found, pa.string())))
    rows = {row["trajectory_id"]: row for row in taken.select(_COLUMNS).to_pylist()}
    of_task = {row["task_id"]: row for row in _of(tasks, "task_id", [row["task_id"] for row in rows.values()])}
    parts: dict[str, list[Mapping[str, Any]]] = {name: [] for name in found}
    for row in _of(steps, "trajectory_id", found):
        parts[row["trajectory_id"]].append(row)
    judged = verdicts_by_trajectory(verdicts, found)
    rounds_too = any(round_ for _, round_ in ordered)
    return [_trace(rows[name], rounds_too, parts[name], of_task.get(rows[name]["task_id"]), judged.get(name, ())) for name in found]


_COLUMNS = ["trajectory_id", "iteration", "round", "task_id", "text", "completion_ids"]


def _chosen(steps: pa.Table) -> list[str]:
    counted = steps.group_by("trajectory_id").aggregate([("effect", "count_distinct")])
    pairs = zip(counted["trajectory_id"].to_pylist(), counted["effect_count_distinct"].to_pylist(), strict=True)
    return [name for name, _ in sorted(pairs, key=lambda p: (-p[1], content_hash("steps", p[0])))[:TRACES]]


def _of(table: pa.Table, column: str, wanted: Sequence[str]) -> list[dict[str, Any]]:
    return table.filter(pc.is_in(table[column], value_set=pa.array(list(wanted), pa.string()))).to_pylist()


def _trace(
    row: Mapping[str, Any], rounds: bool, steps: Sequence[Mapping[str, Any]], task: Mapping[str, Any] | None,
    verdicts: Sequence[Mapping[str, Any]],
) -> Trace:  # fmt: skip
    every = sorted(steps, key=lambda step: step["step"])
    shown = every[:MOST_STEPS]
    return Trace(
        row["trajectory_id"], f"iteration {row['iteration']}, round {row['round']}" if rounds else f"policy {row['iteration']}",
        task["environment"] if task else "",
        clip(visible(task["prompt"][-1]["content"]), LONGEST_END) if task and task["prompt"] else "",
        clip(visible(task["gold"]), LONGEST_END) if task else "",
        len(row["completion_ids"]), len(every), len(every) - len(shown), tuple(_parts(row["trajectory_id"], row["text"], shown)),
        tuple(verdicts),
    )  # fmt: skip


def _parts(name: str, text: str, steps: Sequence[Mapping[str, Any]]) -> list[Part]:
    """The text in order, the steps at their characters but for blanks that they begin with."""
    found, at = [], 0
    for step in steps:
        start, end = step["char_start"], step["char_end"]
        if not at <= start <= end <= len(text):
            raise EvaluationError(
                f"trajectory {name}: step {step['step']} is characters {start} to {end}, expected within {at} to {len(text)}, the rest of "
                "the trace; steps and rollouts are of different runs: run `dvc repro`"
            )
        own = text[start:end].lstrip()
        between = text[at : end - len(own)]
        found += [Part(clip(visible(between), LONGEST_END))] if between else []
        found.append(_step(step, clip(visible(own), LONGEST_STEP)))
        at = end
    return [*found, Part(clip(visible(text[at:]), LONGEST_END))] if at < len(text) else found


def _step(step: Mapping[str, Any], text: str) -> Part:
    before, after = step["decided_before"], step["decided_after"]
    effect = step["effect"] if before and after else UNKNOWN
    summary = f"{step['accuracy_before']:.2f} → {step['accuracy_after']:.2f}, reward {step['reward']:+.2f}"
    later = step["distance"]
    source = "" if not later else f", from a change {later} step{'s' if later > 1 else ''} later"
    marker = clip(visible(step["marker"]), 40)
    details = (
        f"Step {step['step']}, at “{marker}”: {step['accuracy_before']:.3f} of {before} decided continuations are right before it, "
        f"{step['accuracy_after']:.3f} of {after} after it. Reward {step['reward']:+.3f}{source}."
    )
    return Part(text, effect, summary, details)
