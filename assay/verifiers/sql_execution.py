"""Execution match as a verifier: on one database as the rule, on several as the oracle.

What fails because of the answer is wrong, each with its reason; what fails because of the gold, the database or the worker abstains.
"""

import json
from pathlib import Path
from typing import Any

from assay.verifiers.verdicts import Finding, abstain, correct, wrong

REVISION = 5
NEEDS = ("ordered", "limits")
PRELOAD = ("duckdb", "assay.verifiers.sql_execution:warm_up")
SHOWN = 200
"""Characters of an error message that are kept."""


def warm_up() -> None:
    """Import what verdicts need; called once, before workers are forked."""
    import assay.environments.text_to_sql.match  # noqa: F401


def judge(answer: str, gold: str, meta: dict[str, Any]) -> Finding:
    """By the first of the task's databases."""
    return _judge(answer, gold, meta, everywhere=False)


def judge_everywhere(answer: str, gold: str, meta: dict[str, Any]) -> Finding:
    """By all of the task's databases: equal schemas, other rows."""
    return _judge(answer, gold, meta, everywhere=True)


def on_this_machine(meta: dict[str, Any]) -> dict[str, Any]:
    """Meta whose files are found from any folder: the record names them from the project's root, where commands are run. The recorded
    path stays beside, for messages."""
    if "files" not in meta:
        return meta
    return meta | {"files": [[str(Path(path).resolve()), digest, path] for path, digest in meta["files"]]}


def _judge(answer: str, gold: str, meta: dict[str, Any], everywhere: bool) -> Finding:
    from assay.environments.text_to_sql.match import GoldError, match

    try:
        found = match(answer, gold, meta, everywhere)
    except GoldError as error:
        return abstain("gold_unparseable", _said(str(error)))
    if found.failure is not None:
        return Finding("wrong", found.failure, 0.0, _said(found.message))
    return correct() if found.equal else wrong()


def _said(message: str) -> str:
    return json.dumps({"error": message.strip().split("\n", 1)[0][:SHOWN]})
