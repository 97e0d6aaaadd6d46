"""Generated protocols as a task family."""

from collections.abc import Iterator
from itertools import count
from random import Random

from assay.environments.base import Candidate
from assay.environments.protocols.grammar import Setup, line_of, setups
from assay.environments.protocols.mutations import corrupt
from assay.environments.protocols.questions import LEVELS, Question, ask, fits
from assay.environments.protocols.writing import Line, flattened, sketch_and_fill
from assay.environments.task import Task, TaskError
from assay.params.protocols import Protocols, ProtocolType
from assay.rewards.protocol import parse, validate
from assay.trajectories import seed_from

VERIFIER, ORACLE = "protocol_score", "protocol_executor"
DRAWS = 60_000
"""Candidates for demonstrations; beyond them the training tasks are shown again."""


class ProtocolsEnvironment:
    """Questions like `planning: dry cells to washed cells. have buffer 5 ml. actions: mix, add, heat, spin, discard`, answered in the
    Sketch-and-Fill format.

    The rule is SCORE against the gold; the oracle carries the answer out on the bench that the task's meta describes. Difficulty: the
    number of the gold's steps. `ood`: longer protocols than any other split has. The meta has, beside `bench` and `oracle`, the task's
    `type` and `level`, the `actions` that it offers, and `before`: which of the gold's steps must stay in order.
    """

    forms = 1

    def __init__(self, name: str, options: Protocols, seed: int) -> None:
        self.name, self.options, self.seed = name, options, seed
        self.notes: list[str] = []
        self._by_steps: dict[tuple[int, int], dict[ProtocolType, dict[str, list[Setup]]]] = {}

    def has(self, split: str) -> bool:
        return split != "ood" or self.options.ood_steps is not None

    def check(self) -> None:
        """Raises TaskError for lengths that no question, or none of a type, can have."""
        options, where = self.options, f"environments.{self.name}"
        for span in filter(None, (options.steps, options.ood_steps)):
            usable = self._setups(span)
            if not any(usable.values()):
                raise TaskError(f"{where}: no question of types {', '.join(options.types)} has {span[0]} to {span[1]} steps")
            missing = [kind for kind in dict.fromkeys(options.types) if not usable[kind]]
            if missing and span == options.steps:
                raise TaskError(f"{where}: no {missing[0]} question has {span[0]} to {span[1]} steps: widen steps or leave it out of types")

    def candidates(self, split: str) -> Iterator[Candidate]:
        random = Random(seed_from(self.seed, "tasks", self.name, split))
        span = self.options.ood_steps if split == "ood" and self.options.ood_steps else self.options.steps
        usable = self._setups(span)
        types = [kind for kind in self.options.types if usable[kind]]
        for index in range(DRAWS) if split == "demonstration" else count():
            kind = random.choice(types)
            setup = random.choice(random.choice(list(usable[kind].values())))
            question = ask(setup, kind, self.options.distractors, random)
            kept_as = split if split in ("eval", "ood") else "train"
            yield Candidate(self._task(kept_as, kind, question), f"task {index} of split {split}")

    def demonstration(self, task: Task, random: Random) -> str:
        """The gold; with `noise`, now and then with one fault, in key and orc alike."""
        return task.gold if random.random() >= self.options.noise else corrupted(task.gold, random)

    def pretraining_text(self, task: Task) -> str:
        """The gold as a paragraph, for pre-training."""
        title = task.prompt[-1]["content"].split(": ", 1)[1].split(". ", 1)[0]
        return flattened(title, lines_of(task.gold))

    def _task(self, split: str, kind: ProtocolType, question: Question) -> Task:
        """Raises TaskError for a gold that breaks the rules of its own format: then the generator is at fault."""
        problems = validate(question.gold)
        if problems:
            raise TaskError(f"environments.{self.name}: the gold of {question.prompt!r} is not valid: {problems[0]}")
        meta = {
            "oracle": ORACLE, "type": kind, "level": LEVELS.get(kind, "problem solving"), "actions": list(question.actions),
            "before": [list(pair) for pair in question.before], "bench": question.bench,
        }  # fmt: skip
        return Task.create(self.name, split, question.prompt, question.gold, VERIFIER, meta, float(len(question.lines)))

    def _setups(self, span: tuple[int, int]) -> dict[ProtocolType, dict[str, list[Setup]]]:
        """Setups by type and line, so that lines with many of them are not asked about more often."""
        if span not in self._by_steps:
            found: dict[ProtocolType, dict[str, list[Setup]]] = {kind: {} for kind in self.options.types}
            for setup in setups():
                if setup.line in self.options.lines:
                    for kind, by_line in found.items():
                        if fits(setup, kind, line_of(setup.line).goals, span):
                            by_line.setdefault(setup.line, []).append(setup)
            self._by_steps[span] = found
        return self._by_steps[span]


def lines_of(gold: str) -> list[Line]:
    """The steps of a Sketch-and-Fill text."""
    return [Line(step.action, step.objects, step.parameters) for step in parse(gold).key]


def corrupted(gold: str, random: Random) -> str:
    """A gold with one fault, in key and orc alike; think and note are left as they are."""
    parsed = parse(gold)
    think, note = (gold[parsed.blocks[name].start : parsed.blocks[name].end] for name in ("think", "note"))
    return sketch_and_fill(think, corrupt(lines_of(gold), random), note)
