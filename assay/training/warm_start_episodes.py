"""What a policy in training makes of tasks with tools: the warm start's measure for them."""

from collections.abc import Mapping, Sequence
from typing import Any

from assay.engines import Engine, Renderer
from assay.environments import Task
from assay.params import Params
from assay.rollouts import PlanRow
from assay.rollouts.episodes import Stage, first_starts, open_executor
from assay.rollouts.play import play
from assay.trajectories import seed_from

WORKERS = 2


def answered(tasks: Sequence[Mapping[str, Any]], engine: Engine, renderer: Renderer, params: Params) -> list[bool]:
    """Whether one episode of each task (rows of `tasks`) ends with its answer."""
    sampling = params.sampling
    rows = [
        PlanRow(
            0, 0, "", task["task_id"], task["task_id"], 0, "evaluation", None, tuple(task["prompt"]),
            seed_from(params.seed, "warm_start", task["task_id"]), sampling.temperature, sampling.top_p, sampling.max_tokens, played=True,
        )
        for task in tasks
    ]  # fmt: skip
    known = {task["task_id"]: Task.from_row(task) for task in tasks}
    with open_executor(params, WORKERS) as executor:
        stage = Stage(engine, renderer, executor, params)
        played = play(first_starts(stage, known, rows), engine, renderer, executor, sampling.episodes)
    return [one.episode.is_answered for one in played]
