"""Executing tool calls, many at once, in worker processes that may be lost. What goes wrong comes back as words for the policy."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from assay.isolation import Outcome, Pool
from assay.sandbox.tool import SHOWN, STATUSES, Status, clean

MODULES = tuple("math json re datetime decimal fractions statistics collections itertools functools string hashlib calendar".split())
"""Imported before workers are forked: what tools import most."""
PATIENCE = 3
"""Calls of one tool in a batch that may take all of their time; the others are then answered as if they had."""
LATE = Outcome(None, "timeout")

Item = tuple[str, str, str, int, bool]
"""Arguments of `assay.sandbox.tool.run`."""


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
        self._pool, self._alone = Pool("assay.sandbox.tool:run", workers, seconds, memory_mib, MODULES), Lock()

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
        if outcome.failure is None and _is_answer(outcome.value):
            return Feedback(*outcome.value)
        if outcome.failure == "timeout":
            return Feedback("timeout", f"Error: {name} gave no answer within {self.seconds:g} seconds.")
        if outcome.failure == "memory":
            return Feedback("memory", f"Error: {name} used more than {self.memory_mib} MiB of memory.")
        return Feedback("crash", f"Error: {name} crashed.")


def _is_answer(value: Any) -> bool:
    """Of `assay.sandbox.tool.run`, and not of what got out of a call's process."""
    return isinstance(value, tuple) and len(value) == 2 and value[0] in STATUSES and isinstance(value[1], str)
