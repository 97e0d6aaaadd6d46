"""Writing to the warehouse: shards, versions, and the removal of what no version needs any more."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from assay.trajectories.contents import Contents, flatten
from assay.trajectories.history import Version
from assay.trajectories.objects import md5
from assay.trajectories.pipelines import Shard
from assay.trajectories.schemas import SCHEMA_VERSION, TABLES
from assay.trajectories.shards import ShardError
from assay.trajectories.warehouse import one_line, sql_type

if TYPE_CHECKING:
    import duckdb

ROWS_PER_STATEMENT = 500
BATCH_BYTES = 256 * 2**20
"""A sync that is killed loses at most this much of its work."""


def stored_parts(connection: "duckdb.DuckDBPyConnection") -> dict[str, int]:
    """md5 -> part of all shards that are stored."""
    return dict(connection.execute("SELECT md5, part FROM parts").fetchall())


def outdated_parts(connection: "duckdb.DuckDBPyConnection") -> dict[str, int]:
    """md5 -> part of the shards that had columns which the schema has gained since: they are worth reading again."""
    known = [column.name for table in TABLES.values() for column in table.columns]
    query = "SELECT md5, part FROM parts WHERE list_has_any(unknown_columns, ?::VARCHAR[])"
    return dict(connection.execute(query, [known]).fetchall())


def add_shards(
    connection: "duckdb.DuckDBPyConnection", wanted: Sequence[tuple[Shard, Path]], progress: Callable[[str], None]
) -> tuple[dict[str, int], int, dict[str, str]]:
    """Store shards, in transactions of at least BATCH_BYTES: each costs a wait for the disk.

    Returns md5 -> part, the number of rows, and md5 -> what is wrong, for shards whose bytes are not those that DVC
    recorded or that do not fit their table; the message names the file.
    """
    parts: dict[str, int] = {}
    faults: dict[str, str] = {}
    total = 0
    remaining = list(wanted)
    while remaining:
        batch: list[tuple[Shard, Path]] = []
        size = 0
        while remaining and size < BATCH_BYTES:
            batch.append(remaining.pop(0))
            size += batch[-1][1].stat().st_size
        while batch:
            connection.begin()
            stored: dict[str, int] = {}
            rows = 0
            faulty = None
            try:
                for shard, file in batch:
                    progress(f"{shard.path} ({file})")
                    try:
                        stored[shard.md5], count = _add_shard(connection, shard, file)
                    except ShardError as error:
                        faulty, faults[shard.md5] = (shard, file), str(error)
                        break
                    rows += count
            except BaseException:
                connection.rollback()
                raise
            if faulty is not None:
                # An error ends DuckDB's transaction: the others are stored without the one that failed.
                connection.rollback()
                batch.remove(faulty)
                continue
            connection.commit()
            parts |= stored
            total += rows
            break
    return parts, total, faults


def _add_shard(connection: "duckdb.DuckDBPyConnection", shard: Shard, file: Path) -> tuple[int, int]:
    import duckdb

    if md5(file) != shard.md5:
        raise ShardError(f"{file}: corrupted shard of table {shard.table} ({shard.path}): its MD5 is not {shard.md5}")
    try:
        return _insert_shard(connection, shard, file, pq.read_schema(file))
    except (duckdb.DataError, duckdb.ProgrammingError, pa.ArrowException) as error:
        raise ShardError(f"{file}: not a shard of table {shard.table} ({one_line(error)})") from error


def _insert_shard(connection: "duckdb.DuckDBPyConnection", shard: Shard, file: Path, own: pa.Schema) -> tuple[int, int]:
    columns = {column.name: sql_type(column.type) for column in TABLES[shard.table].columns}
    present = set(own.names)
    known = [part for (part,) in connection.execute("SELECT part FROM parts WHERE md5 = ?", [shard.md5]).fetchall()]
    if known:
        # Read again for columns that the schema has gained. It keeps its number: the versions that have it are written
        # in a later transaction, and a sync that is killed in between must leave them whole.
        _remove(connection, {shard.table: known})
    part = known[0] if known else _one(connection, "SELECT coalesce(max(part), 0) + 1 FROM parts")[0]
    names = ", ".join(f'"{name}"' for name in columns)
    values = ", ".join((f'"{name}"' if name in present else "NULL") + f"::{kind}" for name, kind in columns.items())
    store = f"store.{shard.table}"
    rows_of_file = "read_parquet(?, hive_partitioning = false)"
    connection.execute(f"INSERT INTO {store} (part, {names}) SELECT {part}, {values} FROM {rows_of_file}", [literally(file)])
    iteration = "iteration" if "iteration" in columns else "NULL"
    rows, lowest, highest = _one(
        connection, f"SELECT count(*), min({iteration}), max({iteration}) FROM {store} WHERE part = {part}"
    )
    version = int((own.metadata or {}).get(b"assay.schema_version", SCHEMA_VERSION))
    connection.execute(
        "INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            part, shard.md5, shard.table, rows, file.stat().st_size, version, shard.stage,
            lowest if lowest == highest else None, shard.path, sorted(present - set(columns)),
        ],
    )  # fmt: skip
    return part, rows


def literally(file: Path) -> str:
    """A path that DuckDB takes as it is: to `read_parquet` the characters * ? [ would be a pattern."""
    return re.sub(r"([*?\[])", r"[\1]", str(file))


def _one(connection: "duckdb.DuckDBPyConnection", query: str) -> tuple:
    return connection.execute(query).fetchall()[0]


def write_version(
    connection: "duckdb.DuckDBPyConnection", version: Version, contents: Contents, parts: Mapping[str, int]
) -> None:
    """Replace everything that is said about one version. Within a transaction of the caller."""
    forget_version(connection, version.name)
    connection.execute(
        "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            version.name, version.pipeline, version.kind, version.commit_id, version.committed_at, version.subject,
            list(version.parents), version.lock_hash, json.dumps(contents.params, sort_keys=True),
            sorted(contents.missing), contents.stale,
        ],
    )  # fmt: skip
    _insert(connection, "version_parts", [
        (version.name, parts[shard.md5], shard.stage, shard.path) for shard in contents.shards if shard.md5 in parts
    ])  # fmt: skip
    _insert(connection, "version_stages", [(version.name, *row) for row in contents.stages])
    _insert(connection, "version_params", [(version.name, key, value) for key, value in flatten(contents.params)])


def forget_version(connection: "duckdb.DuckDBPyConnection", name: str) -> None:
    """Remove a version, but not its rows: see `prune`."""
    connection.execute("DELETE FROM versions WHERE name = ?", [name])
    for table in ("version_parts", "version_stages", "version_params"):
        connection.execute(f"DELETE FROM {table} WHERE version = ?", [name])


def write_names(
    connection: "duckdb.DuckDBPyConnection", names: Mapping[str, tuple[str, str]], current: str | None
) -> None:
    """Replace all names by which versions can be asked for, `current` among them."""
    own = {name for (name,) in connection.execute("SELECT name FROM versions").fetchall()}
    rows = {name: (name, "version") for name in own} | {n: found for n, found in names.items() if found[0] in own}
    if current in own:
        rows["current"] = (current, "workspace")
    connection.execute("DELETE FROM version_names")
    add_names(connection, rows)


def add_names(connection: "duckdb.DuckDBPyConnection", names: Mapping[str, tuple[str, str]]) -> None:
    """name -> (version, kind of name)."""
    _insert(connection, "version_names", [(name, *found) for name, found in sorted(names.items())])


def remove_names(connection: "duckdb.DuckDBPyConnection", versions: Iterable[str], kind: str) -> None:
    """The names of these versions, and all of a kind."""
    connection.execute("DELETE FROM version_names WHERE kind = ? OR list_contains(?::VARCHAR[], version)", [kind, list(versions)])


def prune(connection: "duckdb.DuckDBPyConnection") -> None:
    """Delete the rows of shards that belong to no version: of a run that was cut short, or forgotten."""
    unused = "part NOT IN (SELECT part FROM version_parts)"
    rows = connection.execute(f"SELECT table_name, list(part) FROM parts WHERE {unused} GROUP BY table_name").fetchall()
    _remove(connection, dict(rows))


def _remove(connection: "duckdb.DuckDBPyConnection", parts: Mapping[str, list[int]]) -> None:
    for table, numbers in parts.items():
        chosen = ", ".join(map(str, numbers))
        connection.execute(f"DELETE FROM store.{table} WHERE part IN ({chosen})")
        connection.execute(f"DELETE FROM parts WHERE part IN ({chosen})")


def _insert(connection: "duckdb.DuckDBPyConnection", table: str, rows: Iterable[tuple]) -> None:
    """Many small rows, some hundred to a statement: executemany takes a statement for each."""
    rows = list(rows)
    for start in range(0, len(rows), ROWS_PER_STATEMENT):
        chunk = rows[start : start + ROWS_PER_STATEMENT]
        places = ", ".join(f"({', '.join('?' * len(row))})" for row in chunk)
        connection.execute(f"INSERT INTO {table} VALUES {places}", [value for row in chunk for value in row])
