"""Sampling of one policy in one engine session. The body of the stages `rollout` and `finish`, and of a fused round."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from assay.engines import Engine, Renderer, load_renderer, open_engine
from assay.environments import Task, tasks_from_table
from assay.params import Params
from assay.params.execution import ExecutionParams
from assay.rollouts import PlanRow, make_plan, render_prompts, sample_shards
from assay.rollouts.episodes import EpisodeTables, Stage, open_executor, play_episodes
from assay.rollouts.episodes import sample_episodes as write_episodes
from assay.rollouts.lock import folder_lock
from assay.trajectories import publish_folder, read_table


@dataclass(frozen=True)
class Sampler:
    """An engine that holds a policy, and the renderer of its prompts."""

    engine: Engine
    renderer: Renderer


def plan_samples(
    tasks: Path, params: Params, iteration: int, kinds: Sequence[str], explore: Collection[str] | None = None
) -> list[PlanRow]:
    """What is sampled from the policy of one iteration. explore: tasks to train on; None: all. Raises PlanError."""
    return make_plan(read_table("tasks", tasks), params, iteration, kinds, explore=explore)


@contextmanager
def open_sampler(
    params: Params, policy: Path, execution: ExecutionParams, plan: Sequence[PlanRow] = (), *, shares_device: bool = False
) -> Iterator[Sampler]:
    """Start the engine once; it is closed at the end of the block. The prompts of `plan` are rendered before: a template that
    refuses, or a prompt that is too long, is said at once and not after the engine's start."""
    renderer = load_renderer(policy, params.policy)
    render_prompts(plan, renderer)
    longest = params.policy.max_prompt_tokens + params.sampling.max_tokens
    if any(row.played for row in plan):
        longest = max(longest, params.sampling.episodes.max_tokens)
    engine = open_engine(
        params.sampling.engine,
        policy,
        stop_ids=renderer.stop_ids,
        dtype=params.policy.dtype,
        max_model_tokens=longest,
        execution=execution,
        shares_device=shares_device,
    )
    try:
        yield Sampler(engine, renderer)
    finally:
        engine.close()


def sample(
    sampler: Sampler, plan: Sequence[PlanRow], params: Params, out: Path, scratch: Path, tasks: Path, execution: ExecutionParams
) -> None:
    """Sample the plan and publish its shards in `out`. Finished shards in `scratch` are not sampled again. tasks: their file."""
    draft = scratch / "trajectories"
    with folder_lock(scratch):
        sample_into(sampler, plan, params, draft, tasks, execution)
        publish_folder(draft, out)


def sample_into(
    sampler: Sampler, plan: Sequence[PlanRow], params: Params, folder: Path, tasks: Path, execution: ExecutionParams
) -> None:
    """Make `folder`, which the caller publishes, hold the shards of the plan and nothing else. Finished ones are kept."""
    at_once, played = [row for row in plan if not row.played], [row for row in plan if row.played]
    if at_once or not played:
        sample_shards(at_once, sampler.engine, sampler.renderer, params.sampling.shard_rows, folder)
    if played:
        sample_episodes(sampler, tasks_from_table(read_table("tasks", tasks)), params, played, folder, execution)


def sample_episodes(
    sampler: Sampler, tasks: Mapping[str, Task], params: Params, rows: Sequence[PlanRow], folder: Path | None, execution: ExecutionParams
) -> EpisodeTables:
    """Play the rows of tasks with tools, in the same engine session. folder: where shards are written and found again; None: in memory
    alone, for a fused round. Raises PlanError, EngineError, IsolationError, ShardError."""
    with open_executor(params, execution.verifier_workers) as executor:
        stage = Stage(sampler.engine, sampler.renderer, executor, params)
        return play_episodes(stage, tasks, rows) if folder is None else write_episodes(stage, tasks, rows, folder)
