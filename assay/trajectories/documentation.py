"""docs/schema.md, made from the schemas by `python docs/make_schema.py`, which knows the metrics too (a room to the
right of this one). A test checks that it is current.
"""

from collections.abc import Mapping

import pyarrow as pa

from assay.trajectories.schemas import SCHEMA_VERSION, TABLES, Table
from assay.trajectories.views import HEADLINE
from assay.trajectories.warehouse import sql_type

_HEAD = """# The record

*Made from `assay/trajectories/schemas.py` by `python docs/make_schema.py`; change it there.*

Each table is a set of Parquet shards, `TABLE.parquet` or `TABLE-0000.parquet ...`, in the outputs of the stages, and a
view of the warehouse `data/trajectories.duckdb` (docs/sql.md). Equal inputs and parameters give equal bytes: rows hold
no clock times, host names or absolute paths. Token ids are the truth, `text` is derived; except in imported rollouts
without ids (`finish_reason` is `unknown`, the lists are empty), where the text is all there is.

Schema version {version}, written into every shard. A column that a later version adds is null in the rows of older
shards; beyond that a column is never null unless the table says so.
"""

_WAREHOUSE = """
## Tables of the warehouse alone

| table | one row per | columns |
|---|---|---|
| `versions` | version | name, pipeline (staged, fused, imported, replay), kind (commit, experiment, workspace, past, import, replay), commit_id, committed_at, subject, parents, lock_hash (of dvc.lock), params (JSON, resolved), missing (outputs that are not in DVC's cache), stale (stages that were not run again after their inputs changed; their rows are left out) |
| `version_names` | name of a version | name, version, kind (version, commit, tag, branch, experiment, workspace, past); `current` is what the views show |
| `version_parts` | (version, shard) | version, part, stage, path |
| `version_stages` | (version, stage, path) | version, stage, role (input, output), path, hash |
| `version_params` | (version, parameter) | version, key (dotted), value (JSON) |
| `parts` | shard, stored once | part, md5, table_name, row_count, byte_count, schema_version, stage, iteration, path, unknown_columns |

The view `headline` has the columns of `verdicts` and, {headline}.

The rows themselves are in `store.TABLE`, with the `part` that they came with. No version's rows are changed or deleted by a sync,
except those of a run that was cut short in the workspace; `assay sync --forget` removes past runs.
"""  # noqa: E501


def schema_markdown(metrics: Mapping[str, str]) -> str:
    """The whole of docs/schema.md. `metrics`: name and meaning of the metrics of `evaluations`."""
    parts = [_HEAD.format(version=SCHEMA_VERSION)]
    for table in TABLES.values():
        parts.append(f"\n## {table.name}\n\nOne row per {table.row}.\n\n")
        parts.append("| column | type | null | meaning |\n|---|---|---|---|\n")
        for column in table.columns:
            null = "yes" if column.nullable else ""
            parts.append(f"| `{column.name}` | {type_name(column.type)} | {null} | {_escaped(column.meaning)} |\n")
    parts.append("\n## Metrics\n\nOf `evaluations.metric`.\n\n| metric | meaning |\n|---|---|\n")
    parts += [f"| `{name}` | {_escaped(meaning)} |\n" for name, meaning in metrics.items()]
    parts.append(_WAREHOUSE.format(headline=HEADLINE))
    return "".join(parts)


def describe(table: Table) -> str:
    """A table's columns as plain text."""
    names = max(len(column.name) for column in table.columns)
    lines = [f"{table.name}: one row per {table.row}"]
    lines += [f"  {c.name.ljust(names)}  {type_name(c.type)}; {c.meaning}".rstrip("; ") for c in table.columns]
    return "\n".join(lines)


def type_name(arrow: pa.DataType) -> str:
    """A column's type as DuckDB calls it, in lower case."""
    return sql_type(arrow).lower()


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
