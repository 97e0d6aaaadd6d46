"""Tasks and demonstrations, checked before anything is spent on them. The body of the stage `generate`."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

from assay.engines import chat
from assay.environments import Environment, Generated, Task, generate, make_environment
from assay.environments.asking import Teacher
from assay.params import Params
from assay.params.endpoint import Endpoint
from assay.params.execution import ExecutionParams
from assay.rounds.critique_demonstrations import critique_demonstrations
from assay.rounds.lines import lines
from assay.rounds.prompt_lengths import excess_of
from assay.trajectories import publish_folder, run_gate, seed_from, write_shard
from assay.verifiers import Judge


def make_tasks(params: Params, root: Path, execution: ExecutionParams | None = None) -> Generated:
    """Tasks of every environment whose golds their own verifiers accept, and whose prompts `policy.base` holds. Raises a ValueError of the
    room that refused, EngineError where a language model that builds environments does not answer."""
    execution = execution or ExecutionParams()
    params = params.model_copy(update={"execution": execution})

    def ask(backend: Endpoint) -> Teacher:
        teacher = chat.Teacher(execution.teacher, backend.model, backend.temperature, backend.max_tokens)
        return teacher.model, teacher.complete

    def say(what: str, done: int, wanted: int) -> None:
        if what not in counters:
            counters[what] = lines(f"tasks of {what}")
        counters[what](done, wanted)

    def answer(task: Task, random: Random) -> str:
        if task.environment not in environments:
            environments[task.environment] = make_environment(task.environment, params, root)
        shown = environments[task.environment].demonstration(task, random)
        return shown if isinstance(shown, str) else shown[-1]["content"]

    environments: dict[str, Environment] = {}
    counters: dict[str, Callable[[int, int], None]] = {}
    with Judge(params.verification, execution.verifier_workers) as judge:
        checked = lines("golds that need a worker")
        teacher, excess = ask if execution.teacher.urls else None, excess_of(params, root)
        made = generate(params, root, lambda tasks: judge.gold_problems(tasks, checked), say, teacher, excess)
        critiques = []
        if params.supervises:
            critiques = critique_demonstrations(made.demonstrations, made.demonstrated, params, judge.verdict, answer)
        if not critiques:
            return made
        rows = made.demonstrations + critiques
        rows.sort(key=lambda row: seed_from(params.seed, "order", row["task_id"], row["completion"]))
        note = f"{len(critiques):,} of {len(rows):,} demonstrations are critiques of worked answers"
        return replace(made, demonstrations=rows, notes=[*made.notes, note])


def generate_tasks(params: Params, root: Path, out: Path, gates: Path, execution: ExecutionParams | None = None) -> None:
    """Generate, pass the gate, publish `out` (tasks, demonstrations and, where asked for, texts as .parquet, counts.json) whole or not."""
    generated = make_tasks(params, root, execution)
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    tasks = write_shard(draft / "tasks.parquet", "tasks", [task.to_row() for task in generated.tasks])
    write_shard(draft / "demonstrations.parquet", "demonstrations", generated.demonstrations)
    if generated.texts:
        write_shard(draft / "texts.parquet", "texts", generated.texts)
    sources = {name: {"source": {"commit": commit}} for name, commit in generated.commits.items()}
    counted = {name: {**counts, **sources.get(name, {})} for name, counts in generated.counts.items()}
    (draft / "counts.json").write_text(json.dumps(counted, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(run_gate("tasks", {"tasks": tasks}, gates / "tasks"))
    publish_folder(draft, out)
    for name, counts in counted.items():
        print(f"{name}: {json.dumps(counts)}")
    for note in generated.notes:
        print(f"note: {note}")
