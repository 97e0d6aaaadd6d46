"""The sampling plan and its execution: solutions, episodes with tools, continuations, critiques, presamples."""

from assay.rollouts.plan import PlanError, PlanRow, RolloutError, make_plan, split_shards
from assay.rollouts.progress import Reporter
from assay.rollouts.sample import Summary, render_prompts, run_plan, sample_rows, sample_shards

__all__ = [
    "PlanError",
    "PlanRow",
    "Reporter",
    "RolloutError",
    "Summary",
    "make_plan",
    "render_prompts",
    "run_plan",
    "sample_rows",
    "sample_shards",
    "split_shards",
]
