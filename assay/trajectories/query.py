"""SQL over the warehouse, read-only, with errors in one sentence."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from assay.trajectories.schemas import TABLES
from assay.trajectories.warehouse import WAREHOUSE, WarehouseError, one_line, open_warehouse

if TYPE_CHECKING:
    import duckdb

BATCH_ROWS = 10_000
WRITING = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE_INTO", "DROP", "ALTER", "CREATE", "ATTACH", "VACUUM"})
"""Types of statements that fail here because they write, whatever DuckDB finds wrong with them first."""
Answer = TypeVar("Answer")


class QueryError(ValueError):
    """A statement that cannot be answered. The message says what is wrong with it, in one sentence."""


def query(sql: str, root: Path = Path(), *, version: str | None = None, wait: float = 10.0) -> pa.Table:
    """The answer to one or several statements (that of the last), as a table. Raises QueryError and WarehouseError."""
    return stream(sql, root, lambda reader: reader.read_all(), version=version, wait=wait)


def stream(
    sql: str, root: Path, consume: Callable[[pa.RecordBatchReader], Answer], *, version: str | None = None,
    wait: float = 10.0,
) -> Answer:  # fmt: skip
    """What `consume` makes of the answer, which it is given in batches while the warehouse is open.

    version: the views show this version instead of the current one. wait: seconds for a warehouse that is held.
    Raises QueryError for a statement that is wrong or writes, WarehouseError for a warehouse that is missing, held by
    another process, or unusable.
    """
    import duckdb

    with open_warehouse(root / WAREHOUSE, wait=wait) as connection:
        if not connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'versions'").fetchall():
            raise WarehouseError(f"{root / WAREHOUSE} is empty; run `assay sync`")
        statement = None
        try:
            if version is not None:
                _show(connection, version)
            statements = connection.extract_statements(sql)
            if not statements:
                raise QueryError("there is no statement to answer")
            for statement in statements[:-1]:
                connection.execute(statement)
                connection.complete()
            statement = statements[-1]
            answer = connection.sql(statement.query)
            return consume(pa.table({}).to_reader() if answer is None else answer.to_arrow_reader(BATCH_ROWS))
        except (duckdb.Error, pa.ArrowException) as error:
            raise QueryError(explain(error, statement is not None and statement.type.name in WRITING)) from error


def _show(connection: "duckdb.DuckDBPyConnection", version: str) -> None:
    """Let the views of this connection show another version."""
    name = version.replace("'", "''")
    connection.execute(f"SELECT version_of('{name}')").fetchall()
    for table in TABLES:
        connection.execute(f"CREATE TEMP VIEW {table} AS FROM {table}_at('{name}')")


def explain(error: Exception, writing: bool = False) -> str:
    """One sentence for a mistake in a statement, which may have wanted to write."""
    text = one_line(error)
    if writing or "read-only mode" in text:
        return (
            "the warehouse is read-only, it is made from the stages' outputs and only `assay sync` writes it; "
            "to keep an answer use `assay sql --format parquet --output FILE`, or CREATE TEMP TABLE within one call"
        )
    # The prefix names an error class, which says nothing to a person who reads the sentence behind it.
    text = re.sub(r"^(?:\w+ )+Error: ", "", text)
    excerpt = re.search(r"LINE (\d+): (.*)", str(error))
    place = f' (line {excerpt[1]}: "{excerpt[2].strip()}")' if excerpt else ""
    return f"{text[:1].lower()}{text[1:]}{place}"
