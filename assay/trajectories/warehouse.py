"""The warehouse file: the tables of every version in one DuckDB file. It is made from the shards and can be made again.

Writers hold the file for the length of a sync, readers open it read-only for the length of a query: DuckDB allows one
writer or many readers. Big tables have neither primary keys nor indexes (replaying a write-ahead log with indexes
after a kill has left unusable files); that ids are unique is the gates' business.
"""

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from assay.trajectories.schemas import TABLES, Table
from assay.trajectories.views import statements

if TYPE_CHECKING:
    import duckdb

WAREHOUSE = Path("data/trajectories.duckdb")
"""Relative to the project's root."""
TEMPORARY = Path(".assay/duckdb")
"""Where DuckDB spills what does not fit into memory."""

BOOKKEEPING = """
CREATE SCHEMA IF NOT EXISTS store;
CREATE TABLE IF NOT EXISTS versions (
    name VARCHAR, pipeline VARCHAR, kind VARCHAR, commit_id VARCHAR, committed_at TIMESTAMPTZ, subject VARCHAR,
    parents VARCHAR[], lock_hash VARCHAR, params JSON, missing VARCHAR[], stale VARCHAR[]);
CREATE TABLE IF NOT EXISTS version_names (name VARCHAR, version VARCHAR, kind VARCHAR);
CREATE TABLE IF NOT EXISTS version_parts (version VARCHAR, part INTEGER, stage VARCHAR, path VARCHAR);
CREATE TABLE IF NOT EXISTS version_stages (version VARCHAR, stage VARCHAR, role VARCHAR, path VARCHAR, hash VARCHAR);
CREATE TABLE IF NOT EXISTS version_params (version VARCHAR, key VARCHAR, value VARCHAR);
CREATE TABLE IF NOT EXISTS parts (
    part INTEGER, md5 VARCHAR, table_name VARCHAR, row_count BIGINT, byte_count BIGINT, schema_version INTEGER,
    stage VARCHAR, iteration INTEGER, path VARCHAR, unknown_columns VARCHAR[]);
CREATE TABLE IF NOT EXISTS warehouse_state (key VARCHAR, value VARCHAR);
"""

_SCALARS = {
    pa.string(): "VARCHAR", pa.int32(): "INTEGER", pa.int64(): "BIGINT", pa.float32(): "FLOAT", pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
}  # fmt: skip


class WarehouseError(RuntimeError):
    """A warehouse that cannot be read or written. The message says what to do."""


class WarehouseBusy(WarehouseError):
    """Another process holds the file."""


class WarehouseBroken(WarehouseError):
    """A file that DuckDB cannot open: damaged, written by another version of DuckDB, or none of its files."""


def sql_type(arrow: pa.DataType) -> str:
    """DuckDB's name of an Arrow type of the record. Raises KeyError for a type that no table has."""
    if pa.types.is_list(arrow):
        return f"{sql_type(arrow.value_type)}[]"
    if pa.types.is_struct(arrow):
        return f"STRUCT({', '.join(f'{field.name} {sql_type(field.type)}' for field in arrow)})"
    return _SCALARS[arrow]


def layout() -> str:
    """Digest of all that is in the file beside rows; a file of another layout is brought up to date by a sync."""
    columns = [(table.name, c.name, sql_type(c.type)) for table in TABLES.values() for c in table.columns]
    text = repr((BOOKKEEPING, columns, statements()))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@contextmanager
def open_warehouse(file: Path, *, write: bool = False, wait: float = 5.0) -> Iterator["duckdb.DuckDBPyConnection"]:
    """A connection, closed at the end. Waits up to `wait` seconds for a file that another process holds.

    A reader can reach no other file: what is asked may come from anywhere.

    Raises WarehouseBusy when it is still held, WarehouseBroken when DuckDB cannot open it, WarehouseError when it is
    missing (reading), or when DuckDB fails while it is open.
    """
    import duckdb

    if not write and not file.exists():
        raise WarehouseError(f"{file} does not exist; run `assay sync`, which makes it from the stages' outputs")
    file.parent.mkdir(parents=True, exist_ok=True)
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "temp_directory": str(file.parent.parent / TEMPORARY),
    }
    with suppress(OSError):  # DuckDB makes the last folder of the path alone; a reader of a read-only disk needs none, as long as all fits
        (file.parent.parent / TEMPORARY).parent.mkdir(exist_ok=True)
    deadline = time.monotonic() + wait
    while True:
        try:
            connection = duckdb.connect(str(file), read_only=not write, config=settings)
            if not write:
                _shut_in(connection)
            break
        except (duckdb.IOException, duckdb.ConnectionException) as error:
            if "set lock" not in str(error) and "different configuration" not in str(error):
                raise _cannot_open(file, error) from error
            if time.monotonic() >= deadline:
                raise WarehouseBusy(f"{file} is in use by {_holder(str(error))}") from error
            time.sleep(0.1)
        except duckdb.Error as error:
            raise _cannot_open(file, error) from error
    try:
        yield connection
    except duckdb.OperationalError as error:
        raise WarehouseError(f"{file}: {one_line(error)}; see to it (disk space?), then run `assay sync`") from error
    except duckdb.Error as error:
        raise WarehouseError(f"{file}: {one_line(error)}; `assay rebuild` makes it again from the shards") from error
    finally:
        connection.close()


def _shut_in(connection: "duckdb.DuckDBPyConnection") -> None:
    """No reading or writing of other files, no extensions, and no way back. (Not by `config`: with it DuckDB refuses a
    temporary directory.)
    """
    import duckdb

    try:
        connection.execute("SET enable_external_access = false; SET lock_configuration = true")
    except duckdb.InvalidInputException as error:
        # Connections of one process to one file share their settings: another reader has done it already.
        if "has been locked" not in str(error):
            raise


def _cannot_open(file: Path, error: Exception) -> WarehouseError:
    text = one_line(error)
    if re.search("No space|Permission denied|Read-only file system|Cannot open file", text):
        return WarehouseError(f"{file} could not be opened ({text})")
    return WarehouseBroken(f"{file} is not usable ({text}); `assay rebuild` makes it again from the shards")


def _holder(message: str) -> str:
    process = re.search(r"PID (\d+)", message)
    return f"another process (PID {process[1]})" if process else "another connection of this process"


def one_line(error: Exception) -> str:
    """DuckDB's message without the excerpt of the statement, in one line."""
    return " ".join(re.split(r"\n\s*\nLINE \d+:|\nSee also", str(error))[0].split()).removesuffix("!")


def prepare(connection: "duckdb.DuckDBPyConnection") -> None:
    """Tables, views and macros of the current layout. Columns that the schema has gained are added, null in older rows.

    Raises WarehouseError where a column has changed its type: only `assay rebuild` helps then.
    """
    connection.execute(BOOKKEEPING)
    if connection.execute("SELECT value FROM warehouse_state WHERE key = 'layout'").fetchall() == [(layout(),)]:
        return
    connection.begin()
    for table in TABLES.values():
        _bring_up_to_date(connection, table)
    for statement in statements():
        connection.execute(statement)
    connection.execute("DELETE FROM warehouse_state WHERE key IN ('layout', 'fingerprint')")
    connection.execute("INSERT INTO warehouse_state VALUES ('layout', ?)", [layout()])
    connection.commit()


def _bring_up_to_date(connection: "duckdb.DuckDBPyConnection", table: Table) -> None:
    declared = {column.name: sql_type(column.type) for column in table.columns}
    columns = ", ".join(f'"{name}" {kind}' for name, kind in declared.items())
    connection.execute(f"CREATE TABLE IF NOT EXISTS store.{table.name} (part INTEGER, {columns})")
    found = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE store.{table.name}").fetchall()}
    for name, kind in declared.items():
        if name not in found:
            connection.execute(f'ALTER TABLE store.{table.name} ADD COLUMN "{name}" {kind}')
        elif _plain(found[name]) != _plain(kind):
            raise WarehouseError(
                f"column {name} of table {table.name} is {kind}, in the warehouse {found[name]}; run `assay rebuild`"
            )


def _plain(kind: str) -> str:
    return re.sub(r'[\s"]', "", kind).upper()
