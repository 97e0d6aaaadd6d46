"""The record: schemas, deterministic Parquet shards, the DuckDB warehouse, Great Expectations gates."""

from assay.trajectories.identity import content_hash, file_digest, seed_from, token_hash, tree_digest
from assay.trajectories.schemas import SCHEMA_VERSION, TABLES, schema
from assay.trajectories.shards import ShardError, is_readable, publish_folder, read_table, shard_files, sync_file, to_table, write_shard

__all__ = [
    "SCHEMA_VERSION", "TABLES", "ShardError", "content_hash", "file_digest", "is_readable", "publish_folder", "read_table",
    "schema", "seed_from", "shard_files", "sync_file", "to_table", "token_hash", "tree_digest", "write_shard",
]
