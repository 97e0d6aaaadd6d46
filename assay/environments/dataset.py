"""A user's questions and golds as an environment: column mapping, checks by row, division into splits."""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from assay.environments.bad_rows import REASONS, note_of
from assay.environments.base import Candidate
from assay.environments.dataset_files import Rows, mapping, read_rows
from assay.environments.task import SPLITS, Task, TaskError
from assay.params.data import UserDataset
from assay.trajectories import seed_from

SPLIT_OF = {
    "train": "train",
    "eval": "eval",
    "validation": "eval",
    "valid": "eval",
    "dev": "eval",
    "test": "eval",
    "ood": "ood",
}
"""What a split column may say, in any case, and the split that it means."""
_SHOWN = 5  # rows named in an error
_NOTHING = "?"
"""Stands for the prompt or gold of a row that is dropped."""


class DatasetEnvironment:
    """Questions and golds of a user's file or Hugging Face data set.

    Every row is offered once, in an order by content hash, so that fewer tasks than rows are a sample and not the
    beginning of the file. Rows whose prompt occurs with different golds are dropped, all of them: which gold is
    right cannot be known.
    """

    forms = 1

    def __init__(self, name: str, params: UserDataset, seed: int, root: Path, eval_share: float) -> None:
        """`eval_share`: expected share of the rows that is held out where the data set does not say which."""
        self.name, self.params, self.seed, self.root, self.eval_share = name, params, seed, root, eval_share
        self.notes: list[str] = []
        self.commit: str | None = None
        """Of a hub data set, once it is read."""
        self._pools: dict[str, list[Candidate]] | None = None

    def has(self, split: str) -> bool:
        return split != "ood" or ("split" in self.params.columns and bool(self._read()["ood"]))

    def check(self) -> None:
        """Read the data set. Raises TaskError naming file, column and row."""
        self._read()

    def candidates(self, split: str) -> Iterator[Candidate]:
        return iter(self._read()["train" if split == "demonstration" else split])

    def demonstration(self, task: Task, random: Random) -> str:
        return task.gold

    def _read(self) -> dict[str, list[Candidate]]:
        if self._pools is None:
            params = self.params
            if params.eval_split is not None and "split" in params.columns:
                raise TaskError(
                    f"environments.{self.name}: both eval_split and columns.split say which rows are held "
                    "out; give one of them"
                )
            if params.eval_split is not None and params.eval_split == params.split:
                raise TaskError(
                    f"environments.{self.name}: split and eval_split are both {params.split!r}; tasks cannot "
                    "be in two splits"
                )
            candidates = self._candidates_of(params.split, "train")
            if params.eval_split is not None:
                candidates += self._candidates_of(params.eval_split, "eval")
            elif "split" not in params.columns:
                candidates = self._divide(candidates)
            pools: dict[str, list[Candidate]] = {split: [] for split in SPLITS}
            for candidate in sorted(
                _mark_conflicts(candidates), key=lambda c: seed_from(self.seed, "order", c.task.task_id)
            ):
                pools[candidate.task.split].append(candidate)
            self._pools = pools
        return self._pools

    def _candidates_of(self, source: str, split: str) -> list[Candidate]:
        params = self.params
        read = read_rows(params, self.root, source)
        self.commit = read.commit
        columns = mapping(params)
        for field, column in columns.items():
            if column not in read.columns or column in read.left_out:
                raise TaskError(
                    f"{read.label}: no column {column!r} of text for the {field}; its columns are "
                    f"{', '.join(read.columns)}: "
                    f"set environments.{self.name}.columns.{field}"
                )
        if not read.rows:
            raise TaskError(f"{read.label}: no rows")
        golds, bad = _golds(read, columns["gold"])
        if params.bad_rows == "error":
            _refuse(bad, read, columns["gold"])
        others = [column for column in read.columns if column not in columns.values()] if params.keep is None else params.keep
        extra = [column for column in others if column not in read.left_out]
        dropped = dict.fromkeys(read.left_out, len(read.rows))
        candidates: list[Candidate] = []
        left_out: dict[str, list[str]] = {reason: [] for reason in REASONS}
        for number, (row, gold) in enumerate(zip(read.rows, golds, strict=True), 1):
            passed_on, unstorable = _json_able({column: row[column] for column in extra})
            for column in unstorable:
                dropped[column] = dropped.get(column, 0) + 1
            where = f"{read.label}, row {number}"
            row_split = _split_of(row[columns["split"]], columns["split"], where) if "split" in columns else split
            difficulty = (
                _difficulty(row[columns["difficulty"]], columns["difficulty"], where)
                if "difficulty" in columns
                else None
            )
            meta = {"columns": passed_on} if passed_on else {}
            drop = bad.get(number)
            try:
                task = Task.create(
                    self.name, row_split, row[columns["prompt"]], gold, params.verifier, meta, difficulty
                )
            except TaskError as error:
                if params.bad_rows == "error":
                    raise TaskError(f"{where}, column {columns['prompt']!r}: {error}") from error
                drop = "prompt_unreadable"
                task = Task.create(self.name, row_split, _NOTHING, gold, params.verifier)
            if drop is not None:
                left_out[drop].append(f"row {number}")
            candidates.append(Candidate(task, where, drop))
        if (note := note_of(read.label, f"environments.{self.name}", left_out, len(candidates))) is not None:
            self.notes.append(note)
        self.notes += [
            f"{read.label}: column {column!r} is not passed on in {count} rows: JSON cannot hold it"
            for column, count in dropped.items()
        ]
        return candidates

    def _divide(self, candidates: list[Candidate]) -> list[Candidate]:
        """Hold out a small share by a seeded hash of the prompt: a row's split does not depend on the other rows.

        Of very few rows, where the hash may choose none, the one with the smallest is held out.
        """
        draw = {c.task.task_id: seed_from(self.seed, "eval", c.task.contamination_key) / 2**31 for c in candidates}
        share = max(self.eval_share, min(draw[c.task.task_id] for c in candidates if c.drop is None))
        held_out = {identity for identity, value in draw.items() if value <= share}
        return [replace(c, task=replace(c.task, split="eval")) if c.task.task_id in held_out else c for c in candidates]


def _mark_conflicts(candidates: list[Candidate]) -> list[Candidate]:
    golds: dict[str, set[str]] = defaultdict(set)
    for candidate in candidates:
        if candidate.drop is None:
            golds[candidate.task.prompt_key].add(candidate.task.gold)
    return [
        replace(c, drop="conflicting_gold") if c.drop is None and len(golds[c.task.prompt_key]) > 1 else c for c in candidates
    ]


def _shortest(value: float, narrow: bool) -> str:
    """The shortest decimal that stands for the number; of a float32 column's 0.1 that is 0.1, not 0.10000000149011612."""
    return str(np.float32(value)) if narrow else str(value)


def _golds(read: Rows, column: str) -> tuple[list[str], dict[int, str]]:
    """Golds as stripped text, and what is wrong with some, by the number of the row: those are placeholders."""
    golds, bad = [], {}
    narrow = column in read.narrow
    for number, row in enumerate(read.rows, 1):
        value = row[column]
        if isinstance(value, str):
            value = value.strip()
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            # A column of integers with a gap somewhere comes as 5.0, 6.0: such numbers are written as integers.
            value = str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else _shortest(value, narrow)
        elif value is None or (isinstance(value, float) and math.isnan(value)):
            value = ""
        else:
            bad[number] = "gold_unreadable"
            value = _NOTHING
        if value == "":
            bad[number] = "gold_empty"
            value = _NOTHING
        golds.append(value)
    return golds, bad


def _refuse(bad: Mapping[int, str], read: Rows, column: str) -> None:
    """Raises TaskError that counts the rows without a gold and names the first."""
    for reason, problem in (("gold_empty", "is null or empty"), ("gold_unreadable", "is neither text nor a finite number")):
        numbers = [number for number, found in bad.items() if found == reason]
        if numbers:
            raise TaskError(
                f"{read.label}: the gold (column {column!r}) {problem} in {len(numbers)} of {len(read.rows)} "
                "rows, first in row "
                f"{', '.join(map(str, numbers[:_SHOWN]))}: give every row its answer, remove it, or, for type dataset, set bad_rows to drop"
            )


def _split_of(value: Any, column: str, where: str) -> str:
    split = SPLIT_OF.get(value.strip().lower()) if isinstance(value, str) else None
    if split is None:
        raise TaskError(
            f"{where}, column {column!r}: split {value!r} is unknown, expected one of {', '.join(SPLIT_OF)}"
        )
    return split


def _difficulty(value: Any, column: str, where: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise TaskError(f"{where}, column {column!r}: difficulty {value!r} is not a finite number")
    return number


def _json_able(values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values that JSON can hold, and the names of the others."""
    kept, left = {}, []
    for name, value in values.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            left.append(name)
        else:
            kept[name] = value
    return kept, left
