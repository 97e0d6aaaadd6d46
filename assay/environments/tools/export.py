"""Environments and episodes in the formats of others: OpenAI's chat format (arguments as JSON text) and TRL's (arguments as objects)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from assay.environments.tools.record import ToolEnvironment

Messages = Sequence[Mapping[str, Any]]


def to_openai(environment: ToolEnvironment, messages: Messages | None = None) -> dict[str, Any]:
    """{messages, tools} as chat completions take them; messages: of an episode, else the first one alone."""
    return {"messages": [openai_message(message) for message in messages or environment.messages], "tools": list(environment.tools)}


def to_trl(environment: ToolEnvironment, messages: Messages | None = None) -> dict[str, Any]:
    """A row of a conversational data set: {messages, tools} of an episode for supervised training, or {prompt, tools} without one."""
    tools = list(environment.tools)
    if messages is None:
        return {"prompt": [dict(message) for message in environment.messages], "tools": tools}
    names: dict[str, str] = {}
    row = []
    for message in messages:
        names |= {call["id"]: call["function"]["name"] for call in message.get("tool_calls", [])}
        row.append(_trl(message, names))
    return {"messages": row, "tools": tools}


def openai_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message whose calls have their arguments as JSON text: tools of one file take arguments of all kinds, which one column of a table
    cannot hold otherwise."""
    found = dict(message)
    if "tool_calls" in message:
        found["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False)}}
            for call in message["tool_calls"]
        ]
    return found


def _trl(message: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    if message["role"] == "tool":
        return {"role": "tool", "name": names[message["tool_call_id"]], "content": message["content"]}
    found = dict(message)
    if "tool_calls" in message:
        found["tool_calls"] = [{"type": "function", "function": dict(call["function"])} for call in message["tool_calls"]]
    return found
