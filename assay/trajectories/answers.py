"""Answers to queries as text for people, or as CSV, JSON and Parquet for programs, written batch by batch."""

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

NARROWEST = 10
"""Characters below which no column of a table is cut."""
GAP = "  "


class AnswerError(ValueError):
    """A file that an answer cannot be written to. The message says why."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place at the end; where something fails, all is as it was.

    Raises AnswerError where the file cannot be written. Errors of Arrow and of the question keep their types.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(b"")
        yield partial
        os.replace(partial, path)
    except OSError as error:
        advice = "choose another --output, or free disk space"
        raise AnswerError(f"{path}: could not be written ({error.strerror or error}); {advice}") from error
    finally:
        _forget(partial)


def _forget(partial: Path) -> None:
    try:
        partial.unlink(missing_ok=True)
    except OSError:
        pass  # its folder is a file, say: then it was never made, which has been said


def rows_of(reader: pa.RecordBatchReader) -> Iterator[dict[str, Any]]:
    """Rows in turn. Two columns of one name are told apart by a number."""
    names = column_names(reader)
    for batch in reader:
        for values in _rows(batch):
            yield dict(zip(names, values, strict=True))


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)


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
    shown: list[list[str]] = []
    total = 0
    for batch in reader:
        # Rows that are not shown are counted, not made into Python's.
        wanted = batch.num_rows if limit is None else limit - len(shown)
        shown += [[cell(value) for value in row] for row in _rows(batch.slice(0, wanted))]
        total += batch.num_rows
    rest = total - len(shown)
    names = [printable(name) for name in names]
    widths = [max(map(len, [name, *(row[i] for row in shown)])) for i, name in enumerate(names)]
    fitting = len(names)
    if width is not None:
        widths, fitting = fit(widths, width)
    numbers = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    right = [any(is_number(kind) for is_number in numbers) for kind in reader.schema.types]

    def line(cells: list[str]) -> str:
        parts = [cut(text, size) for text, size in zip(cells, widths, strict=False)]
        parts = [p.rjust(w) if r else p.ljust(w) for p, w, r in zip(parts, widths, right, strict=False)]
        return GAP.join(parts[:fitting]).rstrip()

    print(line(names), file=out)
    print(GAP.join("-" * size for size in widths[:fitting]), file=out)
    for row in shown:
        print(line(row), file=out)
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
    """Text of at most `width` characters, the last of them an ellipsis where something was cut."""
    return text if len(text) <= width else text[: width - 1] + "…"


def printable(text: str) -> str:
    """Text without what steers a terminal: sampled text holds any character."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cell(value: Any) -> str:
    """One value on one line."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, list | dict):
        return printable(json.dumps(_rounded(plain(value)), ensure_ascii=False, default=str))
    return printable(str(value))


def plain(value: Any) -> Any:
    """A value as JSON knows values: Arrow gives a map as a list of pairs, and a sum of integers as a decimal."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        if value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
            return {str(key): plain(item) for key, item in value}
        return [plain(item) for item in value]
    if isinstance(value, Decimal) and value.is_finite():
        return int(value) if value == value.to_integral_value() else float(value)
    return value


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
    return json.dumps(_finite(plain(value)), ensure_ascii=False, allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def write_parquet(reader: pa.RecordBatchReader, path: Path) -> None:
    """A Parquet file."""
    names = column_names(reader)
    schema = pa.schema([field.with_name(name) for field, name in zip(reader.schema, names, strict=True)])
    with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
        for batch in reader:
            writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema))
