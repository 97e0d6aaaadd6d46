"""Sampling of one policy in one engine session. The body of the stages `rollout` and `finish`, and of a fused round."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from assay.engines import Engine, Renderer, load_renderer, open_engine
from assay.params import Params
from assay.params.execution import ExecutionParams
from assay.rollouts import make_plan, run_plan
from assay.trajectories import read_table


@dataclass(frozen=True)
class Sampler:
    """An engine that holds a policy, and the renderer of its prompts."""

    engine: Engine
    renderer: Renderer


@contextmanager
def open_sampler(params: Params, policy: Path, execution: ExecutionParams) -> Iterator[Sampler]:
    """Start the engine once; it is closed at the end of the block."""
    renderer = load_renderer(policy, params.policy)
    engine = open_engine(
        params.sampling.engine,
        policy,
        stop_ids=renderer.stop_ids,
        dtype=params.policy.dtype,
        max_model_tokens=params.policy.max_prompt_tokens + params.sampling.max_tokens,
        execution=execution,
    )
    try:
        yield Sampler(engine, renderer)
    finally:
        engine.close()


def sample(sampler: Sampler, tasks: Path, params: Params, iteration: int, kinds: Sequence[str], out: Path, scratch: Path) -> None:
    """Sample the plan of these kinds and publish its shards in `out`. Finished shards in `scratch` are not sampled again."""
    plan = make_plan(read_table("tasks", tasks), params, iteration, kinds)
    run_plan(plan, sampler.engine, sampler.renderer, params, out=out, scratch=scratch)
