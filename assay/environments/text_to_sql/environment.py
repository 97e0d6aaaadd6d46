"""Text-to-SQL as a task family: which databases there are, which questions are asked, what the golds are."""

from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Any

from assay.environments.base import Candidate
from assay.environments.task import Task, TaskError
from assay.environments.text_to_sql.forms import FORMS, demonstration
from assay.environments.text_to_sql.questions import ask
from assay.environments.text_to_sql.schemas import Schema, draw_schemas
from assay.params.data import SqlLimits, TextToSql
from assay.trajectories import seed_from

DRAWS = 20_000
"""Candidates for demonstrations. What is asked for beyond them are tasks once more, in other forms: with endless ones, levels that have few
different questions would hardly be shown, as theirs are in the other splits already."""
VERIFIER = ORACLE = "sql_execution"


class TextToSqlEnvironment:
    """Questions like `emp(name,age,town): name with age over 30` with golds like `SELECT name FROM emp WHERE age > 30`.

    The rule executes answer and gold on one database and compares the results; the oracle does so on several with equal schemas
    and other rows as well, and a query that is right by accident on the first is wrong on one of them. Difficulty: the level.
    `ood`: schemas that no other split has.
    """

    forms = len(FORMS)

    def __init__(self, name: str, params: TextToSql, seed: int) -> None:
        self.name, self.params, self.seed = name, params, seed
        self.notes: list[str] = []
        self._schemas = draw_schemas(params.databases, seed_from(seed, "schemas", name))
        self._ood = draw_schemas(params.ood_databases, seed_from(seed, "schemas", name, "ood"), self._schemas)

    def has(self, split: str) -> bool:
        return split != "ood" or self.params.ood_databases > 0

    def check(self) -> None:
        """Raises TaskError where no database has the two tables that a join needs."""
        for what, schemas in (("databases", self._schemas), ("ood_databases", self._ood)):
            if schemas and 7 in self.params.levels and not any(len(schema.tables) > 1 for schema in schemas):
                raise TaskError(
                    f"environments.{self.name}: level 7 asks for joins, but {what} is {len(schemas)} and every second one only has two "
                    f"tables: raise {what} to 2, or take 7 out of levels"
                )

    def candidates(self, split: str) -> Iterator[Candidate]:
        random = Random(seed_from(self.seed, "tasks", self.name, split))
        for index in range(DRAWS) if split == "demonstration" else count():
            level = random.choice(self.params.levels)
            yield Candidate(self._task(split, level, random), f"task {index} of split {split}")

    def demonstration(self, task: Task, random: Random) -> str:
        return demonstration(task.gold, random)

    def _task(self, split: str, level: int, random: Random) -> Task:
        schemas = self._ood if split == "ood" else self._schemas
        number = random.choice([n for n, schema in enumerate(schemas) if level < 7 or len(schema.tables) > 1])
        schema, seeds = schemas[number], self._seeds(schemas[number])
        words, query = ask(schema, seeds[0], self.params.rows, level, random)
        meta = {
            "oracle": ORACLE, "schema": str(schema), "seeds": seeds, "rows": [self.params.rows, self.params.check_rows],
            "ordered": query.ordered, "limits": limits_of(self.params.limits),
        }  # fmt: skip
        kept_as = split if split in ("eval", "ood") else "train"
        prompt = f"{schema}: {words}"
        return Task.create(self.name, kept_as, prompt, query.sql(), VERIFIER, meta, float(level))

    def _seeds(self, schema: Schema) -> list[int]:
        """Of the rule's rows, then of those that only the oracle sees."""
        parts = range(1 + self.params.check_databases)
        return [seed_from(self.seed, "rows", self.name, str(schema), part) for part in parts]


def limits_of(limits: SqlLimits) -> dict[str, Any]:
    """As the task's meta has them, so that a verdict depends on the task alone."""
    return limits.model_dump()
