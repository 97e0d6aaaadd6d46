"""A user's own databases as an environment: questions with the queries that answer them, read as any data set is."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from assay.environments.base import Candidate
from assay.environments.dataset import DatasetEnvironment
from assay.environments.task import Task, TaskError
from assay.environments.text_to_sql.databases import DatabaseError
from assay.environments.text_to_sql.environment import ORACLE, VERIFIER, limits_of
from assay.environments.text_to_sql.statements import Refused, read
from assay.environments.text_to_sql.user_files import PARQUET, SUFFIXES, digest, load, size_mib, tables_of
from assay.params.data import SqlDatabases, UserDataset

_FIELDS = {"question": "prompt", "query": "gold", "split": "split", "difficulty": "difficulty"}
"""Columns under the names that a data set's have."""


class _Pairs(DatasetEnvironment):
    """The questions, each with its database: rewritten before rows are divided and conflicts are looked for, so that one question
    may be asked of several databases."""

    def __init__(self, name: str, params: SqlDatabases, seed: int, root: Path, eval_share: float) -> None:
        columns = {"prompt": "question", "gold": "query"} | {
            _FIELDS[field]: column for field, column in params.columns.items() if field != "database"
        }
        pairs = UserDataset.model_validate({
            "path": params.path, "name": params.name, "split": params.split, "eval_split": params.eval_split, "columns": columns,
            "verifier": "string_match",
        })  # fmt: skip
        super().__init__(name, pairs, seed, root, eval_share)
        self.sql = params
        self.databases: dict[str, tuple[str, list[list[str]]]] = {}

    def _candidates_of(self, source: str, split: str) -> list[Candidate]:
        import duckdb

        candidates = super()._candidates_of(source, split)
        with duckdb.connect(":memory:", config={"threads": 1}) as parser:  # one for all: opening takes longer than reading a query
            return [replace(one, task=self._with_database(one, parser)) for one in candidates]

    def _with_database(self, candidate: Candidate, parser: Any) -> Task:
        task, params, where = candidate.task, self.sql, f"environments.{self.name}: {candidate.origin}"
        column = params.columns.get("database", "database")
        given = task.meta.get("columns", {}).get(column)
        schema, files = self._database(given if isinstance(given, str) else None, where, column)
        if len(task.prompt) != 1:
            raise TaskError(f"{where}: the question is a list of messages, expected text")
        prompt = params.prompt.replace("{schema}", schema).replace("{question}", task.prompt[0]["content"])
        meta: dict[str, Any] = {
            "oracle": ORACLE, "files": files, "ordered": self._ordered(parser, task.gold, where), "limits": limits_of(params.limits),
        }  # fmt: skip
        others = {key: value for key, value in task.meta.get("columns", {}).items() if key != column}
        if others:
            meta["columns"] = others
        return Task.create(self.name, task.split, prompt, task.gold, VERIFIER, meta, task.difficulty)

    def _ordered(self, parser: Any, gold: str, where: str) -> bool:
        if self.sql.order != "as_query":
            return self.sql.order == "always"
        try:
            return read(parser, gold).ordered
        except Refused as refused:
            shown = str(refused).strip().split("\n", 1)[0]
            raise TaskError(f"{where}: the query {gold[:80]!r} cannot be executed ({refused.reason}): {shown}") from refused

    def _database(self, given: str | None, where: str, column: str) -> tuple[str, list[list[str]]]:
        """Schema as text, and (path, digest) of each of its files."""
        key = given or ""
        if key not in self.databases:
            files = find(self.root, self.sql.databases, given, where, column)
            schemas = [self._look(file, where) for file in files]
            for file, schema in zip(files, schemas, strict=True):
                if schema != schemas[0]:
                    one, first = _shown(file, self.root), _shown(files[0], self.root)
                    raise TaskError(f"{where}: {one} has other tables or columns than {first}, beside which it stands")
            shown = [[_shown(file, self.root), digest(file)] for file in files]
            self.databases[key] = (schemas[0], shown)
        return self.databases[key]

    def _look(self, file: Path, where: str) -> str:
        size, shown = size_mib(file), _shown(file, self.root)
        if size > self.sql.max_database_mib:
            raise TaskError(f"{where}: {shown} has {size:.0f} MiB, more than max_database_mib ({self.sql.max_database_mib})")
        try:
            connection, _ = load(str(file), None, shown)
        except DatabaseError as error:
            raise TaskError(f"{where}: {error}") from error
        with connection:
            return " ".join(f"{table}({','.join(columns)})" for table, columns in tables_of(connection).items())


class SqlDatabasesEnvironment:
    """Every question is offered once; a held-out share is chosen by a hash of the prompt unless the file says. Golds that cannot be
    executed are errors that name file and row."""

    forms = 1

    def __init__(self, name: str, params: SqlDatabases, seed: int, root: Path, eval_share: float) -> None:
        self.name = name
        self._pairs = _Pairs(name, params, seed, root, eval_share)

    @property
    def notes(self) -> list[str]:
        return self._pairs.notes

    @notes.setter
    def notes(self, notes: list[str]) -> None:
        self._pairs.notes = notes

    def has(self, split: str) -> bool:
        return self._pairs.has(split)

    def check(self) -> None:
        """Read questions and databases. Raises TaskError naming file, column and row."""
        self._pairs.check()

    def candidates(self, split: str) -> Iterator[Candidate]:
        return self._pairs.candidates(split)

    def demonstration(self, task: Task, random: Random) -> str:
        return task.gold


def find(root: Path, databases: str, name: str | None, where: str, column: str) -> list[Path]:
    """The files of the database that a row names, the rule's first. Raises TaskError."""
    base = root / databases
    if base.is_file():
        return [base]
    if not base.is_dir():
        raise TaskError(f"{where}: databases is {databases!r}: no such file or folder")
    if name is None:
        raise TaskError(f"{where}: databases is a folder, so that each row names one: there is no text in the column {column!r}")
    if Path(name).name != name or name in (".", ".."):
        raise TaskError(f"{where}: the database {name!r} is not the name of an entry of {databases}")
    for suffix in SUFFIXES:
        if (base / f"{name}{suffix}").is_file():
            return [base / f"{name}{suffix}"]
    folder = base / name
    files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES] if folder.is_dir() else []
    if files and all(file.suffix.lower() in PARQUET for file in files):
        return [folder]
    if not files:
        known = ", ".join(sorted({entry.stem for entry in base.iterdir()})[:8]) or "nothing"
        raise TaskError(f"{where}: there is no database {name!r} in {databases}; there is {known}")
    return sorted(files, key=lambda file: (file.stem != name, file.name))


def _shown(file: Path, root: Path) -> str:
    """From the root, as params.yaml says it, through links: the record holds no folders of this machine. Only what params.yaml says to
    lie in a folder outside the root, from the machine's own, is named so."""
    for path, base in ((file, root), (file.resolve(), root.resolve())):
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return str(file)
