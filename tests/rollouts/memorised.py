"""A policy that has memorised how a few tasks with tools are played: it calls tools, errs now and then, and answers. Made in seconds."""

from pathlib import Path
from random import Random

from assay.environments import Task
from assay.environments.tools.environment import ToolsEnvironment
from assay.params import Params
from assay.params.tools import Tools

PIECES = [
    '<tool_call>\n{"name": "', '", "arguments": {"', '": "', '"}}\n</tool_call>', '\n<tool_call>\n{"name": "', '{"value": "', '{"value": ',
    '"}',
]  # fmt: skip
SECTION = {
    "type": "tools", "size": "tiny", "scenarios": ["single_hop", "parallel_single_hop", "multi_hop"], "combinations": ["order"],
    "scaling": {"hops": [2, 2], "parameters": [1, 1], "generalise": 0.0, "merge": 0.0, "distractors": [1, 1]}, "shown": "compact",
    "quoted": True, "noise": 0.3,
}  # fmt: skip


def make_params(**sections) -> Params:
    base = {
        "seed": 3,
        "environments": {"tools": SECTION},
        "policy": {
            "max_prompt_tokens": 160,
            "shape": {
                "hidden_size": 64, "intermediate_size": 128, "layers": 2, "heads": 2, "key_value_heads": 2, "head_dim": 32,
                "vocabulary": 480, "max_positions": 384, "pieces": PIECES,
            },
        },
        "sampling": {
            "tasks_per_iteration": 3, "group_size": 4, "max_tokens": 40, "shard_rows": 8, "episodes": {"max_turns": 4, "max_tokens": 320},
        },
        "evaluation": {"samples": 2, "pass_at": [1]},
        "training": {"steps_per_iteration": 1, "micro_batch_size": 8, "grpo": {"report_to": "none"}},
        "verification": {"reference": "none"},
    }  # fmt: skip
    for name, values in sections.items():
        base[name] = base.get(name, {}) | values
    return Params.model_validate(base)


def make_tasks(train: int = 6, held_out: int = 3) -> dict[str, Task]:
    """Through the gate, as the stage makes them."""
    environment = ToolsEnvironment("tools", Tools.model_validate(SECTION), 3, Path(), 2)
    found = {}
    for split, count in (("train", train), ("eval", held_out), ("ood", held_out)):
        for _, candidate in zip(range(count), environment.candidates(split), strict=False):
            found[candidate.task.task_id] = candidate.task
    environment.close()
    return found


def save_policy(folder: Path, tasks: dict[str, Task], params: Params, steps: int = 220) -> Path:
    """Trained on demonstrations of the very tasks. Its mistakes are those of the demonstrations and its own."""
    from assay.training.beginnings import from_scratch
    from assay.training.demonstrations import batches, encode_rows
    from assay.training.supervised import make_optimizer, one_step, parts_of

    environment = ToolsEnvironment("tools", Tools.model_validate(SECTION), 3, Path(), 2)
    rows = []
    for task in tasks.values():
        for form in range(8):
            turns = environment.demonstration(task, Random(form))
            rows.append({"task_id": task.task_id, "prompt": task.prompt, "completion": turns[-1]["content"], "turns": turns})
    environment.close()
    start = from_scratch(params, rows)
    data = encode_rows(start.renderer, rows, start.prompts(params, rows), start.limit)
    model = start.model
    options = params.warm_start
    optimizer = make_optimizer(model, options)
    for step, batch in zip(range(steps), batches(data, 16, 0, 0), strict=False):
        one_step(model, optimizer, 5e-3 * min(1.0, (step + 1) / 20), parts_of(batch, data))
    start.save(folder, "float32")
    return folder
