"""Sampling of one policy in one engine session. The body of the stages `rollout` and `finish`, and of a fused round."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from assay.engines import Engine, Renderer, load_renderer, open_engine
from assay.environments import Task, tasks_from_table
from assay.params import Params
from assay.params.execution import ExecutionParams
from assay.params.sampling import EngineParams, VllmEngine
from assay.rollouts import PlanRow, make_plan, render_prompts, run_plan, sample_shards
from assay.rollouts.derived import derives_anything
from assay.rollouts.episodes import Stage, open_executor, write_episodes
from assay.rollouts.lock import folder_lock
from assay.rounds.further import further_samples
from assay.trajectories import publish_folder, read_table, to_table, write_shard


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


def engine_params(params: Params, plays: bool = False) -> EngineParams:
    """sampling.engine; vLLM with its prefix cache where continuations are sampled, single turns of played episodes or critiques, which
    share nearly all of their prompts, unless the engine's own arguments say otherwise."""
    engine = params.sampling.engine
    if isinstance(engine, VllmEngine) and (params.stepwise.continuations or plays or params.self_verification.share):
        return engine.model_copy(update={"arguments": {"enable_prefix_caching": True, **engine.arguments}})
    return engine


def longest_sequence(params: Params, renderer: Renderer, plays: bool = False) -> int:
    """Tokens of prompt and completion together, over everything that these parameters sample. plays: also episodes."""
    own, stepwise = params.self_verification, params.stepwise
    lengths = [params.policy.max_prompt_tokens + params.sampling.max_tokens]
    if own.samples_anything:
        lengths.append(own.max_prompt_tokens + (own.max_tokens or params.sampling.max_tokens))
    if stepwise.continuations:
        close = len(renderer.tokenizer(stepwise.close_tag, add_special_tokens=False)["input_ids"])
        lengths.append(lengths[0] + close + stepwise.max_tokens)
    if plays:
        lengths.append(params.sampling.episodes.max_tokens)
    return max(lengths)


@contextmanager
def open_sampler(
    params: Params, policy: Path, execution: ExecutionParams, plan: Sequence[PlanRow] = (), *, shares_device: bool = False,
    plays: bool = False,
) -> Iterator[Sampler]:  # fmt: skip
    """Start the engine once; it is closed at the end of the block. The prompts of `plan` are rendered before: a template that
    refuses, or a prompt that is too long, is said at once and not after the engine's start. plays: episodes will be played, though there
    are none in this plan."""
    renderer = load_renderer(policy, params.policy)
    render_prompts(plan, renderer)
    plays = plays or any(row.played for row in plan)
    engine = open_engine(
        engine_params(params, plays),
        policy,
        stop_ids=renderer.stop_ids,
        dtype=params.policy.dtype,
        max_model_tokens=longest_sequence(params, renderer, plays),
        execution=execution,
        shares_device=shares_device,
    )
    try:
        yield Sampler(engine, renderer)
    finally:
        engine.close()


def sample(sampler: Sampler, plan: Sequence[PlanRow], params: Params, tasks: Path, out: Path, scratch: Path, workers: int = 1) -> None:
    """Sample the plan and what follows from it, and publish the shards in `out`, with the tables `states`, `turns` and `tool_calls`.
    Finished shards in `scratch` are not sampled again. workers: verifiers that may be needed to choose among the solutions, and tools."""
    known = tasks_from_table(read_table("tasks", tasks))
    at_once, played = [row for row in plan if not row.played], [row for row in plan if row.played]
    found = {"states": to_table("states", [])}

    def then(trajectories: pa.Table) -> list[PlanRow]:
        further = further_samples(sampler.renderer, trajectories, known, params, workers)
        found["states"] = further.states
        return further.plan

    def beside(folder: Path) -> None:
        sample_episodes(sampler, known, params, played, folder, workers)
        write_shard(folder / "states.parquet", "states", found["states"])

    if at_once:
        run_plan(
            at_once, sampler.engine, sampler.renderer, params, out=out, scratch=scratch, derive=then if derives_anything(params) else None,
            tables=beside,
        )  # fmt: skip
        return
    draft = scratch / "trajectories"
    with folder_lock(scratch):
        beside(draft)
        publish_folder(draft, out)


def sample_into(
    sampler: Sampler, plan: Sequence[PlanRow], params: Params, folder: Path, tasks: Mapping[str, Task] | None = None, workers: int = 1
) -> None:
    """Make `folder`, which the caller publishes, hold the shards of the plan and nothing else. Finished ones are kept. tasks: also sample
    what follows from the plan, and play what is played in turns; workers: for tools."""

    def then(trajectories: pa.Table) -> list[PlanRow]:
        return further_samples(sampler.renderer, trajectories, tasks or {}, params).plan

    at_once, played = [row for row in plan if not row.played], [row for row in plan if row.played]
    further = then if tasks is not None and derives_anything(params) else None
    if at_once:
        sample_shards(at_once, sampler.engine, sampler.renderer, params.sampling.shard_rows, folder, derive=further)
    if tasks is not None:
        sample_episodes(sampler, tasks, params, played, folder, workers)


def sample_episodes(
    sampler: Sampler, tasks: Mapping[str, Task], params: Params, rows: Sequence[PlanRow], folder: Path, workers: int
) -> None:
    """Play the rows of tasks with tools, in the same engine session, and write shards in `folder`, where finished ones are kept.
    Raises PlanError, EngineError, IsolationError, ShardError."""
    with open_executor(params, workers) as executor:
        stage = Stage(sampler.engine, sampler.renderer, executor, params)
        write_episodes(stage, tasks, rows, folder)
