"""Databases in memory, in the process that executes answers: built from a task's meta, or copied from a user's files, then locked.

One thread, no file, no network, no extension, nothing of Python; nothing is ever written to disk, also not what does not fit into
memory. Building one with eight rows takes less than a millisecond.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from assay.environments.text_to_sql.schemas import content, kind_of

KEPT = 200
"""Seeded databases that a process keeps. Each is a catalog of one DuckDB instance, with its tables in `main` as in a file: a new instance
takes ten milliseconds and four megabytes."""
SETTINGS: dict[str, str | int] = {
    "threads": 1,
    "async_threads": 0,
    "temp_directory": "",
    "max_temp_directory_size": "0KB",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
}
LOCK = ("SET enable_external_access = false", "SET lock_configuration = true")
"""What is set once the data are in, for good."""


class DatabaseError(ValueError):
    """A database that cannot be had: the meta does not describe one, or a user's file is not what it was."""


@dataclass(frozen=True)
class Seeded:
    """A database that is made from its schema and a seed."""

    schema: str
    seed: int
    rows: int


@dataclass(frozen=True)
class Filed:
    """A database of the user: a DuckDB or SQLite file, a Parquet file, or a folder of Parquet files."""

    path: str
    digest: str
    """Of its content when the tasks were made."""
    shown: str
    """The path as the record has it, which messages name."""


Source = Seeded | Filed


def sources_of(meta: dict[str, Any]) -> list[Source]:
    """The databases that a task's meta names: the rule's first, then those that only the oracle looks at. Raises DatabaseError."""
    try:
        if "files" in meta:
            return [_filed_as(*entry) for entry in meta["files"]]
        first, further = meta["rows"]
        return [Seeded(meta["schema"], seed, further if place else first) for place, seed in enumerate(meta["seeds"])]
    except (KeyError, TypeError, ValueError) as error:
        raise DatabaseError(f"meta describes no database ({type(error).__name__}: {error})") from error


def _filed_as(path: str, digest: str, shown: str | None = None) -> Filed:
    return Filed(str(path), str(digest), str(path if shown is None else shown))


def connect(source: Source, memory_mib: int) -> Any:
    """A connection that sees the database's tables by their names. Raises DatabaseError.

    memory_mib: what DuckDB may hold beside the data. Kept by process: the most recent seeded databases, and the last eight of files.
    """
    if isinstance(source, Filed):
        return _filed(source, memory_mib).cursor()
    instance = _seeded(memory_mib)
    cursor = instance.connection.cursor()
    cursor.execute(f"USE {instance.catalog_of(source)}")
    return cursor


class SeededInstance:
    """A DuckDB instance whose catalogs are the seeded databases, made when they are first asked for."""

    def __init__(self, memory_mib: int) -> None:
        self.connection = locked(memory_mib)
        self._catalogs: dict[Seeded, str] = {}
        self._made = 0

    def catalog_of(self, source: Seeded) -> str:
        """Name of the catalog that is the database."""
        name = self._catalogs.pop(source, None)
        if name is None:
            if len(self._catalogs) >= KEPT:
                self.connection.execute(f"DETACH {self._catalogs.pop(next(iter(self._catalogs)))}")
            self._made += 1
            name = f"database_{self._made}"
            self._build(name, source)
        self._catalogs[source] = name  # last in the order: the first is the one that has not been asked for longest
        return name

    def _build(self, name: str, source: Seeded) -> None:
        try:
            tables = content(source.schema, source.seed, source.rows)
        except ValueError as error:
            raise DatabaseError(str(error)) from error
        statements = [f"ATTACH ':memory:' AS {name}"]
        for table, rows in tables:
            columns = ", ".join(f"{column} {kind_of(column)}" for column in table.columns)
            values = ", ".join(f"({', '.join(map(_literal, row))})" for row in rows)
            statements += [f"CREATE TABLE {name}.{table.name} ({columns})", f"INSERT INTO {name}.{table.name} VALUES {values}"]
        self.connection.execute("; ".join(statements))


def locked(memory_mib: int) -> Any:
    """An empty instance in memory that can reach nothing outside it."""
    import duckdb

    connection = duckdb.connect(":memory:", config={**SETTINGS, "memory_limit": f"{memory_mib}MiB"})
    lock(connection)
    return connection


def lock(connection: Any, memory_mib: int | None = None) -> None:
    """Close an instance to the outside, for good."""
    if memory_mib is not None:
        connection.execute(f"SET memory_limit = '{memory_mib}MiB'")
    for statement in LOCK:
        connection.execute(statement)


@lru_cache(maxsize=1)
def _seeded(memory_mib: int) -> SeededInstance:
    return SeededInstance(memory_mib)


@lru_cache(maxsize=8)
def _filed(source: Filed, memory_mib: int) -> Any:
    from assay.environments.text_to_sql.user_files import load

    connection, held_mib = load(source.path, source.digest, source.shown)
    lock(connection, held_mib + memory_mib)
    return connection


def _literal(value: str | int | None) -> str:
    return "NULL" if value is None else str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
