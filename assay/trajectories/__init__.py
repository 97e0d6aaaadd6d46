"""The record: schemas, deterministic Parquet shards, the DuckDB warehouse, Great Expectations gates."""

from assay.trajectories.gates import GateError, GateResult, Limits, run_gate
from assay.trajectories.identity import content_hash, file_digest, seed_from, token_hash, tree_digest
from assay.trajectories.query import IncompleteWarning, QueryError, query
from assay.trajectories.schemas import SCHEMA_VERSION, TABLES, schema
from assay.trajectories.shards import (
    ShardError,
    is_readable,
    publish_folder,
    read_table,
    shard_files,
    sync_file,
    to_table,
    write_shard,
)
from assay.trajectories.warehouse import WarehouseError
from assay.trajectories.warehouse_sync import SyncReport, rebuild, sync

__all__ = [
    "SCHEMA_VERSION", "TABLES", "GateError", "GateResult", "IncompleteWarning", "Limits", "QueryError", "ShardError",
    "SyncReport", "WarehouseError", "content_hash", "file_digest", "is_readable", "publish_folder", "query", "read_table", "rebuild",
    "run_gate", "schema", "seed_from", "shard_files", "sync", "sync_file", "to_table", "token_hash", "tree_digest",
    "write_shard",
]  # fmt: skip
