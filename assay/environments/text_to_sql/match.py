"""Execution match: whether an answer's result is the gold's, on one of a task's databases or on all. Call it in a worker process."""

import re
from dataclasses import dataclass
from typing import Any

from assay.environments.text_to_sql.compare import same_result
from assay.environments.text_to_sql.databases import DatabaseError, sources_of
from assay.environments.text_to_sql.execution import Limits, execute, execute_known

FENCED = re.compile(r"```[ \t]{0,3}(?:sql|SQL|duckdb)?[ \t]{0,3}\n(.{0,20000}?)```", re.DOTALL)


class GoldError(ValueError):
    """The gold, or the database, fails: nothing can be said about the answer."""


@dataclass(frozen=True)
class Match:
    """What came of the comparison."""

    equal: bool
    failure: str | None = None
    """Why the answer has no result: `execution.Result.failure`."""
    message: str = ""


def statement_in(answer: str) -> str:
    """The query of an answer: the last fenced block where there is one, else all of it."""
    blocks = FENCED.findall(answer) if "```" in answer else []
    return (blocks[-1] if blocks else answer).strip()


def match(answer: str, gold: str, meta: dict[str, Any], everywhere: bool) -> Match:
    """On the first of the databases, or `everywhere`. Raises GoldError."""
    sql = statement_in(answer)
    if not sql:
        return Match(False, "unparseable", "there is no statement")
    try:
        sources, limits, ordered = sources_of(meta), Limits(**meta["limits"]), bool(meta["ordered"])
        for source in sources if everywhere else sources[:1]:
            expected = execute_known(source, gold, limits)
            if expected.failure is not None:
                raise GoldError(f"{expected.failure}: {expected.message}")
            found = expected if sql == gold else execute(source, sql, limits)
            if found.failure is not None:
                return Match(False, found.failure, found.message)
            if not same_result(found.rows, expected.rows, ordered):
                return Match(False)
    except (DatabaseError, KeyError, TypeError) as error:
        raise GoldError(f"the database: {error}") from error
    return Match(True)
