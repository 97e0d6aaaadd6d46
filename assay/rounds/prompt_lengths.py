"""Prompts that a policy could never be shown are no tasks: seen while tasks are made, with the tokenizer of `policy.base`."""

from pathlib import Path

from assay.environments import Excess, Task
from assay.params import Params


def excess_of(params: Params, root: Path) -> Excess | None:
    """How much too long a task's prompt is for `policy.base`; None where a policy is made from scratch, whose tokenizer is made later, of
    the tasks. Raises BaseError or EngineError for a base without tokenizer, and for a template that refuses."""
    if params.policy.base is None:
        return None
    from assay.engines import load_renderer
    from assay.training.base import base_folder

    renderer = load_renderer(base_folder(params, root, weights=False), params.policy)
    known: dict[str, int | None] = {}

    def excess(task: Task) -> int | None:
        if task.prompt_key not in known:
            known[task.prompt_key] = renderer.excess(task.prompt)
        return known[task.prompt_key]

    return excess
