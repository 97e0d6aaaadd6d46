"""The states that episodes have reached, each a prompt of its own from which single turns are sampled (FTRL, unit of training: a turn).

Read from the stored tables, so that a resumed run has the same; one shard of episodes at a time, as the tokens of all do not fit in memory.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from assay.engines import Renderer
from assay.environments.task import Task
from assay.environments.tools.tasks import from_task
from assay.params import Params
from assay.rollouts.plan import PlanRow
from assay.rollouts.play import EpisodeTables, Start
from assay.trajectories import content_hash, seed_from

MEASURED = "evaluation"
"""Kind of rows whose episodes are measured and never trained on."""


@dataclass(frozen=True)
class State:
    """Where an episode stood before a turn."""

    parent: PlanRow
    trajectory_id: str
    turn: int
    """Turns before it."""
    prompt_ids: tuple[int, ...]
    unsolved: dict[str, tuple[str, ...]]


def later_starts(
    params: Params, renderer: Renderer, tasks: Mapping[str, Task], rows: Iterable[PlanRow], played: Iterable[EpisodeTables]
) -> Iterator[Start]:
    """Rows of kind solution: sampling.group_size single turns from each state. rows: what was played, in the order of `played`."""
    sampling, rows = params.sampling, iter(rows)
    for part in played:
        for state in states_of(params, renderer, rows, part):
            parent, environment = state.parent, from_task(tasks[state.parent.task_id])
            group = content_hash(parent.group_id, parent.sample_index, state.turn)
            for sample in range(sampling.group_size):
                # Sample indices go on from state to state: those of one task are all different.
                number = (parent.sample_index * (sampling.episodes.max_turns + 1) + state.turn) * sampling.group_size + sample
                row = replace(
                    parent, group_id=group, sample_index=number, kind="solution", parent_id=state.trajectory_id,
                    seed=seed_from(parent.seed, "state", state.turn, sample), temperature=sampling.temperature,
                )  # fmt: skip
                yield Start(row, environment, state.prompt_ids, state.unsolved, state.turn, alone=True)


def states_of(params: Params, renderer: Renderer, rows: Iterator[PlanRow], part: EpisodeTables) -> Iterator[State]:
    """Of the episodes of one shard: before each turn, and, where sampling.episodes.max_turns has ended one that could have gone on, behind
    the last turn. rows: of the plan; as many are taken as the shard has."""
    turns, calls = _by_trajectory(part.turns.to_pylist()), _by_trajectory(part.tool_calls.to_pylist())
    trajectories = part.trajectories.select(["trajectory_id", "prompt_ids", "completion_ids"]).to_pylist()
    for trajectory, parent in zip(trajectories, rows):  # noqa: B905 (more rows are left for the next shard)
        if parent.kind == MEASURED:
            continue
        name, ids = trajectory["trajectory_id"], (*trajectory["prompt_ids"], *trajectory["completion_ids"])
        before = len(trajectory["prompt_ids"])
        for turn in turns[name]:
            yield State(parent, name, turn["turn_index"], ids[: before + turn["start"]], _unsolved(turn))
        last = turns[name][-1]
        if last["stop"] == "max_turns":
            made = [call for call in calls[name] if call["turn_index"] == last["turn_index"] and call["name"] is not None]
            ids += renderer.continuation_ids([{"role": "tool", "content": call["feedback"]} for call in made])
            if len(ids) + parent.max_tokens <= params.sampling.episodes.max_tokens:
                yield State(parent, name, last["turn_index"] + 1, ids, _left(_unsolved(last), made))


def _by_trajectory(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    of: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        of.setdefault(row["trajectory_id"], []).append(row)
    return of


def _unsolved(turn: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(answers) for name, answers in json.loads(turn["unsolved"]).items()}


def _left(unsolved: dict[str, tuple[str, ...]], made: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """What is unsolved after a turn's calls; tools keep their key when nothing is left."""
    left = {name: list(answers) for name, answers in unsolved.items()}
    for call in made:
        if call["solved"] is not None:
            left[call["name"]].remove(call["solved"])
    return {name: tuple(answers) for name, answers in left.items()}
