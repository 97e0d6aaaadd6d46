"""One call of a tool, in a worker process. What is imported here is forked with each call, so that is little: a process with pyarrow in
it takes ten times as long to fork.

A tool is one self-contained function. As in FTRL's code it is defined in a scope of its own: what stands beside it in the source (imports,
helpers, itself) is not visible from inside, so imports belong into its body.
"""

import inspect
import json
import os
import random
import signal
from collections.abc import Callable
from typing import Any, Literal, NoReturn, get_args

from assay.rewards.tool_use import as_text
from assay.sandbox.doors import close_doors

Status = Literal["ok", "unknown_tool", "bad_args", "exception", "timeout", "memory", "crash"]
STATUSES = get_args(Status)
OUT_OF_MEMORY = 77
"""Exit code of a call's process."""
ROOM, BYTES = 1024, 12
"""Bytes of an answer: beside its text, and at most for each of its characters (in JSON)."""
SHOWN = 300
"""Characters of an exception's message, and of a name that does not exist."""


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
