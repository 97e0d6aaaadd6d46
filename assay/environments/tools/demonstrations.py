"""Episodes that show how it is done, as the texts of their turns: golden ones, and noisy ones that leave a policy room to improve."""

import json
from random import Random
from typing import Any

from assay.environments.tools.gate import example
from assay.environments.tools.parser import CLOSE, OPEN
from assay.environments.tools.record import GoldenCall, ToolEnvironment, ToolError


def written(name: str, arguments: dict[str, Any]) -> str:
    """A call as a policy writes it."""
    return f"{OPEN}\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n{CLOSE}"


def golden_turns(environment: ToolEnvironment) -> list[str]:
    """Calls that do not wait for each other share a turn; the last turn is the answer. Raises ToolError for an environment that does not
    know its intended calls, or its answer."""
    return ["\n".join(written(call.tool, call.arguments) for call in level) for level in _levels(environment)] + [_answer(environment)]


def noisy_turns(environment: ToolEnvironment, random: Random, noise: float) -> list[str]:
    """The same with mistakes, each with probability `noise`: before a call one of a distractor; a call made twice; a level's calls in turns
    of their own in another order. Each sub-answer is still found."""
    turns: list[str] = []
    distractors = [tool for tool in environment.tools if tool["function"]["name"] in environment.distractors]
    for level in _levels(environment):
        calls = []
        for call in level:
            if distractors and random.random() < noise:
                tool = random.choice(distractors)
                calls.append(written(tool["function"]["name"], example(tool)))
            calls += [written(call.tool, call.arguments)] * (1 + (random.random() < noise))
        if random.random() < noise:
            random.shuffle(calls)
            turns += calls
        else:
            turns.append("\n".join(calls))
    return [*turns, _answer(environment)]


def _answer(environment: ToolEnvironment) -> str:
    if not environment.answer:
        raise ToolError("an environment without a final answer has no demonstration")
    return environment.answer


def _levels(environment: ToolEnvironment) -> list[list[GoldenCall]]:
    if not environment.calls:
        raise ToolError("an environment that was read from a published record does not know its intended calls")
    depth: dict[str, int] = {}
    for node in environment.nodes:
        depth[node.id] = 1 + max((depth[key] for key in node.depends_on), default=-1)
    return [[call for call in environment.calls if depth[call.node] == level] for level in range(max(depth.values()) + 1)]
