"""Tool environments as a task family: built by templates or a language model, with episodes that show how it is done.

Demonstrations are of tasks beyond those of the splits, which are not put through the gate: its fuzzed calls are most of the work, and
what a demonstration shows was said by the tools themselves.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from assay.environments.asking import Drops, Teacher, need_teacher, open_asker
from assay.environments.base import Candidate, Message
from assay.environments.task import Task, TaskError
from assay.environments.tools.backends import Backend, ModelBackend, TemplateBackend
from assay.environments.tools.build import build
from assay.environments.tools.config import ToolConfig, config_of
from assay.environments.tools.construct import construct
from assay.environments.tools.demonstrations import golden_turns, noisy_turns
from assay.environments.tools.execution import Request, ToolExecutor
from assay.environments.tools.parser import parse_turn
from assay.environments.tools.record import ToolEnvironment, ToolError
from assay.environments.tools.tasks import from_task, to_task
from assay.params.tools import EndpointTools, TemplateTools, Tools
from assay.trajectories import seed_from

PATIENCE = 24
"""Places in a row that stay empty before there is taken to be no more to come."""
TOGETHER = 128
"""Environments that go through the gate as one batch."""
DRAWS = 6_000
"""Environments for demonstrations, at most. What is asked for beyond them are the same once more, with other mistakes."""
FORMS = 8
CACHE = Path(".assay/cache/tools")
"""Replies of a language model, from the project's root: asked again for the same, it is not asked."""


class ToolsEnvironment:
    """Questions like `What is the mineral of the home town of "Orsel Dunmarr"?`, each with tools of its own.

    Difficulty: the number of sub-questions. `ood`: relations and tool names that no other split has, and more distractors.
    """

    def __init__(
        self, name: str, params: Tools, seed: int, root: Path, workers: int, teacher: Teacher | None = None, concurrency: int = 1
    ) -> None:
        """teacher: the language model that builds the environments, where one does. concurrency: environments that it builds at once."""
        self.name, self.params, self.seed = name, params, seed
        self.notes: list[str] = []
        self.forms = FORMS if params.noise else 1
        self._config, self._root, self._teacher, self._concurrency = config_of(params), root, teacher, concurrency
        self._executor = ToolExecutor(workers, apart=not isinstance(params.backend, TemplateTools))
        self._drops = Drops()

    def has(self, split: str) -> bool:
        return split != "ood" or self.params.ood

    def check(self) -> None:
        """Raises TaskError for a language model that nobody has given the address of, and for shapes that cannot be built."""
        if isinstance(self.params.backend, EndpointTools):
            need_teacher(self.name, self._teacher)
        for scenario in self._config.scenarios:
            shape = self._config.shapes[scenario]
            if scenario == "multi_hop" and shape.sub_answers.low < 2:
                raise TaskError(f"environments.{self.name}.scaling.hops begins at {shape.sub_answers.low}, expected at least 2")

    def close(self) -> None:
        """End the workers that run tools."""
        self._executor.close()

    def candidates(self, split: str) -> Iterator[Candidate]:
        config = self._config.ood(self.params.ood_distractors) if split == "ood" else self._config
        backend, seed = self._backend(config), seed_from(self.seed, "tools", self.name, split)
        kept_as = split if split in ("eval", "ood") else "train"
        made = self._demonstrable(config, backend, seed) if split == "demonstration" else self._gated(config, backend, seed)
        for place, environment in made:
            yield Candidate(to_task(environment, self.name, kept_as, self.params.shown), f"environment {place} of split {split}")

    def demonstration(self, task: Task, random: Random) -> list[Message]:
        """The turns of an episode that solves the task: the policy's, and between them what the tools say."""
        environment, noise = from_task(task), self.params.noise
        texts = noisy_turns(environment, random, noise) if noise else golden_turns(environment)
        parsed = [parse_turn(text) for text in texts]
        said = iter(self._executor.execute([Request(environment.codes, one.name, one.arguments) for turn in parsed for one in turn.calls]))
        messages: list[Message] = []
        for text, turn in zip(texts, parsed, strict=True):
            messages.append({"role": "assistant", "content": text})
            messages += [{"role": "tool", "content": next(said).text} for _ in turn.calls]
        return messages

    def _backend(self, config: ToolConfig) -> Backend:
        section = self.params.backend
        if not isinstance(section, EndpointTools):
            return TemplateBackend(config)
        assert self._teacher is not None
        return ModelBackend(config, open_asker(self._teacher, section, self._root / CACHE), self._executor)

    def _gated(self, config: ToolConfig, backend: Backend, seed: int) -> Iterator[tuple[int, ToolEnvironment]]:
        """Places whose draws were all refused are left out; where PATIENCE in a row are, there is no more to come. A language model's
        batches grow up to what it is asked at once: what is built beyond need costs questions (whose replies are remembered)."""
        together, threads, first, empty = TOGETHER, 1, 0, 0
        if not isinstance(backend, TemplateBackend):
            together, threads = len(config.scenarios), self._concurrency
        while True:
            built = build(config, backend, self._executor, range(first, first + together), seed, threads=threads)
            self._note(built.refused, built.examples)
            missing, made = set(built.empty), iter(built.environments)
            for place in range(first, first + together):
                empty = empty + 1 if place in missing else 0
                if empty == PATIENCE:
                    raise TaskError(
                        f"environments.{self.name}: {PATIENCE} environments in a row could not be built, last: "
                        f"{list(built.examples.values())[-1]}"
                    )
                if place not in missing:
                    yield place, next(made)
            first += together
            together = max(together, min(2 * together, threads))

    def _demonstrable(self, config: ToolConfig, backend: Backend, seed: int) -> Iterator[tuple[int, ToolEnvironment]]:
        """Without the gate, but for environments of a language model, of which each costs many questions."""
        if not isinstance(backend, TemplateBackend):
            return
        for place in range(DRAWS):
            try:
                yield place, construct(backend, config, config.scenarios[place % len(config.scenarios)], seed_from(seed, "tools", place))
            except ToolError:
                continue  # another place makes up for it

    def _note(self, refused: Counter[str], examples: dict[str, str]) -> None:
        """What a language model could not do; that a template's draw was unsound now and then is of no interest."""
        if isinstance(self.params.backend, EndpointTools):
            self._drops.add(refused, examples)
            self.notes[:] = self._drops.notes(self.name)
