"""A file of published records as a task family: environments that others have built, with neither graph nor intended calls."""

import symtable
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from assay.environments.base import Candidate, Message
from assay.environments.task import Task, TaskError
from assay.environments.tools.interchange import read_placed
from assay.environments.tools.record import ToolEnvironment, ToolError
from assay.environments.tools.tasks import to_task
from assay.params.tools import Tools
from assay.trajectories import seed_from

NAMED = 3
"""Sources that cannot run which are named; of the others the number is said."""


def unsound_sources(placed: Sequence[tuple[str, ToolEnvironment]]) -> list[str]:
    """Sources of which every call will fail, with place and reason; nothing is run. They are the tools that the record's author has
    given, and failing is what they do, so that the record is kept."""
    known: dict[tuple[str, str], str | None] = {}
    problems = []
    for where, environment in placed:
        for name, source in environment.codes.items():
            if (name, source) not in known:
                known[name, source] = _why_unsound(name, source)
            if (why := known[name, source]) is not None:
                problems.append(f"{where}, codes: the source of {name} {why}")
    return problems


def _why_unsound(name: str, source: str) -> str | None:
    try:
        compile(source, "<tool>", "exec", dont_inherit=True)
        names = symtable.symtable(source, "<tool>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # what Python's parser raises for texts that it cannot hold
        return f"does not compile ({type(error).__name__}: {error})"
    bound = name in names.get_identifiers() and (names.lookup(name).is_assigned() or names.lookup(name).is_imported())
    return None if bound else "defines no function of its name"


class PublishedToolsEnvironment:
    """Each record is offered once. Those of split test are held out; where there are none, a share of the others is, by a hash."""

    forms = 1

    def __init__(self, name: str, params: Tools, seed: int, root: Path, eval_share: float) -> None:
        self.name, self.params, self.seed, self.eval_share = name, params, seed, eval_share
        self.notes: list[str] = []
        self._file = root / (params.path or "")
        self._by_split: dict[str, list[Candidate]] | None = None

    def has(self, split: str) -> bool:
        return split in ("train", "eval")

    def check(self) -> None:
        """Read the file. Raises TaskError naming file, line or row, and column."""
        self._read()

    def candidates(self, split: str) -> Iterator[Candidate]:
        yield from self._read().get(split, [])

    def demonstration(self, task: Task, random: Random) -> list[Message]:
        raise TaskError(
            f"environments.{self.name}: published records do not say which calls are meant, so there is no episode to show: name a trained "
            "model in policy.base, or set tasks.demonstrations to 0"
        )

    def _read(self) -> dict[str, list[Candidate]]:
        if self._by_split is None:
            try:
                placed = read_placed(self._file)
            except ToolError as error:
                raise TaskError(f"environments.{self.name}: {error}") from error
            environments = [environment for _, environment in placed]
            if not environments:
                raise TaskError(f"environments.{self.name}: {self._file} has no records")
            usable = [(number, one) for number, one in enumerate(environments, 1) if self._why_not(one) is None]
            for why, count in Counter(why for one in environments if (why := self._why_not(one))).items():
                self.notes.append(f"{self.name}: {count:,} of {len(environments):,} records are left out: {why}")
            if not usable:
                raise TaskError(f"environments.{self.name}: {self._file} has no record that can be used: {self.notes[-1]}")
            problems = unsound_sources(placed)
            self.notes += [f"environments.{self.name}: {problem}: every call of it fails" for problem in problems[:NAMED]]
            if more := problems[NAMED:]:
                self.notes.append(f"environments.{self.name}: {len(more):,} more sources cannot run; `assay tools check` names all")
            tested = any(environment.split == "test" for _, environment in usable)
            candidates = [self._candidate(one, number, tested) for number, one in usable]
            found: dict[str, list[Candidate]] = {}
            for candidate in sorted(candidates, key=lambda one: seed_from(self.seed, "order", one.task.task_id)):
                found.setdefault(candidate.task.split, []).append(candidate)
            self._by_split = found
        return self._by_split

    @staticmethod
    def _why_not(environment: ToolEnvironment) -> str | None:
        if environment.answer is None:
            return "no answer, so that no text of the policy could be right"
        if len(environment.messages) > 1 or environment.solve_rate:
            return "a state in the middle of an episode, where environments are asked for"
        return None

    def _candidate(self, environment: ToolEnvironment, number: int, tested: bool) -> Candidate:
        where = f"{self._file.name}, record {number}"
        task = to_task(environment, self.name, "eval" if environment.split == "test" else "train", self.params.shown)
        held_out = not tested and seed_from(self.seed, "eval", task.contamination_key) / 2**31 <= self.eval_share
        return Candidate(replace(task, split="eval") if held_out else task, where)
