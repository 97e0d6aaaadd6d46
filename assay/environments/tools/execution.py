"""Executing tool calls, many at once, in worker processes that may be lost. What goes wrong comes back as words for the policy.

A tool is one self-contained function. As in FTRL's code it is defined in a scope of its own: what stands beside it in the source (imports,
helpers, itself) is not visible from inside, so imports belong into its body.
"""

import inspect
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal, NoReturn, get_args

from assay.environments.tools.doors import close_doors
from assay.isolation import Outcome, Pool
from assay.rewards.tool_use import as_text

Status = Literal["ok", "unknown_tool", "bad_args", "exception", "timeout", "memory", "crash"]
STATUSES = get_args(Status)
OUT_OF_MEMORY = 77
"""Exit code of a call's process."""
ROOM, BYTES = 1024, 12
"""Bytes of an answer: beside its text, and at most for each of its characters (in JSON)."""
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
PATIENCE = 3
"""Calls of one tool in a batch that may take all of their time; the others are then answered as if they had."""
LATE = Outcome(None, "timeout")
SHOWN = 300
"""Characters of an exception's message, and of a name that does not exist."""

Item = tuple[str, str, str, int, bool]
"""Arguments of `run`."""


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

    seconds: wall clock per call; memory_mib: beyond what a worker has at its start; characters: longer feedback is cut. apart: each call in
    a process of its own (some milliseconds), without which code of others could touch later calls; False for code that this library has
    written itself. A context manager; batches of several threads wait for each other. Raises IsolationError where the pool itself fails,
    never for what a tool does.
    """

    def __init__(
        self, workers: int = 2, seconds: float = 10.0, memory_mib: int = 256, characters: int = 4096, *, apart: bool = True
    ) -> None:
        self.seconds, self.memory_mib, self.characters, self.apart = seconds, memory_mib, characters, apart
        self.calls, self.waited = 0, 0.0
        """Calls so far, and seconds that their callers waited."""
        self._pool, self._alone = Pool(f"{__name__}:run", workers, seconds, memory_mib, MODULES), Lock()

    def __enter__(self) -> "ToolExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers. A later `execute` starts them again."""
        self._pool.close()

    def execute(self, requests: Sequence[Request]) -> list[Feedback]:
        """One feedback per call, in order. Equal calls are executed once. Of a tool that never ends, PATIENCE calls are waited for."""
        began = time.monotonic()
        items: dict[Item, None] = {}
        keys = []
        for request in requests:
            source = request.codes.get(request.name)
            key = None if source is None else (source, request.name, json.dumps(dict(request.arguments)), self.characters, self.apart)
            keys.append(key)
            if key is not None:
                items[key] = None
        with self._alone:
            outcomes = self._run(list(items))
            self.calls += len(requests)
            self.waited += time.monotonic() - began
        return [
            Feedback("unknown_tool", clean(f"Error: there is no tool named {request.name[:SHOWN]}."))
            if key is None
            else self._read(request.name, outcomes[key])
            for request, key in zip(requests, keys, strict=True)
        ]

    def _run(self, items: Sequence[Item]) -> dict[Item, Outcome]:
        """In waves, so that what is not executed depends on the batch's order and never on the workers': of each tool (equal source) first
        PATIENCE calls, then, as long as none was late, twice as many as before, else as many as may still be late. What this library has
        written itself ends, and needs no waves."""
        if not self.apart:
            return dict(zip(items, self._pool.map(items), strict=True))
        waiting: dict[tuple[str, str], list[Item]] = {}
        for item in items:
            waiting.setdefault(item[:2], []).append(item)
        outcomes: dict[Item, Outcome] = {}
        late: Counter[tuple[str, str]] = Counter()
        most = PATIENCE
        while waiting:
            wave = {tool: some[: PATIENCE - late[tool] if late[tool] else most] for tool, some in waiting.items()}
            now = [item for some in wave.values() for item in some]
            for item, outcome in zip(now, self._pool.map(now), strict=True):
                outcomes[item] = outcome
                late[item[:2]] += outcome.failure == "timeout"
            waiting = {tool: left for tool, some in waiting.items() if (left := some[len(wave[tool]) :])}
            for tool in [tool for tool in waiting if late[tool] >= PATIENCE]:
                outcomes |= dict.fromkeys(waiting.pop(tool), LATE)
            most *= 2
        return outcomes

    def _read(self, name: str, outcome: Outcome) -> Feedback:
        if outcome.failure is None:
            return Feedback(*outcome.value)
        if outcome.failure == "timeout":
            return Feedback("timeout", f"Error: {name} gave no answer within {self.seconds:g} seconds.")
        if outcome.failure == "memory":
            return Feedback("memory", f"Error: {name} used more than {self.memory_mib} MiB of memory.")
        return Feedback("crash", f"Error: {name} crashed.")


def run(source: str, name: str, arguments: str, characters: int, apart: bool = True) -> tuple[Status, str]:
    """One call, in a worker, which hands it to a child of its own: what a call does to its interpreter (a module's function replaced, a
    signal handler, the decimal context) ends with it, and all that the worker reads of it is text. Equal calls, equal answers. apart: False
    runs it here."""
    if not apart:
        close_doors()
        return _executed(source, name, arguments, characters)
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        _as_child(theirs, source, name, arguments, characters)
    os.close(theirs)
    said = _read_all(ours, child, ROOM + BYTES * characters)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == OUT_OF_MEMORY:
        raise MemoryError(f"{name} wanted more than it may have")
    try:
        status, text = json.loads(said)
    except (ValueError, TypeError, RecursionError):
        raise ToolCrashed(f"{name} ended with code {code}") from None
    if status not in STATUSES or type(text) is not str:
        raise ToolCrashed(f"{name} answered what is no answer")
    return status, clean(text, characters)


class ToolCrashed(Exception):
    """A call whose process ended without an answer."""


def _as_child(pipe: int, source: str, name: str, arguments: str, characters: int) -> NoReturn:
    """Never comes back: what is left of the worker in this process (its stream to the parent above all) is closed before the tool runs."""
    code = 1
    try:
        os.closerange(3, pipe)
        os.closerange(pipe + 1, 64)
        write, leave = os.write, os._exit
        close_doors()
        answer = json.dumps(_executed(source, name, arguments, characters)).encode()
        while answer:
            answer = answer[write(pipe, answer) :]
        code = 0
    except MemoryError:
        code = OUT_OF_MEMORY
    finally:
        leave(code)


def _read_all(pipe: int, child: int, limit: int) -> bytes:
    """Up to the end. A child that writes more than an answer has is ended."""
    said = bytearray()
    try:
        while piece := os.read(pipe, 1 << 16):
            said += piece
            if len(said) > limit:
                os.kill(child, signal.SIGKILL)
                return b""
    finally:
        os.close(pipe)
    return bytes(said)


def _executed(source: str, name: str, arguments: str, characters: int) -> tuple[Status, str]:
    """In the child. arguments: JSON of an object. The messages never repeat an argument; what the tool itself says may."""
    random.seed(0)
    try:
        scope: dict[str, Any] = {}
        exec(compile(source, "<tool>", "exec", dont_inherit=True), {"__builtins__": __builtins__, "__name__": "tool"}, scope)
        function = scope.get(name)
        if not callable(function):
            return "unknown_tool", clean(f"Error: the tool {name} defines no function of its name.", characters)
        text = _call(name, function, json.loads(arguments))
    except MemoryError:
        raise
    except _BadArguments as error:
        return "bad_args", clean(str(error), characters)
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


def _message(error: BaseException) -> str:
    try:
        return f": {error}"[:SHOWN]
    except BaseException:  # a message that a tool's own exception refuses to give
        return ""


def clean(text: str, characters: int | None = None) -> str:
    """Cut, and without what UTF-8 cannot hold (JSON can spell out halves of characters). A plain string, whatever methods a tool's own kind
    of string has."""
    return str.encode(str.__getitem__(text, slice(characters)), "utf-8", "replace").decode("utf-8")
