"""Answers to queries as text for people, or as CSV, JSON and Parquet for programs. All are written batch by batch."""

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

NARROWEST = 10
"""Characters below which no column of a table is cut."""
GAP = "  "


def rows_of(reader: pa.RecordBatchReader) -> Iterator[dict[str, Any]]:
    """Rows in turn. Two columns of one name are told apart by a number."""
    names = column_names(reader)
    for batch in reader:
        columns = [column.to_pylist() for column in batch.columns]
        for values in zip(*columns, strict=True):
            yield dict(zip(names, values, strict=True))


def column_names(reader: pa.RecordBatchReader) -> list[str]:
    """Names of the columns, each once: a, b, a_1."""
    seen: dict[str, int] = {}
    names = []
    for name in reader.schema.names:
        count = seen.get(name, 0)
        seen[name] = count + 1
        names.append(f"{name}_{count}" if count else name)
    return names


def write_text(reader: pa.RecordBatchReader, out: TextIO, *, width: int | None, limit: int | None) -> None:
    """A table of at most `limit` rows and `width` characters (None: no bound); what was left out is said below it."""
    names = column_names(reader)
    if not names:
        return
    rows = rows_of(reader)
    shown = [[cell(value) for value in row.values()] for row in islice(rows, limit)]
    rest = sum(1 for _ in rows)
    widths = [max(map(len, [name, *(row[i] for row in shown)])) for i, name in enumerate(names)]
    fitting = len(names)
    if width is not None:
        widths, fitting = fit(widths, width)
    right = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in reader.schema.types]

    def line(cells: list[str]) -> str:
        parts = [cut(text, size) for text, size in zip(cells, widths, strict=False)]
        parts = [p.rjust(w) if r else p.ljust(w) for p, w, r in zip(parts, widths, right, strict=False)]
        return GAP.join(parts[:fitting]).rstrip()

    print(line(names), file=out)
    print(GAP.join("-" * size for size in widths[:fitting]), file=out)
    for row in shown:
        print(line(row), file=out)
    total = len(shown) + rest
    notes = [f"{total:,} row{'' if total == 1 else 's'}"]
    if rest:
        notes.append(f"{rest:,} not shown (--rows 0 shows all)")
    if fitting < len(names):
        left = len(names) - fitting
        notes.append(f"{left} column{'' if left == 1 else 's'} not shown (--wide shows all)")
    print(f"({', '.join(notes)})", file=out)


def fit(widths: list[int], width: int) -> tuple[list[int], int]:
    """Widths that fit into a line, the widest cut first, and how many of the columns fit at all."""
    widths = list(widths)
    count = len(widths)
    while sum(widths[:count]) + len(GAP) * (count - 1) > width:
        widest = max(range(count), key=lambda i: widths[i])
        if widths[widest] > NARROWEST:
            second = max((w for i, w in enumerate(widths[:count]) if i != widest), default=NARROWEST)
            excess = sum(widths[:count]) + len(GAP) * (count - 1) - width
            widths[widest] = max(NARROWEST, min(second, widths[widest] - 1), widths[widest] - excess)
        elif count > 1:
            count -= 1
        else:
            break
    return widths, count


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def cell(value: Any) -> str:
    """One value on one line."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | dict):
        return json.dumps(_rounded(value), ensure_ascii=False, default=str)
    return str(value).replace("\n", "\\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def write_csv(reader: pa.RecordBatchReader, out: TextIO) -> None:
    """CSV with a header; null is empty, lists and structs are JSON."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(column_names(reader))
    for row in rows_of(reader):
        writer.writerow([_json(v) if isinstance(v, list | dict) else v for v in row.values()])


def write_json(reader: pa.RecordBatchReader, out: TextIO) -> None:
    """One array of objects. What JSON has no number for (infinity, not a number) is null."""
    out.write("[")
    for index, row in enumerate(rows_of(reader)):
        out.write(("," if index else "") + "\n " + _json(row))
    out.write("\n]\n")


def _json(value: Any) -> str:
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def write_parquet(reader: pa.RecordBatchReader, path: Path) -> None:
    """A Parquet file, whole or not at all."""
    names = column_names(reader)
    schema = pa.schema([field.with_name(name) for field, name in zip(reader.schema, names, strict=True)])
    partial = path.with_name(f".{path.name}.partial")
    try:
        with pq.ParquetWriter(partial, schema, compression="zstd", write_page_checksum=True) as writer:
            for batch in reader:
                writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
