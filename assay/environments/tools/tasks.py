"""Tool environments as tasks of the record, and back: the task's meta holds all that an episode needs."""

from dataclasses import asdict
from typing import Any

from assay.environments.task import Task
from assay.environments.tools.record import Difficulty, GoldenCall, SubQuestion, ToolEnvironment

VERIFIER = "tool_use"


def to_task(environment: ToolEnvironment, family: str, split: str) -> Task:
    """split: train, eval or ood. Difficulty: the number of sub-answers. Raises TaskError for an environment without an answer."""
    meta = {
        "scenario": environment.scenario, "question": environment.question, "tools": list(environment.tools), "codes": environment.codes,
        "unsolved": {name: list(answers) for name, answers in environment.unsolved.items()}, "seed": environment.seed,
        "nodes": [asdict(node) for node in environment.nodes], "calls": [asdict(call) for call in environment.calls],
        "scaling": asdict(environment.difficulty), "env_id": environment.env_id,
    }  # fmt: skip
    prompt = [{"role": message["role"], "content": message["content"]} for message in environment.messages]
    return Task.create(family, split, prompt, environment.answer or "", VERIFIER, meta, float(len(environment.answers)))


def from_task(task: Task) -> ToolEnvironment:
    """Inverse of `to_task`; its split is train (rewards may be computed) for tasks of train, else test."""
    meta: dict[str, Any] = task.meta
    return ToolEnvironment(
        scenario=meta["scenario"], question=meta["question"], answer=task.gold, tools=tuple(meta["tools"]), codes=meta["codes"],
        unsolved={name: tuple(answers) for name, answers in meta["unsolved"].items()},
        split="train" if task.split == "train" else "test", messages=task.prompt, seed=meta["seed"],
        nodes=tuple(SubQuestion(**{**node, "depends_on": tuple(node["depends_on"])}) for node in meta["nodes"]),
        calls=tuple(GoldenCall(**call) for call in meta["calls"]), difficulty=Difficulty(**meta["scaling"]),
    )  # fmt: skip
