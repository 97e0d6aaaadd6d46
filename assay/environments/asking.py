"""Asking a language model for the output of a stage of construction: JSON in, JSON out, checked, repaired at most twice, remembered by
content. What environments that a model builds (tools, protocols) share.

The model is any function from a prompt to a reply; whoever owns a client passes it in. What it raises (the endpoint is gone) is not caught:
only replies that are no good are this module's affair.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any, TypeVar

from assay.environments.task import TaskError
from assay.params.endpoint import Endpoint
from assay.trajectories import content_hash

Complete = Callable[[str], str]
"""prompt -> reply"""
Teacher = tuple[str, Complete]
"""A language model: its name, and what gives its reply to a prompt."""
MakeTeacher = Callable[[Endpoint], Teacher]
"""From an environment's backend to the language model that it names."""
REPAIRS = 2
_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)
T = TypeVar("T")


class Invalid(ValueError):
    """A reply that cannot be used; the message is what the model is told."""


class StageDropped(Exception):
    """A stage that no reply was good for."""

    def __init__(self, stage: str, problem: str) -> None:
        super().__init__(f"{stage}: {problem}")
        self.stage, self.problem = stage, problem


class Stopped(Exception):
    """A question that is not asked any more: another one has failed, or a person has had enough."""


@dataclass
class Drops:
    """What was dropped while an environment was built, counted by stage."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    """One message for each stage, the first."""

    def add(self, counts: Mapping[str, int], examples: Mapping[str, str]) -> None:
        self.counts.update(counts)
        self.examples = {**examples, **self.examples}

    def notes(self, name: str) -> list[str]:
        """A sentence a stage, about the environment of that name."""
        return [
            f"environments.{name}: {count:,} dropped at stage {stage}, e.g.: {self.examples[stage][:200]}"
            for stage, count in self.counts.items()
        ]  # fmt: skip


class FolderCache(MutableMapping[str, str]):
    """Replies in files by their key, written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __getitem__(self, key: str) -> str:
        try:
            return (self.folder / key).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise KeyError(key) from None

    def __setitem__(self, key: str, value: str) -> None:
        scratch = self.folder / f".{key}.{os.getpid()}"
        scratch.write_text(value, encoding="utf-8")
        scratch.replace(self.folder / key)

    def __delitem__(self, key: str) -> None:
        (self.folder / key).unlink()

    def __iter__(self) -> Iterator[str]:
        return (path.name for path in sorted(self.folder.iterdir()) if not path.name.startswith("."))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def need_teacher(name: str, teacher: object) -> None:
    """Raises TaskError where nobody has given the address of the language model that an environment's backend asks for."""
    if teacher is None:
        raise TaskError(
            f"environments.{name}.backend is an endpoint, but execution.teacher.urls is empty: list the addresses of OpenAI-compatible "
            "servers there, e.g. [http://127.0.0.1:8000/v1]"
        )


def open_asker(teacher: Teacher, section: Endpoint, folder: Path) -> "Asker":
    """A language model with its replies remembered under a folder, apart for each model and sampling."""
    name, complete = teacher
    identity = f"{name} at {section.temperature:g}, {section.max_tokens} tokens"
    return Asker(complete, identity, FolderCache(folder / content_hash(identity)))


class Asker:
    """Puts stages before a model. Safe to share between threads: of equal questions one is asked, the others wait for its reply."""

    def __init__(self, complete: Complete, model: str, cache: MutableMapping[str, str] | None = None) -> None:
        """model: its name and sampling, part of the cache's keys."""
        self._complete, self._model = complete, model
        self._cache: MutableMapping[str, str] = {} if cache is None else cache
        self.calls, self.repairs = 0, 0
        """Replies that the model was asked for, those from the cache not counted; and repairs among all."""
        self._stopped, self._count, self._asking = Event(), Lock(), dict[str, Lock]()

    def stop(self) -> None:
        """For good: whoever asks from now on gets Stopped, so that threads beside one that failed come to their ends."""
        self._stopped.set()

    def ask(self, stage: str, task: str, payload: Any, read: Callable[[Any], T]) -> T:
        """What `read` makes of the reply's JSON. It raises Invalid where the reply is no good: the model is then told so, at most REPAIRS
        times. Raises StageDropped after that."""
        first = f"{task}\n\nInput:\n{json.dumps(payload, ensure_ascii=False, sort_keys=True)}\n\nReply with JSON alone."
        prompt = first
        for attempt in range(REPAIRS + 1):
            reply = self._reply(stage, prompt, attempt)
            try:
                return read(_json(reply))
            except Invalid as problem:
                why = str(problem)
            if attempt < REPAIRS:
                with self._count:
                    self.repairs += 1
                prompt = f"{first}\n\nThis reply was refused:\n{reply}\n\nBecause: {why}\nReply with corrected JSON alone."
        raise StageDropped(stage, why)

    def _reply(self, stage: str, prompt: str, attempt: int) -> str:
        """A model that makes the same mistake twice is asked thrice: the attempt is part of the key."""
        key = content_hash(stage, prompt, self._model, attempt, length=40)
        with self._asking.setdefault(key, Lock()):
            if key not in self._cache:
                if self._stopped.is_set():
                    raise Stopped(stage)
                with self._count:
                    self.calls += 1
                self._cache[key] = self._complete(prompt)
            return self._cache[key]


def _json(reply: str) -> Any:
    fenced = _FENCE.search(reply)
    try:
        found = json.loads(fenced[1] if fenced else reply)
        json.dumps(found, ensure_ascii=False).encode()  # "\ud800" is JSON, and no text that can be stored
    except UnicodeEncodeError:
        raise Invalid("the reply holds half a character, an escape from \\ud800 to \\udfff alone") from None
    except (ValueError, RecursionError) as error:
        raise Invalid(f"the reply is no JSON ({error})") from None
    return found


def need(value: Any, key: str, kind: type[T], where: str = "the reply") -> T:
    """A field of an object in a reply. Raises Invalid."""
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, kind) or (isinstance(found, str) and not found.strip()):
        raise Invalid(f"{where} has no {key!r} of type {kind.__name__}")
    return found
