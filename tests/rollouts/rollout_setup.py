"""Tasks, parameters and engine of the sampling tests, the same in this process and in one that is killed."""

from assay.engines import open_engine
from assay.params import Params
from assay.params.sampling import TransformersEngine
from assay.trajectories import to_table


def make_tasks(train=12, held_out=6, ood=3):
    rows = []
    for split, count in (("train", train), ("eval", held_out), ("ood", ood)):
        for index in range(count):
            rows.append(
                {
                    "task_id": f"{split}-{index:03d}",
                    "environment": "sums",
                    "split": split,
                    "prompt": [{"role": "user", "content": f"{index}+{len(split)}=?"}],
                    "gold": str(index + len(split)),
                    "verifier": "numeric",
                    "meta": "{}",
                    "difficulty": None,
                }
            )
    return to_table("tasks", rows)


def make_params(**sampling):
    return Params.model_validate(
        {
            "seed": 7,
            "policy": {"max_prompt_tokens": 48},
            "sampling": {"tasks_per_iteration": 5, "group_size": 4, "max_tokens": 8, "shard_rows": 8} | sampling,
            "training": {"steps_per_iteration": 1},
            "evaluation": {"samples": 3, "temperature": 0.8, "pass_at": [1]},
        }
    )


def open_tiny(policy):
    return open_engine(
        TransformersEngine(batch_size=64, device="cpu"),
        policy,
        stop_ids=(2,),
        dtype="float32",
        max_model_tokens=64,
        execution=Params().execution,
    )
