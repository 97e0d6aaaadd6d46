"""Protocols that a language model makes questions of, as a task family."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from assay.environments.asking import Asker, Drops, MakeTeacher, StageDropped, need_teacher, open_asker
from assay.environments.base import Candidate
from assay.environments.protocols.construct import build, write
from assay.environments.protocols.environment import ORACLE
from assay.environments.protocols.records import held_out, task_of
from assay.environments.protocols.sources import Source, read_sources
from assay.environments.protocols.writing import in_prose
from assay.environments.task import Task, TaskError
from assay.params.protocols import EndpointProtocols, Protocols, ProtocolType, ScoreOptions
from assay.trajectories import content_hash, seed_from

CACHE = Path(".assay/cache/protocols")
"""Replies of a language model, from the project's root: asked again for the same, it is not asked."""
PATIENCE = 24
"""Questions in a row that come to nothing before the model is taken to be unable."""
REVIEW_TEMPERATURE = 0.0
_SHOWN = 3


class WrittenProtocolsEnvironment:
    """Questions and answers in the Sketch-and-Fill format, made of raw texts, each asked about in every type in turn.

    A text is either held out or not, with all its questions. The rule is SCORE; an oracle there is where a text comes with a bench.
    Difficulty: the number of the gold's steps.
    """

    forms = 1

    def __init__(
        self, name: str, options: Protocols, seed: int, root: Path, eval_share: float, reward: ScoreOptions,
        make_teacher: MakeTeacher | None,
    ) -> None:  # fmt: skip
        """make_teacher: None where nobody has given the addresses of language models."""
        assert isinstance(options.backend, EndpointProtocols)
        self.name, self.options, self.seed, self.eval_share = name, options, seed, eval_share
        self.notes: list[str] = []
        self._reward = reward
        self._backend, self._root, self._drops = options.backend, root, Drops()
        self._said: list[str] = []
        self._texts: dict[str, list[Source]] | None = None
        self._askers: tuple[Asker, Asker] | None = None
        if make_teacher is not None:
            second = self._backend.model_copy(
                update={"model": self._backend.reviewer or self._backend.model, "temperature": REVIEW_TEMPERATURE}
            )
            writer, reviewer = (open_asker(make_teacher(one), one, root / CACHE) for one in (self._backend, second))
            self._askers = writer, reviewer

    def has(self, split: str) -> bool:
        return split != "ood"

    def check(self) -> None:
        """Raises TaskError for a language model that nobody has given the address of, and for texts that cannot be read."""
        need_teacher(self.name, self._askers)
        if not self._backend.topics:
            self._read()

    def candidates(self, split: str) -> Iterator[Candidate]:
        """None for demonstrations, which are then of the training tasks: each further one would cost many questions. Raises TaskError where
        PATIENCE questions in a row come to nothing, or all of them."""
        if split == "demonstration":
            return
        assert self._askers is not None
        made = failed = 0
        why = ""
        for about, kind, number in self._plan(split):
            try:
                source = about if isinstance(about, Source) else write(self._askers[0], *about)
                built = build(*self._askers, self.options, self._reward, source, kind, number, self.seed)
            except StageDropped as error:
                failed, why = failed + 1, str(error)
                self._drops.add({error.stage: 1}, {error.stage: error.problem})
                self.notes[:] = [*self._said, *self._drops.notes(self.name)]
                if failed == PATIENCE:
                    break
                continue
            made, failed = made + 1, 0
            more: dict[str, Any] = {"title": built.title, "text": source.identity}
            if source.bench is not None:
                more |= {"oracle": ORACLE, "bench": {**source.bench, "allowed": list(built.record.actions)}}
            yield Candidate(task_of(built.record, self.name, split, self.seed, more), f"text {source.identity}, {kind} question {number}")
        if failed == PATIENCE or not made:
            raise TaskError(
                f"environments.{self.name}: the last {failed} questions for split {split} came to nothing, last at stage {why[:200]!r}: "
                "look whether the model behind execution.teacher can do this, or name another one in backend.model"
            )

    def demonstration(self, task: Task, random: Random) -> str:
        return task.gold

    def pretraining_text(self, task: Task) -> str:
        """The gold as a paragraph."""
        return in_prose(task.meta["title"], task.gold)

    def _plan(self, split: str) -> Iterator[tuple[Source | tuple[str, int], ProtocolType, int]]:
        """(a text, or a topic and its variation; type; which question of this type). Every text is asked about once before any is asked
        about again. Texts end after all types, topics never do."""
        types, held = self.options.types, split == "eval"
        if not self._backend.topics:
            for turn in range(len(types)):
                for index, source in enumerate(self._read()[split]):
                    place = (index + turn) % len(types)
                    yield source, types[place], types[:place].count(types[place])
            return
        for turn in count():
            for index, topic in enumerate(self._backend.topics):
                if (held_out(self.seed, content_hash(topic, turn)) <= self.eval_share) == held:
                    yield (topic, turn), types[(index + turn) % len(types)], 0

    def _read(self) -> dict[str, list[Source]]:
        """Texts by split: with two or more, none is empty."""
        if self._texts is None:
            path = self._root / (self._backend.path or "")
            try:
                found, rejected = read_sources(path, self._backend.max_characters)
            except TaskError as error:
                raise TaskError(f"environments.{self.name}.backend.path: {error}") from error
            said = "; ".join(f"{one.where}: {one.problem}" for one in rejected[:_SHOWN])
            if len(found) < 2:
                raise TaskError(
                    f"environments.{self.name}.backend.path: {path.name} has {len(found)} texts that can be used, expected at least 2, of "
                    f"which one is held out{': ' + said if said else ''}"
                )
            if rejected:
                self._said = [f"{path.name}: {len(rejected)} of {len(found) + len(rejected)} texts are not used: {said}"]
                self.notes[:] = self._said
            drawn = {source.identity: held_out(self.seed, source.identity) for source in found}
            share, last = max(self.eval_share, min(drawn.values())), max(drawn.values())
            self._texts = {"train": [], "eval": []}
            for source in sorted(found, key=lambda one: seed_from(self.seed, "order", one.identity)):
                here = drawn[source.identity]
                self._texts["eval" if here <= share and here < last else "train"].append(source)
        return self._texts
