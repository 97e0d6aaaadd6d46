"""The record: schemas, deterministic Parquet shards, the DuckDB warehouse, Great Expectations gates.

Names are imported when they are first used: rewards and worker processes need hashes from here, and must not load Arrow for them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.trajectories.gates import GateError, GateResult, Limits, run_gate
    from assay.trajectories.identity import content_hash, file_digest, seed_from, token_hash, tree_digest
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
    from assay.trajectories.warehouse_query import IncompleteWarning, QueryError, query
    from assay.trajectories.warehouse_sync import SyncReport, rebuild, sync

__all__ = [
    "SCHEMA_VERSION", "TABLES", "GateError", "GateResult", "IncompleteWarning", "Limits", "QueryError", "ShardError",
    "SyncReport", "WarehouseError", "content_hash", "file_digest", "is_readable", "publish_folder", "query", "read_table", "rebuild",
    "run_gate", "schema", "seed_from", "shard_files", "sync", "sync_file", "to_table", "token_hash", "tree_digest",
    "write_shard",
]  # fmt: skip

_MODULES = {
    "gates": ("GateError", "GateResult", "Limits", "run_gate"),
    "identity": ("content_hash", "file_digest", "seed_from", "token_hash", "tree_digest"),
    "schemas": ("SCHEMA_VERSION", "TABLES", "schema"),
    "shards": (
        "ShardError", "is_readable", "publish_folder", "read_table", "shard_files", "sync_file", "to_table", "write_shard",
    ),
    "warehouse": ("WarehouseError",),
    "warehouse_query": ("IncompleteWarning", "QueryError", "query"),
    "warehouse_sync": ("SyncReport", "rebuild", "sync"),
}  # fmt: skip
_HOMES = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
