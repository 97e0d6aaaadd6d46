"""The sampling plan: which completions are sampled from a policy, each with its own seed. A plan is a list, not a loop.

Training walks through the train tasks in a seeded order: iteration k takes up where k - 1 ended, epoch after epoch,
each epoch in another order, no task twice in one epoch. Evaluation samples every held-out task.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import pyarrow as pa

from assay.params import Params
from assay.params.tools import TOOL_USE
from assay.rollouts.walk import draw
from assay.trajectories import content_hash, seed_from

T = TypeVar("T")


class RolloutError(RuntimeError):
    """A plan that cannot be made or carried out. The message says what was wrong and what to do."""


class PlanError(RolloutError, ValueError):
    """A plan that cannot be made: a person must change the parameters or the tasks."""


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One completion to sample, complete in itself."""

    iteration: int
    round: int
    policy: str
    task_id: str
    group_id: str
    sample_index: int
    kind: str
    parent_id: str | None
    messages: tuple[Mapping[str, str], ...]
    """Shared between the rows of a task, never changed."""
    seed: int
    temperature: float
    top_p: float
    max_tokens: int
    prompt_ids: tuple[int, ...] | None = None
    """Where the prompt is made of token ids already, instead of messages."""
    played: bool = False
    """In turns, with tools, until the episode ends."""


@dataclass(frozen=True)
class PlannedFrom:
    """What plans read of the table `tasks`, which may be long: read once for all rounds of a run."""

    prompts: Mapping[str, Mapping[str, tuple[Mapping[str, str], ...]]]
    """Of each split: prompts by task id."""
    played: frozenset[str]

    @staticmethod
    def of(tasks: pa.Table) -> "PlannedFrom":
        prompts: dict[str, dict[str, tuple[Mapping[str, str], ...]]] = {}
        columns = (tasks[name].to_pylist() for name in ("task_id", "split", "prompt"))
        for task_id, split, prompt in zip(*columns, strict=True):
            prompts.setdefault(split, {})[task_id] = tuple(prompt)
        return PlannedFrom(prompts, played_tasks(tasks))


def make_plan(
    tasks: pa.Table | PlannedFrom, params: Params, iteration: int, kinds: Sequence[str], *, round: int = 0, rounds: int = 1,
    policy_round: int | None = None, explore: Collection[str] | None = None,
) -> list[PlanRow]:  # fmt: skip
    """Rows of iteration `iteration` for the given kinds, in the order in which they are sampled.

    tasks: table `tasks`, or what was read of it. `round` of `rounds`: position inside a fused iteration; a staged iteration is one round.
    policy_round: the round whose policy samples, where it is an older one than `round`. explore: tasks that solutions are
    sampled for; None: all of the split.
    Seeds are hashes of (run seed, policy, task, kind, sample index): no row's seed depends on which others are planned.
    Raises PlanError for an unknown kind or where a kind has no task.
    """
    rows: list[PlanRow] = []
    sampled_by = round if policy_round is None else policy_round
    policy = str(iteration) if sampled_by == 0 else f"{iteration}.{sampled_by}"
    # What hashes are made of: an old policy that samples again must not sample the same again.
    moment = policy if sampled_by == round else f"{policy}@{round}"
    known = tasks if isinstance(tasks, PlannedFrom) else PlannedFrom.of(tasks)
    played = known.played
    for kind in kinds:
        splits = SPLITS_OF.get(kind)
        if splits is None:
            raise PlanError(f"no plan for rows of kind {kind!r}; known: {', '.join(SPLITS_OF)}")
        candidates = {name: prompt for split in splits for name, prompt in known.prompts.get(split, {}).items()}
        if not candidates:
            raise PlanError(
                f"no task of split {' or '.join(splits)} to sample for {kind}; raise tasks.{splits[0]} and run "
                "generate again"
            )
        if kind == "solution":
            if explore is not None:
                candidates = {name: prompt for name, prompt in candidates.items() if name in explore}
                if not candidates:
                    raise PlanError("none of the tasks to explore (data/presample) is a train task: run the presample stage again")
            per_round = params.sampling.tasks_per_iteration
            drawn = draw(sorted(candidates), per_round, iteration * rounds + round, params.seed)
            settings = (params.sampling.group_size, params.sampling.temperature, params.sampling.top_p)
        elif kind == "presample":
            if played & candidates.keys():
                raise PlanError(
                    "presample.enabled is true, but there are tasks with tools, whose episodes cannot be rehearsed: leave one out"
                )
            drawn = sorted(candidates)
            settings = (params.presample.samples + 1, params.sampling.temperature, params.sampling.top_p)
        else:
            drawn = sorted(candidates)
            settings = (params.evaluation.samples, params.evaluation.temperature, params.evaluation.top_p)
        if kind == "solution" and played:
            episodes = params.sampling.episodes
            own = settings if episodes.unit == "episode" else (1, episodes.temperature, params.sampling.top_p)
            alone = [name for name in drawn if name not in played]
            rows += _groups(params, iteration, round, policy, moment, kind, alone, candidates, *settings)
            kind, drawn, settings = "episode", [name for name in drawn if name in played], own
        rows += _groups(params, iteration, round, policy, moment, kind, drawn, candidates, *settings, played=played)
    return rows


def played_tasks(tasks: pa.Table) -> frozenset[str]:
    """Ids of the tasks that are played in turns: those with tools."""
    columns = zip(tasks["task_id"].to_pylist(), tasks["verifier"].to_pylist(), strict=True)
    return frozenset(task_id for task_id, verifier in columns if verifier == TOOL_USE)


def split_shards(plan: Sequence[PlanRow], shard_rows: int) -> list[list[PlanRow]]:
    """The plan in shards of at most `shard_rows` rows, in order; groups stay whole and kinds apart.

    A group that is larger than a shard is a shard of its own.
    """
    return list(stream_shards(plan, shard_rows, lambda row: row))


def stream_shards(items: Iterable[T], shard_rows: int, row_of: Callable[[T], PlanRow]) -> Iterator[list[T]]:
    """The same of anything that has rows, one shard at a time: no more than a shard and a group are held."""
    shard: list[T] = []
    for _, run in groupby(items, key=lambda item: row_of(item).group_id):
        group = list(run)
        if shard and (row_of(shard[-1]).kind != row_of(group[0]).kind or len(shard) + len(group) > shard_rows):
            yield shard
            shard = []
        shard += group
    if shard:
        yield shard


SPLITS_OF: dict[str, tuple[str, ...]] = {"solution": ("train",), "evaluation": ("eval", "ood"), "presample": ("train",)}


def _groups(
    params: Params,
    iteration: int,
    round: int,
    policy: str,
    moment: str,
    kind: str,
    drawn: Sequence[str],
    prompts: Mapping[str, tuple[Mapping[str, str], ...]],
    size: int,
    temperature: float,
    top_p: float,
    *,
    played: Collection[str] = (),
) -> Iterator[PlanRow]:
    seen: dict[str, int] = {}
    for task_id in drawn:
        # A run that crosses the border of two epochs can meet a task twice: a second group, whose sample indices go on.
        occurrence = seen.get(task_id, 0)
        seen[task_id] = occurrence + 1
        group_id = content_hash(params.seed, moment, kind, task_id, occurrence)
        for index in range(occurrence * size, (occurrence + 1) * size):
            yield PlanRow(
                iteration=iteration,
                round=round,
                policy=policy,
                task_id=task_id,
                group_id=group_id,
                sample_index=index,
                kind=kind,
                parent_id=None,
                messages=prompts[task_id],
                seed=seed_from(params.seed, moment, task_id, kind, index),
                temperature=temperature,
                top_p=top_p,
                max_tokens=params.sampling.max_tokens,
                played=task_id in played,
            )
