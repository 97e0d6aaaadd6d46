"""What an environment is to the rest of the library: a source of candidate tasks and of worked answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol, runtime_checkable

from assay.environments.task import Message, Task

__all__ = ["Candidate", "Environment", "Message"]


@dataclass(frozen=True)
class Candidate:
    """A task that may still be dropped as duplicate or contaminated."""

    task: Task
    origin: str
    """Where it came from, for error messages: file and row, or generator and index."""
    drop: str | None = None
    """Why the environment itself drops it, e.g. conflicting_gold; counted under this reason."""


class Environment(Protocol):
    """A task family under the name that params.yaml gives it.

    What is asked here is what every family can answer. One that holds worker processes has a method `close` too.
    """

    name: str
    forms: int
    """Number of different answers that `demonstration` can give for one task."""
    notes: list[str]
    """What a person should know about how the tasks were read, e.g. rows left out. Filled while candidates are read."""

    def has(self, split: str) -> bool:
        """Whether the environment can offer tasks of a split (train, eval or ood)."""
        ...

    def check(self) -> None:
        """Refuse, with TaskError, a configuration that cannot give sound tasks. Called once, before any candidate
        is read."""
        ...

    def candidates(self, split: str) -> Iterator[Candidate]:
        """Tasks of a split in a fixed order, with repetition, endless where the family is; `demonstration` is a
        split here: further tasks of the training distribution. Equal parameters and seed give equal candidates in
        every process."""
        ...

    def demonstration(self, task: Task, random: Random) -> str | Sequence[Message]:
        """A worked answer to the task, in one of its forms: what policy 0 learns. Right, unless the family's policy is meant to start
        with mistakes. Of several turns: messages that begin and end with one of the policy (assistant), with what others say (tool) in
        between."""
        ...


@runtime_checkable
class HasTexts(Protocol):
    """A family that a policy can also read about: plain texts for pre-training."""

    def pretraining_text(self, task: Task) -> str:
        """What a plain text says about the task, its answer in other words."""
        ...
