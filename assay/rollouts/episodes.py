"""Sampling of everything that is played in turns: episodes, and the single turns that train from the states which they reach.

Written shard by shard beside what is sampled in one turn, and resumed as that is: a shard's episodes are played together in an idle
engine, and one that is found whole is not played again. One shard is in memory at a time.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from assay.engines import Engine, Progress, Renderer
from assay.environments.task import Task
from assay.environments.tools.execution import ToolExecutor
from assay.environments.tools.tasks import from_task
from assay.params import Params
from assay.params.tools import EpisodeParams
from assay.rollouts.plan import PlanRow, stream_shards
from assay.rollouts.play import EpisodeTables, Start, check_room, play, tables
from assay.rollouts.progress import Reporter
from assay.rollouts.sample import read_finished
from assay.rollouts.states import later_starts, states_of
from assay.trajectories import ShardError, read_table, to_table, write_shard

NAMES = ("turns", "tool_calls", "trajectories")
"""Tables of a shard, in the order in which they are written: where the last one is, the others are."""


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


def write_episodes(stage: Stage, tasks: Mapping[str, Task], rows: Sequence[PlanRow], folder: Path) -> None:
    """Make `folder` hold the shards of these rows, and of the turns that are sampled from their states where the unit of training is a
    turn; finished ones are kept. Without rows, `turns` and `tool_calls` are there and empty. Raises PlanError, EngineError,
    IsolationError, ShardError."""
    if not rows:
        for table in NAMES[:2]:
            write_shard(folder / f"{table}.parquet", table, to_table(table, []))
        return
    starts, shards, states, waiting = first_starts(stage, tasks, rows), [], 0, iter(rows)
    for shard, part in _shards(stage, "episodes", starts, len(starts), folder):
        shards.append(shard)
        states += sum(1 for _ in states_of(stage.params, stage.renderer, waiting, part))
    del starts
    if stage.episodes.unit == "turn" and states:
        played = (_read(folder, shard) for shard in shards)
        singles = later_starts(stage.params, stage.renderer, tasks, rows, played)
        for _ in _shards(stage, "singles", singles, states * stage.params.sampling.group_size, folder):
            pass  # written, and not needed any more


def play_episodes(stage: Stage, tasks: Mapping[str, Task], rows: Sequence[PlanRow]) -> EpisodeTables:
    """The same in memory, for a fused round. Returns all rows."""
    if not rows:
        return EpisodeTables.joined([])
    found = _play_all(stage, "episodes", first_starts(stage, tasks, rows))
    if stage.episodes.unit == "turn":
        states = list(later_starts(stage.params, stage.renderer, tasks, rows, found))
        found += _play_all(stage, "single turns", states)
    return EpisodeTables.joined(found)


def _play_all(stage: Stage, what: str, starts: Sequence[Start]) -> list[EpisodeTables]:
    with Reporter(f"policy {starts[0].row.policy}, {what}" if starts else what, len(starts), stays=False) as reporter:
        return [_play(stage, shard, reporter) for shard in _divided(stage, starts)]


def first_starts(stage: Stage, tasks: Mapping[str, Task], rows: Sequence[PlanRow]) -> list[Start]:
    """Each row at its task's first state."""
    environments = {task_id: from_task(tasks[task_id]) for task_id in dict.fromkeys(row.task_id for row in rows)}
    prompts = {row.task_id: stage.renderer.prompt_ids(row.messages, row.task_id) for row in {row.task_id: row for row in rows}.values()}
    starts = [Start(row, environments[row.task_id], prompts[row.task_id]) for row in rows]
    for start in starts:
        check_room(start, stage.episodes)  # of all of them, before the first shard
    return starts


def _divided(stage: Stage, starts: Iterable[Start]) -> Iterator[list[Start]]:
    """In shards of sampling.shard_rows, groups whole and kinds apart."""
    return stream_shards(starts, stage.params.sampling.shard_rows, lambda start: start.row)


def _shards(stage: Stage, name: str, starts: Iterable[Start], total: int, folder: Path) -> Iterator[tuple[str, EpisodeTables]]:
    """Each shard with its name, once it is written or found whole. total: of the starts."""
    what, waited = "episodes" if name == "episodes" else "single turns", stage.executor.waited
    counts, kept = _Counts(), set[Path]()
    with Reporter(what, total) as reporter:
        for index, shard in enumerate(_divided(stage, starts)):
            reporter.label = f"policy {shard[0].row.policy}, {what}"
            own = f"{name}-{index:04d}"
            files = {table: _file(folder, table, own) for table in NAMES}
            made = _finished(stage, folder, own, shard)
            if made is None:
                for file in files.values():
                    file.unlink(missing_ok=True)
                made = _play(stage, shard, reporter)
                for table, file in files.items():
                    write_shard(file, table, getattr(made, table))
            else:
                reporter(len(shard), 0)
            kept.update(files.values())
            counts.add(made)
            yield own, made
        reporter.say(counts.describe(reporter, stage.executor.waited - waited))
    for leftover in set(folder.glob(f"*-{name}-*")) - kept:
        leftover.unlink()


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


def _read(folder: Path, shard: str) -> EpisodeTables:
    turns, calls, trajectories = (read_table(name, _file(folder, name, shard)) for name in NAMES)
    return EpisodeTables(trajectories, turns, calls)


@dataclass
class _Counts:
    """Of all shards, for people."""

    episodes: int = 0
    turns: int = 0
    calls: int = 0
    stops: Counter[str] = field(default_factory=Counter)

    def add(self, made: EpisodeTables) -> None:
        self.episodes += len(made.trajectories)
        self.turns += len(made.turns)
        self.calls += len(made.tool_calls)
        self.stops.update(stop for stop in made.turns["stop"].to_pylist() if stop is not None)

    def describe(self, reporter: Reporter, waited: float) -> str:
        """One line. waited: seconds for tools, in this run."""
        ended = ", ".join(f"{count / self.episodes:.1%} {stop}" for stop, count in self.stops.items())
        share = f", {waited / reporter.seconds:.0%} of the time waiting for tools" if waited and reporter.seconds else ""
        return f"{self.turns:,} turns, {self.calls:,} calls; {reporter.rate:,.0f} tokens/s{share}{f'; ended: {ended}' if ended else ''}"
