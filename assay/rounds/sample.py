"""Sampling of one policy in one engine session. The body of the stages `rollout` and `finish`, and of a fused round."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from assay.engines import Engine, Renderer, load_renderer, open_engine
from assay.params import Params
from assay.params.execution import ExecutionParams
from assay.rollouts import PlanRow, make_plan, render_prompts, run_plan, sample_shards
from assay.trajectories import read_table


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
    engine = open_engine(
        params.sampling.engine,
        policy,
        stop_ids=renderer.stop_ids,
        dtype=params.policy.dtype,
        max_model_tokens=params.policy.max_prompt_tokens + params.sampling.max_tokens,
        execution=execution,
        shares_device=shares_device,
    )
    try:
        yield Sampler(engine, renderer)
    finally:
        engine.close()


def sample(sampler: Sampler, plan: Sequence[PlanRow], params: Params, out: Path, scratch: Path) -> None:
    """Sample the plan and publish its shards in `out`. Finished shards in `scratch` are not sampled again."""
    run_plan(plan, sampler.engine, sampler.renderer, params, out=out, scratch=scratch)


def sample_into(sampler: Sampler, plan: Sequence[PlanRow], params: Params, folder: Path) -> None:
    """Make `folder`, which the caller publishes, hold the shards of the plan and nothing else. Finished ones are kept."""
    sample_shards(plan, sampler.engine, sampler.renderer, params.sampling.shard_rows, folder)
