"""Tool environments as tasks of the record, and back: the task's meta holds all that an episode needs."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from assay.environments.task import Task
from assay.environments.tools.record import Difficulty, GoldenCall, SubQuestion, ToolEnvironment, is_required
from assay.params.tools import TOOL_USE

Shown = Literal["json", "compact"]
CALLING = (
    "You may call these tools. To call one, write <tool_call>, then one JSON object with its name and arguments, then </tool_call>; "
    "several calls may follow each other."
)


def shown_tools(tools: tuple[Mapping[str, Any], ...], shown: Shown) -> str:
    """The system message. json: how to call, and a JSON object a line. compact: a line for each tool, for policies that have seen calls in
    their demonstrations; optional parameters have a question mark, and choices that must be made are listed."""
    if shown == "json":
        return "\n".join([CALLING, "<tools>", *(json.dumps(tool, ensure_ascii=False) for tool in tools), "</tools>"])
    return "\n".join(map(_signature, tools))


def _signature(tool: Mapping[str, Any]) -> str:
    function, parameters = tool["function"], []
    for name, schema in function["parameters"].get("properties", {}).items():
        choices = f"={'|'.join(map(str, schema['enum']))}" if "enum" in schema and is_required(tool, name) else ""
        parameters.append(f"{name}{choices}{'' if is_required(tool, name) else '?'}")
    return f"{function['name']}({', '.join(parameters)})"


def to_task(environment: ToolEnvironment, family: str, split: str, shown: Shown = "json") -> Task:
    """split: train, eval or ood. The prompt shows the tools first. Difficulty: the number of sub-answers. Raises TaskError for an
    environment without an answer."""
    meta = {
        "scenario": environment.scenario, "question": environment.question, "tools": list(environment.tools), "codes": environment.codes,
        "unsolved": {name: list(answers) for name, answers in environment.unsolved.items()}, "seed": environment.seed,
        "nodes": [asdict(node) for node in environment.nodes], "calls": [asdict(call) for call in environment.calls],
        "scaling": asdict(environment.difficulty), "env_id": environment.env_id,
    }  # fmt: skip
    prompt = [{"role": "system", "content": shown_tools(environment.tools, shown)}]
    prompt += [{"role": message["role"], "content": message["content"]} for message in environment.messages]
    return Task.create(family, split, prompt, environment.answer or "", TOOL_USE, meta, float(len(environment.answers)))


def from_task(task: Task) -> ToolEnvironment:
    """Inverse of `to_task`; its split is train (rewards may be computed) for tasks of train, else test."""
    meta: dict[str, Any] = task.meta
    return ToolEnvironment(
        scenario=meta["scenario"], question=meta["question"], answer=task.gold, tools=tuple(meta["tools"]), codes=meta["codes"],
        unsolved={name: tuple(answers) for name, answers in meta["unsolved"].items()},
        split="train" if task.split == "train" else "test", messages=task.prompt[1:], seed=meta["seed"],
        nodes=tuple(SubQuestion(**{**node, "depends_on": tuple(node["depends_on"])}) for node in meta["nodes"]),
        calls=tuple(GoldenCall(**call) for call in meta["calls"]), difficulty=Difficulty(**meta["scaling"]),
    )  # fmt: skip
