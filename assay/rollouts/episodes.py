"""Sampling of everything that is played in turns: episodes, and the single turns that train from the states which they reach.

Written shard by shard beside what is sampled in one turn, and resumed as that is: a shard's episodes are played together in an idle
engine, and one that is found whole is not played again. States are read from the stored tables, so that a resumed run has the same.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.compute as pc

from assay.engines import Engine, Progress, Renderer
from assay.environments.task import Task
from assay.environments.tools.execution import ToolExecutor
from assay.environments.tools.tasks import from_task
from assay.params import Params
from assay.params.tools import EpisodeParams
from assay.rollouts.plan import PlanRow, split_shards
from assay.rollouts.play import EpisodeTables, Start, check_room, play, tables
from assay.rollouts.progress import Reporter
from assay.rollouts.sample import read_finished
from assay.trajectories import ShardError, content_hash, read_table, seed_from, to_table, write_shard

NAMES = ("turns", "tool_calls", "trajectories")
"""Tables of a shard, in the order in which they are written: where the last one is, the others are."""
MEASURED = "evaluation"
"""Kind of rows whose episodes are measured and never trained on."""


@dataclass(frozen=True)
class Stage:
    """Who plays: one engine session with its workers."""

    engine: Engine
    renderer: Renderer
    executor: ToolExecutor
    params: Params

    @property
    def episodes(self) -> EpisodeParams:
        return self.params.sampling.episodes


def open_executor(params: Params, workers: int) -> ToolExecutor:
    """Workers for the calls of tools. A context manager; nothing is started before the first call."""
    own = params.sampling.episodes
    return ToolExecutor(workers, own.seconds, own.memory_mib, own.feedback_characters)


def write_episodes(stage: Stage, tasks: Mapping[str, Task], rows: Sequence[PlanRow], folder: Path) -> EpisodeTables:
    """Make `folder` hold the shards of these rows, and of the turns that are sampled from their states where the unit of training is a
    turn; finished ones are kept. Without rows, `turns` and `tool_calls` are there and empty. Returns all rows. Raises PlanError,
    EngineError, IsolationError, ShardError."""
    if not rows:
        for table in NAMES[:2]:
            write_shard(folder / f"{table}.parquet", table, to_table(table, []))
    found = _shards(stage, "episodes", first_starts(stage, tasks, rows), folder)
    if stage.episodes.unit == "turn":
        found += _shards(stage, "singles", later_starts(stage, tasks, rows, EpisodeTables.joined(found)), folder)
    return EpisodeTables.joined(found)


def play_episodes(stage: Stage, tasks: Mapping[str, Task], rows: Sequence[PlanRow]) -> EpisodeTables:
    """The same in memory, for a fused round."""
    found = [_play(stage, shard) for shard in _divided(stage, first_starts(stage, tasks, rows))]
    if stage.episodes.unit == "turn":
        states = later_starts(stage, tasks, rows, EpisodeTables.joined(found))
        found += [_play(stage, shard) for shard in _divided(stage, states)]
    return EpisodeTables.joined(found)


def first_starts(stage: Stage, tasks: Mapping[str, Task], rows: Sequence[PlanRow]) -> list[Start]:
    """Each row at its task's first state."""
    environments = {task_id: from_task(tasks[task_id]) for task_id in dict.fromkeys(row.task_id for row in rows)}
    prompts = {row.task_id: stage.renderer.prompt_ids(row.messages, row.task_id) for row in {row.task_id: row for row in rows}.values()}
    starts = [Start(row, environments[row.task_id], prompts[row.task_id]) for row in rows]
    for start in starts:
        check_room(start, stage.episodes)  # of all of them, before the first shard
    return starts


def later_starts(stage: Stage, tasks: Mapping[str, Task], rows: Sequence[PlanRow], played: EpisodeTables) -> list[Start]:
    """Rows of kind solution: sampling.group_size single turns from each state in which an episode took a turn.

    (FTRL also keeps the state that max_turns cuts off; nothing was sampled from it here, so that it is left out.)
    """
    sampling, starts = stage.params.sampling, []
    for parent, (trajectory, turns) in zip(rows, _by_trajectory(played), strict=True):
        if parent.kind == MEASURED:
            continue
        environment = from_task(tasks[parent.task_id])
        for turn in turns:
            index, prompt = turn["turn_index"], (*trajectory["prompt_ids"], *trajectory["completion_ids"][: turn["start"]])
            group = content_hash(parent.group_id, parent.sample_index, index)
            unsolved = {name: tuple(answers) for name, answers in json.loads(turn["unsolved"]).items()}
            for sample in range(sampling.group_size):
                # Sample indices go on from state to state: those of one task are all different.
                number = (parent.sample_index * stage.episodes.max_turns + index) * sampling.group_size + sample
                row = replace(
                    parent, group_id=group, sample_index=number, kind="solution", parent_id=trajectory["trajectory_id"],
                    seed=seed_from(parent.seed, "state", index, sample), temperature=sampling.temperature,
                )  # fmt: skip
                starts.append(Start(row, environment, prompt, unsolved, index, alone=True))
    return starts


def _by_trajectory(played: EpisodeTables) -> Iterator[tuple[dict, list[dict]]]:
    of: dict[str, list[dict]] = {}
    for turn in played.turns.select(["trajectory_id", "turn_index", "start", "unsolved"]).to_pylist():
        of.setdefault(turn["trajectory_id"], []).append(turn)
    for trajectory in played.trajectories.select(["trajectory_id", "prompt_ids", "completion_ids"]).to_pylist():
        yield trajectory, of[trajectory["trajectory_id"]]


def _divided(stage: Stage, starts: Sequence[Start]) -> list[list[Start]]:
    """In shards of sampling.shard_rows, groups whole and kinds apart."""
    waiting = iter(starts)
    shards = split_shards([start.row for start in starts], stage.params.sampling.shard_rows)
    return [[next(waiting) for _ in shard] for shard in shards]


def _shards(stage: Stage, name: str, starts: Sequence[Start], folder: Path) -> list[EpisodeTables]:
    if not starts:
        return []
    shards = _divided(stage, starts)
    found = [_finished(stage, folder, f"{name}-{index:04d}", shard) for index, shard in enumerate(shards)]
    done = sum(len(one.trajectories) for one in found if one is not None)
    kept = {_file(folder, table, f"{name}-{index:04d}") for index, one in enumerate(found) if one is not None for table in NAMES}
    for leftover in folder.glob(f"*-{name}-*"):
        if leftover not in kept:
            leftover.unlink()
    what, waited = "episodes" if name == "episodes" else "single turns", stage.executor.waited
    with Reporter(f"policy {starts[0].row.policy}, {what}", len(starts), done=done) as reporter:
        for index, shard in enumerate(shards):
            if found[index] is None:
                made = _play(stage, shard, reporter)
                for table in NAMES:
                    write_shard(_file(folder, table, f"{name}-{index:04d}"), table, getattr(made, table))
                found[index] = made
        waited = stage.executor.waited - waited
        reporter.say(describe([one for one in found if one is not None], reporter, waited))
    return [one for one in found if one is not None]


def _play(stage: Stage, starts: Sequence[Start], progress: Progress | None = None) -> EpisodeTables:
    played = play(starts, stage.engine, stage.renderer, stage.executor, stage.episodes, progress)
    return tables(played, stage.engine, stage.renderer, stage.episodes)


def _file(folder: Path, table: str, shard: str) -> Path:
    return folder / f"{table}-{shard}.parquet"


def _finished(stage: Stage, folder: Path, shard: str, starts: Sequence[Start]) -> EpisodeTables | None:
    """A shard of an earlier run, where it is whole and was played from these starts by this engine; else None."""
    rows, prompts = [start.row for start in starts], [start.prompt_ids for start in starts]
    trajectories = read_finished(_file(folder, "trajectories", shard), rows, prompts, stage.engine)
    if trajectories is None:
        return None
    try:
        turns, calls = (read_table(name, _file(folder, name, shard)) for name in NAMES[:2])
    except ShardError:
        return None
    same = set(turns["trajectory_id"].to_pylist()) == set(trajectories["trajectory_id"].to_pylist())
    # What was read allows nulls, what is made does not.
    return EpisodeTables(to_table("trajectories", trajectories), to_table("turns", turns), to_table("tool_calls", calls)) if same else None


def describe(found: Sequence[EpisodeTables], reporter: Reporter, waited: float) -> str:
    """One line for people. waited: seconds for tools, in this run."""
    whole = EpisodeTables.joined(found)
    turns, count = len(whole.turns), max(len(whole.trajectories), 1)
    stops = pc.value_counts(pc.drop_null(whole.turns["stop"])).to_pylist()
    ended = ", ".join(f"{item['counts'] / count:.1%} {item['values']}" for item in stops)
    share = f", {waited / reporter.seconds:.0%} of the time waiting for tools" if waited and reporter.seconds else ""
    return f"{turns:,} turns, {len(whole.tool_calls):,} calls; {reporter.rate:,.0f} tokens/s{share}{f'; ended: {ended}' if ended else ''}"

