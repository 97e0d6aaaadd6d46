"""A user's databases, copied into memory: DuckDB, SQLite and Parquet files become tables of a DuckDB instance that is then locked."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from assay.environments.text_to_sql.databases import SETTINGS, DatabaseError
from assay.trajectories import file_digest, tree_digest

DUCKDB, SQLITE, PARQUET = (".duckdb", ".db", ".ddb"), (".sqlite", ".sqlite3"), (".parquet",)
SUFFIXES = (*DUCKDB, *SQLITE, *PARQUET)
SQLITE_MAGIC = b"SQLite format 3\x00"
CHUNK = 10_000
"""Rows that are copied at once."""
LOADING_MIB = 64
"""What copying may take beside three times the file's size, as columns are compressed in files."""


def digest(path: Path) -> str:
    """Of a database's content: a file's bytes, or those of all files of a folder."""
    return tree_digest([path]) if path.is_dir() else file_digest(path)


def size_mib(path: Path) -> float:
    """Of its file, or all its files."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 2**20


def load(path: str, expected: str | None, shown: str | None = None) -> tuple[Any, int]:
    """An instance with the tables of the database, not locked yet, and MiB that it may hold for them.

    Of DuckDB files the schema `main` is read, tables and views. shown: the path in messages, which are stored: no folder of this machine.
    Raises DatabaseError: no such file, not `expected`, not readable.
    """
    import duckdb

    file, shown = Path(path), shown or path
    if not file.exists():
        raise DatabaseError(f"{shown}: no such file or folder")
    if expected is not None and digest(file) != expected:
        raise DatabaseError(f"{shown}: not the database that the tasks were made with; make them again")
    held = int(3 * size_mib(file)) + LOADING_MIB
    connection = duckdb.connect(":memory:", config={**SETTINGS, "memory_limit": f"{held}MiB"})
    try:
        _copy(connection, file)
    except (duckdb.Error, sqlite3.Error, OSError) as error:
        connection.close()
        said = str(error).splitlines()[0].replace(str(file.resolve()), shown).replace(str(file), shown)
        raise DatabaseError(f"{shown}: cannot be read as a database: {said}") from error
    if not tables_of(connection):
        connection.close()
        raise DatabaseError(f"{shown}: no tables")
    return connection, held


def tables_of(connection: Any) -> dict[str, list[str]]:
    """Columns of each table, in order."""
    rows = connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE schema_name = 'main' AND NOT internal ORDER BY table_oid, column_index"
    ).fetchall()
    found: dict[str, list[str]] = {}
    for table, column in rows:
        found.setdefault(table, []).append(column)
    return found


def _copy(connection: Any, file: Path) -> None:
    if file.is_dir():
        for part in sorted(file.glob("*.parquet")):
            _copy_parquet(connection, part)
    elif file.suffix.lower() in PARQUET:
        _copy_parquet(connection, file)
    elif _is_sqlite(file):
        _copy_sqlite(connection, file)
    else:
        _copy_duckdb(connection, file)


def _is_sqlite(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC


def _copy_parquet(connection: Any, file: Path) -> None:
    connection.execute(f"CREATE TABLE {quoted(file.stem)} AS SELECT * FROM read_parquet({text(str(file))})")


def _copy_duckdb(connection: Any, file: Path) -> None:
    connection.execute(f"ATTACH {text(str(file))} AS theirs (TYPE duckdb, READ_ONLY)")
    names = connection.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_catalog = 'theirs' AND table_schema = 'main' ORDER BY ALL"
    ).fetchall()
    for (name,) in names:
        connection.execute(f"CREATE TABLE {quoted(name)} AS SELECT * FROM theirs.main.{quoted(name)}")
    connection.execute("DETACH theirs")


def _copy_sqlite(connection: Any, file: Path) -> None:
    """By Python's own reader: DuckDB's is an extension that would have to be fetched. A column's type is that of its values."""
    ahead = file.resolve().with_name(f"{file.resolve().name}-wal")
    if ahead.is_file() and ahead.stat().st_size:
        raise sqlite3.OperationalError(
            f"{ahead.name} beside it holds changes that are not in it yet: close the program that writes it, or run PRAGMA "
            "wal_checkpoint(TRUNCATE) in it"
        )
    with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as theirs:
        theirs.text_factory = lambda raw: raw.decode("utf-8", "replace")
        names = theirs.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite~_%' ESCAPE '~'")
        for (name,) in sorted(names.fetchall()):
            source = '"' + name.replace('"', '""') + '"'
            columns = [row[0] for row in theirs.execute(f"SELECT * FROM {source} LIMIT 0").description]
            kinds = [_kind(theirs, source, column) for column in columns]
            defined = ", ".join(f"{quoted(column)} {kind}" for column, kind in zip(columns, kinds, strict=True))
            connection.execute(f"CREATE TABLE {quoted(name)} ({defined})")
            _insert(connection, name, kinds, theirs.execute(f"SELECT * FROM {source}"))


def _kind(theirs: sqlite3.Connection, source: str, column: str) -> str:
    rows = theirs.execute(f"SELECT DISTINCT typeof({quoted(column)}) FROM {source}").fetchall()
    found = {row[0] for row in rows} - {"null"}
    if not found:
        return "VARCHAR"
    if found <= {"integer"}:
        return "BIGINT"
    if found <= {"integer", "real"}:
        return "DOUBLE"
    return "BLOB" if found <= {"blob"} else "VARCHAR"


def _insert(connection: Any, table: str, kinds: list[str], rows: Iterable[tuple[Any, ...]]) -> None:
    import pyarrow as pa

    types = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "DOUBLE": pa.float64(), "BLOB": pa.binary()}
    iterator = iter(rows)
    while chunk := list(islice(iterator, CHUNK)):
        columns = [
            pa.array([_as(kind, row[place]) for row in chunk], types[kind]) for place, kind in enumerate(kinds)
        ]
        connection.register("assay_rows", pa.table(columns, names=[f"c{place}" for place in range(len(kinds))]))
        connection.execute(f"INSERT INTO {quoted(table)} SELECT * FROM assay_rows")
        connection.unregister("assay_rows")


def _as(kind: str, value: Any) -> Any:
    if value is None or kind in ("BIGINT", "BLOB"):
        return value
    if kind == "DOUBLE":
        return float(value)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def quoted(name: str) -> str:
    """An identifier."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A string literal."""
    return "'" + value.replace("'", "''") + "'"
