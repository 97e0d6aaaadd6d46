"""Tasks of reasoning-gym: any of its generators that proves usable, by name.

Which are usable is found out by test, not by a list that the next version would outdate: see `reasoning_gym_probe`.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from random import Random
from typing import Any

from assay.environments.base import Candidate
from assay.environments.reasoning_gym_answers import disarm
from assay.environments.task import Task, TaskError
from assay.params.data import ReasoningGym
from assay.trajectories import seed_from

CHUNK = 1024
"""Entries that are asked of a generator under one seed, before the next seed."""


class ReasoningGymEnvironment:
    """One generator with its configuration. Golds are the generator's answers, correctness is its own scorer at 1.0."""

    forms = 1

    def __init__(self, name: str, params: ReasoningGym, seed: int) -> None:
        self.name, self.params, self.seed = name, params, seed
        self.notes: list[str] = []

    def has(self, split: str) -> bool:
        return split != "ood" or self.params.ood_config is not None

    def config(self, split: str) -> dict[str, Any]:
        """The generator's configuration for a split."""
        return self.params.config | (self.params.ood_config or {} if split == "ood" else {})

    def check(self) -> None:
        """Refuse an unusable generator, by test. Raises TaskError naming generator and reason."""
        from assay.environments.reasoning_gym_probe import refuse_unusable

        wanted = [("train", self.config("train"))] + ([("ood", self.config("ood"))] if self.has("ood") else [])
        refuse_unusable([(f"environments.{self.name}", self.params.generator, config) for _, config in wanted])

    def candidates(self, split: str) -> Iterator[Candidate]:
        config, chunk = self.config(split), 0
        while True:
            seed = seed_from(self.seed, "tasks", self.name, split, chunk)
            dataset = make_dataset(self.params.generator, config, seed, CHUNK)
            for index in range(CHUNK):
                kept_as = split if split in ("eval", "ood") else "train"
                origin = f"{self.params.generator} (seed {seed}, entry {index})"
                entry = self._entry(dataset, index, origin)
                try:
                    metadata = encode(entry.get("metadata", {}))
                    meta = {"generator": self.params.generator, "config": config, "entry_metadata": metadata}
                    task = Task.create(self.name, kept_as, entry["question"], entry["answer"], "reasoning_gym", meta)
                except (TaskError, TypeError, ValueError) as error:
                    raise TaskError(f"environments.{self.name}: {origin}: {error}") from error
                yield Candidate(task, origin)
            chunk += 1

    def _entry(self, dataset: Any, index: int, origin: str) -> dict[str, Any]:
        try:
            return dataset[index]
        except Exception as error:  # a hundred generators raise a hundred kinds, in cases that the probe did not meet
            raise TaskError(
                f"environments.{self.name}: {origin}: the generator fails ({type(error).__name__}: {error}); change its "
                "configuration, or use another generator"
            ) from error

    def demonstration(self, task: Task, random: Random) -> str:
        return task.gold


def make_dataset(generator: str, config: Mapping[str, Any], seed: int, size: int) -> Any:
    """A reasoning-gym data set. Raises TaskError for an unknown generator or a configuration that it does not
    accept."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of cellpylib, when it is compiled at first import
        import reasoning_gym
        from reasoning_gym.factory import DATASETS

    if generator not in DATASETS:
        from difflib import get_close_matches

        close = get_close_matches(generator, DATASETS, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(sorted(DATASETS))}"
        raise TaskError(f"reasoning-gym has no generator {generator!r}; {hint}")
    if reserved := sorted({"seed", "size"} & set(config)):
        raise TaskError(
            f"reasoning-gym generator {generator}: {' and '.join(reserved)} cannot be configured, they follow "
            "from `seed` and `tasks`; remove them"
        )
    try:
        return reasoning_gym.create_dataset(generator, seed=seed, size=size, **config)
    except Exception as error:  # whatever a generator raises on its configuration is the person's to read
        raise TaskError(
            f"reasoning-gym generator {generator} does not accept the configuration {dict(config)}: "
            f"{type(error).__name__}: {error}"
        ) from error


@lru_cache(maxsize=64)
def _scorer(generator: str, config: str) -> Any:
    dataset = make_dataset(generator, json.loads(config), seed=0, size=1)
    disarm(generator, type(dataset))
    return dataset


def score(answer: str, gold: str, meta: Mapping[str, Any]) -> float:
    """The generator's own score of an answer in [0, 1], from the stored task alone; only 1.0 means correct.

    Raises whatever the scorer raises: the caller abstains, since a failing scorer says nothing about the answer.
    """
    dataset = _scorer(meta["generator"], json.dumps(meta["config"], sort_keys=True))
    return float(dataset.score_answer(answer, {"answer": gold, "metadata": decode(meta["entry_metadata"])}))


def encode(value: Any) -> Any:
    """An entry's metadata as JSON that `decode` gives back unchanged: scorers tell tuples from lists and 1 from "1".

    Tuples, fractions and mappings whose keys are not all text become {"@tuple": [...]}, {"@fraction": "3/4"},
    {"@mapping": [[key, value], ...]}. Raises TypeError for anything else that JSON does not know.
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        items = [encode(item) for item in value]
        return items if isinstance(value, list) else {"@tuple": items}
    if isinstance(value, Fraction):
        return {"@fraction": str(value)}
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("@") for key in value):
            return {key: encode(item) for key, item in value.items()}
        return {"@mapping": [[encode(key), encode(item)] for key, item in value.items()]}
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON")


def decode(value: Any) -> Any:
    """Inverse of `encode`."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"@tuple"}:
        return tuple(decode(value["@tuple"]))
    if set(value) == {"@fraction"}:
        return Fraction(value["@fraction"])
    if set(value) == {"@mapping"}:
        return {decode(key): decode(item) for key, item in value["@mapping"]}
    return {key: decode(item) for key, item in value.items()}
