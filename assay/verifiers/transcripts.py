"""What was played in turns, as one text for each trajectory: all that a verifier of tool use needs beside the gold."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from assay.environments import Task
from assay.params.tools import TOOL_USE

_READ = ("trajectory_id", "turn_index", "content", "unsolved", "solve_rate", "echo_guard", "sub_answers", "stop")


@dataclass(frozen=True)
class Transcripts:
    """By trajectory id, of those that were played in turns."""

    whole: Mapping[str, str] = field(default_factory=dict)
    """What was played, as JSON. Equal episodes have equal ones, so that they are judged once."""
    ends: Mapping[str, str] = field(default_factory=dict)
    """What the last turn says; nothing where it made calls."""

    @staticmethod
    def of(tasks: Mapping[str, Task], trajectories: pa.Table, turns: pa.Table, tool_calls: pa.Table) -> "Transcripts":
        """From the tables `turns` and `tool_calls` of the trajectories."""
        calls: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for call in tool_calls.select(["trajectory_id", "turn_index", "name", "arguments", "feedback"]).to_pylist():
            if call["name"] is not None:  # what could not be read is no call
                said = {"name": call["name"], "arguments": json.loads(call["arguments"]), "feedback": call["feedback"]}
                calls.setdefault((call["trajectory_id"], call["turn_index"]), []).append(said)
        own: dict[str, list[dict[str, Any]]] = {}
        for turn in turns.select(list(_READ)).to_pylist():
            own.setdefault(turn["trajectory_id"], []).append(turn | {"made": calls.get((turn["trajectory_id"], turn["turn_index"]), [])})
        whole = {}
        for name, task_id in zip(trajectories["trajectory_id"].to_pylist(), trajectories["task_id"].to_pylist(), strict=True):
            if name in own and task_id in tasks and tasks[task_id].verifier == TOOL_USE:
                whole[name] = _transcript(tasks[task_id], own[name])
        return Transcripts(whole, {name: "" if played[-1]["made"] else played[-1]["content"] for name, played in own.items()})


def _transcript(task: Task, turns: list[dict[str, Any]]) -> str:
    stop = turns[-1]["stop"]
    return json.dumps({
        "whole": stop is not None, "stop": stop, "rewarded": task.split == "train", "sub_answers": turns[0]["sub_answers"],
        "scenario": task.meta["scenario"],
        "turns": [
            {"content": turn["content"], "unsolved": json.loads(turn["unsolved"]), "solve_rate": turn["solve_rate"],
             "echo_guard": turn["echo_guard"], "calls": turn["made"]}
            for turn in turns
        ],
    })  # fmt: skip
