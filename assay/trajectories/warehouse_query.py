"""SQL over the warehouse: it can change nothing and reach no other file, and its errors are one sentence."""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from assay.trajectories.schemas import TABLES
from assay.trajectories.views import lineage_statement
from assay.trajectories.warehouse import WAREHOUSE, WarehouseError, one_line, open_warehouse

if TYPE_CHECKING:
    import duckdb

BATCH_ROWS = 10_000
REFUSED = frozenset({"ATTACH", "DETACH"})
"""Types of statements that are not passed on: DuckDB lets the one file that it has open be attached again."""
Answer = TypeVar("Answer")
Warn = Callable[[str], None]


class QueryError(ValueError):
    """A statement that cannot be answered. The message says what is wrong with it, in one sentence."""


EMPTY = "the current version"
"""How the sentence begins that says that trajectories are elsewhere."""
MOST = 3
"""Versions that a sentence names."""


class IncompleteWarning(UserWarning):
    """The views show fewer rows than the current version has."""


def _warn(text: str) -> None:
    warnings.warn(text, IncompleteWarning, stacklevel=6)  # where `query` was called


def query(sql: str, root: Path = Path(), *, version: str | None = None, wait: float = 10.0) -> pa.Table:
    """The answer to one or several statements (that of the last), as a table. Raises QueryError and WarehouseError.

    Warns with IncompleteWarning where the current version lacks shards, or some are out of date and left out.
    """
    return stream(sql, root, lambda reader: reader.read_all(), version=version, wait=wait)


def stream(
    sql: str, root: Path, consume: Callable[[pa.RecordBatchReader], Answer], *, version: str | None = None,
    wait: float = 10.0, warn: Warn = _warn,
) -> Answer:  # fmt: skip
    """What `consume` makes of the last answer, which it is given in batches while the warehouse is open.

    version: the views show this version instead of the current one. wait: seconds for a warehouse that is held. warn:
    is told, in one sentence, that the current version is not all there.
    Raises QueryError for a statement that is wrong, writes or reaches for a file, WarehouseError for a warehouse that
    is missing, held by another process, or unusable.
    """
    with _open(sql, root, version, wait, warn) as (connection, statements):
        for statement in statements[:-1]:
            _execute(connection, statement)
        return consume(_ask(connection, statements[-1]))


def stream_each(
    sql: str, root: Path, consume: Callable[[pa.RecordBatchReader], object], *, version: str | None = None,
    wait: float = 10.0, warn: Warn = _warn,
) -> None:  # fmt: skip
    """As `stream`, for the answer of every statement that gives one (CREATE TEMP TABLE gives none), in turn."""
    with _open(sql, root, version, wait, warn) as (connection, statements):
        for statement in statements:
            if _gives_rows(statement):
                consume(_ask(connection, statement))
            else:
                _execute(connection, statement)


@contextmanager
def _open(
    sql: str, root: Path, version: str | None, wait: float, warn: Warn
) -> Iterator[tuple["duckdb.DuckDBPyConnection", Sequence["duckdb.Statement"]]]:
    """The warehouse, showing the wanted version, and the statements in `sql`. DuckDB's errors become QueryError."""
    import duckdb

    file = root / WAREHOUSE
    with open_warehouse(file, wait=wait) as connection:
        if not connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'versions'").fetchall():
            raise WarehouseError(f"{file} is empty; run `assay sync`")
        try:
            if version is not None:
                _show(connection, version)
            elif text := _shortfall(connection) or _elsewhere(connection):
                warn(text)
            statements = connection.extract_statements(sql)
            if not statements:
                raise QueryError("there is no statement to answer")
            refused = next((one.type.name for one in statements if one.type.name in REFUSED), None)
            if refused is not None:
                raise QueryError(f"{refused} is not possible here: a question reaches no file but the warehouse")
            yield connection, statements
        except (duckdb.Error, pa.ArrowException) as error:
            raise QueryError(explain(error)) from error


def _ask(connection: "duckdb.DuckDBPyConnection", statement: "duckdb.Statement") -> pa.RecordBatchReader:
    answer = connection.sql(statement.query)
    return pa.table({}).to_reader() if answer is None else _explained(answer.to_arrow_reader(BATCH_ROWS))


def _execute(connection: "duckdb.DuckDBPyConnection", statement: "duckdb.Statement") -> None:
    connection.execute(statement)
    connection.complete()


def _gives_rows(statement: "duckdb.Statement") -> bool:
    kinds = {kind.name for kind in statement.expected_result_type}
    return kinds == {"QUERY_RESULT"} or statement.type.name == "MULTI"  # a PIVOT is several statements in one


def _explained(reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """The same batches. What DuckDB finds wrong with a row in the middle of an answer arrives as Arrow's OSError, which
    must not be mistaken for a fault of the file that the answer is written to.
    """

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        except (OSError, pa.ArrowException) as error:
            raise QueryError(explain(error)) from error

    return pa.RecordBatchReader.from_batches(reader.schema, batches())


def _show(connection: "duckdb.DuckDBPyConnection", version: str) -> None:
    """Let the views, and lineage(...), of this connection show another version."""
    name = version.replace("'", "''")
    connection.execute(f"SELECT version_of('{name}')").fetchall()
    for table in (*TABLES, "headline"):
        connection.execute(f"CREATE TEMP VIEW {table} AS FROM {table}_at('{name}')")
    connection.execute(lineage_statement(name, temporary=True))


def _shortfall(connection: "duckdb.DuckDBPyConnection") -> str | None:
    """What the views of the current version leave out, in one sentence; None where they are complete."""
    own = "SELECT name, missing, stale FROM versions WHERE name = (SELECT version FROM version_names WHERE name = 'current')"
    for name, missing, stale in connection.execute(own).fetchall():
        if missing:
            return f"the answer is not complete: version {name} lacks {', '.join(missing)}; run `dvc pull`, then `assay sync`"
        if stale:
            return f"the answer leaves out what {', '.join(stale)} made, as their inputs have changed since; run `dvc repro`"
    return None


def _elsewhere(connection: "duckdb.DuckDBPyConnection") -> str | None:
    """Where trajectories are, if the current version has none: after fused rounds alone, for instance."""
    (here,) = connection.execute("SELECT version FROM version_names WHERE name = 'current'").fetchone() or ("",)
    there = connection.execute(
        "SELECT DISTINCT version FROM version_parts JOIN parts USING (part) WHERE table_name = 'trajectories' ORDER BY ALL"
    ).fetchall()
    names = [name for (name,) in there]
    if not names or here in names:
        return None
    have = "has" if len(names) == 1 else "have"
    return f"{EMPTY} ({here}) has no trajectories; {', '.join(names[:MOST])} {have} some: name one with --version"


def explain(error: Exception) -> str:
    """One sentence for a mistake in a statement, by what DuckDB says about it."""
    text = one_line(error)
    if re.search("read-only mode|Can only (update|delete from|insert into|merge into)", text):
        return (
            "the warehouse is read-only, it is made from the stages' outputs and only `assay sync` writes it; "
            "to keep an answer use `assay sql --format parquet --output FILE`, or CREATE TEMP TABLE within one call"
        )
    if re.search("disabled (by|through) configuration|configuration has been locked", text):
        return (
            "a question reaches no file but the warehouse, loads nothing and changes no setting; "
            "to keep an answer use `assay sql --format csv --output FILE`"
        )
    # The prefix names an error class, which says nothing to a person who reads the sentence behind it.
    text = re.sub(r"^(?:\w+ )+Error: ", "", text)
    excerpt = re.search(r"LINE (\d+): (.*)", str(error))
    place = f' (line {excerpt[1]}: "{excerpt[2].strip()}")' if excerpt else ""
    return f"{text[:1].lower()}{text[1:]}{place}"
