"""Deterministic Parquet shards: equal rows give equal bytes, a shard is published whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from assay.trajectories.schemas import SCHEMA_VERSION, schema

ROW_GROUP = 65_536
_LIST = "list.element"
"""Name of a list's elements in a path of Parquet."""


class ShardError(RuntimeError):
    """A shard that cannot be read or written. The message names the file and says what to do."""


class UnreadableShard(ShardError, ValueError):
    """A shard that is missing, damaged or of another table: a person must act, reading again would fail again."""


def to_table(name: str, rows: Sequence[Mapping[str, Any]] | pa.Table) -> pa.Table:
    """Rows as an Arrow table of the record's schema. Raises ShardError for a missing column or a forbidden null."""
    target = schema(name)
    try:
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=target)
        table = table.select(target.names)
        for field in target:
            if not field.nullable and table.column(field.name).null_count:
                raise ShardError(f"table {name}: column {field.name} holds nulls, which its schema forbids")
        return table.cast(target)
    except (ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise ShardError(f"table {name}: rows do not fit its schema: {error}") from error


def write_shard(path: Path, name: str, rows: Sequence[Mapping[str, Any]] | pa.Table) -> pa.Table:
    """Write one shard atomically (temporary file, fsync, rename). Raises ShardError, also when the disk is full."""
    table = to_table(name, rows)
    own = {"assay.table": name, "assay.schema_version": str(SCHEMA_VERSION), "assay.columns": _names(table.schema)}
    table = table.replace_schema_metadata(own)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        plain, split = _encodings(table.schema)
        # One chunk: the caller's chunking must not show in the bytes.
        # Checksums: nine of ten flipped bits go unnoticed without them.
        pq.write_table(
            table.combine_chunks(), temporary, compression="zstd", compression_level=3, row_group_size=ROW_GROUP,
            store_schema=True, write_page_checksum=True, use_dictionary=plain, use_byte_stream_split=split,
        )  # fmt: skip
        sync_file(temporary)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = error.strerror or error
        raise ShardError(f"{path}: could not be written ({reason}); free disk space, then run again") from error
    return table


def _encodings(schema: pa.Schema) -> tuple[list[str], list[str]]:
    """Paths of the columns that have a dictionary, and of those whose values are split by byte before compression.

    Log-probabilities and entropies hardly repeat, and their signs and exponents compress well apart from their digits:
    trajectories of 500 tokens become 17 % smaller, token statistics 14 to 30 %, the short answers of the default run
    7 % (benchmarks/storage.py prints it).
    """
    plain: list[str] = []
    split: list[str] = []

    def visit(path: str, kind: pa.DataType) -> None:
        if pa.types.is_struct(kind):
            for field in kind:
                visit(f"{path}.{field.name}", field.type)
        elif pa.types.is_list(kind):
            own = kind.value_type
            split.append(f"{path}.{_LIST}") if pa.types.is_float32(own) else visit(f"{path}.{_LIST}", own)
        else:
            plain.append(path)

    for field in schema:
        visit(field.name, field.type)
    return plain, split


def read_table(name: str, *paths: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """All shards of a table below the given files or folders (NAME.parquet or NAME-*.parquet, in name order)."""
    files = [file for path in paths for file in shard_files(name, path)]
    if not files:
        raise UnreadableShard(f"{', '.join(map(str, paths))}: no shard of table {name} found; run the stage that writes it")
    target = schema(name)
    wanted = list(columns) if columns is not None else target.names
    return pa.concat_tables([_read_file(file, name, wanted, target) for file in files])


def _read_file(file: Path, name: str, wanted: Sequence[str], target: pa.Schema) -> pa.Table:
    """The wanted columns of one shard. Raises ShardError, also for a shard of another table."""
    try:
        own = pq.read_schema(file)
        metadata = own.metadata or {}
        written_as = metadata.get(b"assay.table", name.encode())
        if written_as != name.encode():
            raise UnreadableShard(f"{file}: a shard of table {written_as.decode(errors='replace')}, expected {name}")
        if metadata.get(b"assay.columns", _names(own).encode()) != _names(own).encode():
            # A damaged column name would pass for a column that an older shard lacks.
            raise pa.ArrowInvalid("its columns are not those that were written")
        columns = [column for column in wanted if column in own.names]
        table = pq.read_table(file, columns=columns, partitioning=None, page_checksum_verification=True)
        return _conform(table, wanted, target)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        detail = str(error).splitlines()[0]
        advice = "delete it and run its stage again"
        raise UnreadableShard(f"{file}: corrupted shard of table {name} ({detail}); {advice}") from error


def _names(schema: pa.Schema) -> str:
    """Names of all columns and of the fields inside them."""

    def within(field: pa.Field) -> str:
        kind = field.type
        while pa.types.is_list(kind):
            kind = kind.value_type
        inside = f"({','.join(map(within, kind))})" if pa.types.is_struct(kind) else ""
        return f"{field.name}{inside}"

    return ",".join(map(within, schema))


def shard_files(name: str, path: Path) -> list[Path]:
    """Files of one table at or below a path, in a stable order."""
    if path.is_file():
        return [path]
    return sorted(p for p in path.rglob("*.parquet") if p.stem == name or p.stem.startswith(f"{name}-"))


def is_readable(path: Path) -> bool:
    """Whether a shard's footer and all of its pages can be read."""
    try:
        pq.read_table(path, partitioning=None, page_checksum_verification=True)
    except (pa.ArrowException, OSError):
        return False
    return True


def _conform(table: pa.Table, names: Iterable[str], target: pa.Schema) -> pa.Table:
    """Columns of the current schema; those that an older shard lacks are null."""
    columns = []
    for name in names:
        field = target.field(name)
        column = table.column(name).cast(field.type) if name in table.column_names else pa.nulls(len(table), field.type)
        columns.append(column)
    return pa.table(columns, schema=pa.schema([target.field(n).with_nullable(True) for n in names]))


def sync_file(path: Path) -> None:
    """Force a file's bytes to disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def publish_folder(source: Path, target: Path) -> None:
    """Replace the folder `target` by `source` in two renames; at every moment one complete folder can be found, between
    the renames as .NAME.old.

    Source and target lie on one file system. What a killed earlier call has left behind is removed, at the end.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    old = target.with_name(f".{target.name}.old")
    for file in source.rglob("*"):
        if file.is_file():
            sync_file(file)
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(target, old)
    try:
        os.replace(source, target)
    except OSError:
        if old.exists() and not target.exists():
            os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)
