"""Executing tool calls, many at once, in worker processes that may be lost. What goes wrong comes back as words for the policy.

A tool is one self-contained function. As in FTRL's code it is defined in a scope of its own: what stands beside it in the source (imports,
helpers, itself) is not visible from inside, so imports belong into its body.
"""

import inspect
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Any, Literal

from assay.environments.tools.doors import close_doors
from assay.isolation import Outcome, Pool
from assay.rewards.tool_use import as_text

Status = Literal["ok", "unknown_tool", "bad_args", "exception", "timeout", "memory", "crash"]
MODULES = (
    "math",
    "json",
    "re",
    "datetime",
    "decimal",
    "fractions",
    "statistics",
    "collections",
    "itertools",
    "functools",
    "string",
    "hashlib",
    "calendar",
)
"""Imported before workers are forked: what tools import most."""
SHOWN = 300
"""Characters of an exception's message, and of a name that does not exist."""


@dataclass(frozen=True)
class Request:
    """One call of a tool."""

    codes: Mapping[str, str]
    """The environment's sources, by the names of its tools."""
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Feedback:
    """What the policy is told."""

    status: Status
    text: str


class ToolExecutor:
    """Runs batches of calls in a pool of workers: no network, no file system (stricter than a scratch folder), no other processes.

    seconds: wall clock per call; memory_mib: beyond what a worker has at its start; characters: longer feedback is cut. A context
    manager; raises IsolationError where the pool itself fails, never for what a tool does.
    """

    def __init__(self, workers: int = 2, seconds: float = 10.0, memory_mib: int = 256, characters: int = 4096) -> None:
        self.seconds, self.memory_mib, self.characters = seconds, memory_mib, characters
        self.calls, self.waited = 0, 0.0
        """Calls so far, and seconds that their callers waited."""
        self._pool = Pool(f"{__name__}:run", workers, seconds, memory_mib, MODULES)

    def __enter__(self) -> "ToolExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers. A later `execute` starts them again."""
        self._pool.close()

    def execute(self, requests: Sequence[Request]) -> list[Feedback]:
        """One feedback per call, in order. Equal calls are executed once."""
        began = time.monotonic()
        items: dict[tuple[str, str, str, int], None] = {}
        keys = []
        for request in requests:
            source = request.codes.get(request.name)
            key = None if source is None else (source, request.name, json.dumps(dict(request.arguments)), self.characters)
            keys.append(key)
            if key is not None:
                items[key] = None
        outcomes = dict(zip(items, self._pool.map(list(items)), strict=True))
        self.calls += len(requests)
        self.waited += time.monotonic() - began
        return [
            Feedback("unknown_tool", clean(f"Error: there is no tool named {request.name[:SHOWN]}."))
            if key is None
            else self._read(request.name, outcomes[key])
            for request, key in zip(requests, keys, strict=True)
        ]

    def _read(self, name: str, outcome: Outcome) -> Feedback:
        if outcome.failure is None:
            return Feedback(*outcome.value)
        if outcome.failure == "timeout":
            return Feedback("timeout", f"Error: {name} gave no answer within {self.seconds:g} seconds.")
        if outcome.failure == "memory":
            return Feedback("memory", f"Error: {name} used more than {self.memory_mib} MiB of memory.")
        return Feedback("crash", f"Error: {name} crashed.")


def run(source: str, name: str, arguments: str, characters: int) -> tuple[Status, str]:
    """One call, in a worker. arguments: JSON of an object. The messages never repeat an argument; what the tool itself says may."""
    close_doors()
    random.seed(0)  # equal calls, equal answers
    try:
        scope: dict[str, Any] = {}
        exec(_compiled(source), {"__builtins__": __builtins__, "__name__": "tool"}, scope)
        function = scope.get(name)
        if not callable(function):
            return "unknown_tool", f"Error: the tool {name} defines no function of its name."
        text = _call(name, function, json.loads(arguments))
    except MemoryError:
        raise
    except _BadArguments as error:
        return "bad_args", str(error)
    except BaseException as error:  # SystemExit too
        return "exception", clean(f"Error: {name} failed with {type(error).__name__}{_message(error)}", characters)
    return "ok", clean(text, characters)


class _BadArguments(Exception):
    pass


def _call(name: str, function: Callable[..., Any], given: dict[str, Any]) -> str:
    """The result as text."""
    try:
        result = function(**given)
    except TypeError as error:
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            raise  # the function was entered
        takes = ", ".join(inspect.signature(function).parameters)
        raise _BadArguments(f"Error: {name} was called with wrong arguments; it takes {takes or 'none'}.") from None
    return as_text(result)


@lru_cache(maxsize=2048)
def _compiled(source: str) -> CodeType:
    return compile(source, "<tool>", "exec", dont_inherit=True)


def _message(error: BaseException) -> str:
    try:
        return f": {error}"[:SHOWN]
    except BaseException:  # a message that a tool's own exception refuses to give
        return ""


def clean(text: str, characters: int | None = None) -> str:
    """Cut, and without what UTF-8 cannot hold (JSON can spell out halves of characters)."""
    return text[:characters].encode("utf-8", "replace").decode("utf-8")
