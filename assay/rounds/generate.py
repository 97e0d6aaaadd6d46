"""Tasks and demonstrations, checked before anything is spent on them. The body of the stages `generate` and `warm_start`."""

import json
import shutil
from pathlib import Path
from typing import Any

from assay.environments import Generated, Task, generate
from assay.params import Params
from assay.trajectories import publish_folder, read_table, run_gate, write_shard
from assay.verifiers import Judge


def make_tasks(params: Params, root: Path) -> Generated:
    """Tasks of every environment whose golds their own verifiers accept. Raises a ValueError of the room that refused."""
    with Judge(params.verification) as judge:
        return generate(params, root, check_gold=judge.gold_problem)


def generate_tasks(params: Params, root: Path, out: Path, gates: Path) -> None:
    """Generate, pass the gate, publish `out` (tasks.parquet, demonstrations.parquet, counts.json) whole or not at all."""
    generated = make_tasks(params, root)
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    tasks = write_shard(draft / "tasks.parquet", "tasks", [task.to_row() for task in generated.tasks])
    write_shard(draft / "demonstrations.parquet", "demonstrations", generated.demonstrations)
    (draft / "counts.json").write_text(json.dumps(generated.counts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(run_gate("tasks", {"tasks": tasks}, gates / "tasks"))
    publish_folder(draft, out)
    for name, counts in generated.counts.items():
        print(f"{name}: {json.dumps(counts)}")
    for note in generated.notes:
        print(f"note: {note}")


def first_policy(params: Params, tasks: Path, out: Path, scratch: Path) -> dict[str, Any]:
    """Policy 0 in `out`: trained from scratch on the demonstrations, or taken from `policy.base`. Returns its summary."""
    from assay.training.base import base_policy
    from assay.training.warm_start import warm_start

    if params.policy.base is not None:
        return base_policy(params, out, scratch)
    with Judge() as judge:
        return warm_start(
            params,
            read_table("tasks", tasks / "tasks.parquet"),
            read_table("demonstrations", tasks / "demonstrations.parquet"),
            out,
            scratch,
            is_correct=lambda task, text: judge.is_correct(Task.from_row(task), text),
        )
