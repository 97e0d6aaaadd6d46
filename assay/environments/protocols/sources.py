"""Raw texts about protocols, as a person has them: a folder of text files, or a file of JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.environments.protocols.executor import ExecutorError, execute
from assay.environments.protocols.records import RecordError, Rejected, check_text, read_rows
from assay.environments.task import TaskError
from assay.trajectories import content_hash

SUFFIXES = (".txt", ".md")


@dataclass(frozen=True)
class Source:
    """A text that questions are made of."""

    identity: str
    text: str
    bench: dict[str, Any] | None = None
    """The bench on which its protocol can be carried out (see `executor`), where somebody has described one."""


def read_sources(path: Path, max_characters: int) -> tuple[list[Source], list[Rejected]]:
    """The texts of a folder (.txt, .md; by name) or of a file ({text[, id][, bench]}, JSON lines or one array), and what is not used.

    Raises TaskError where nothing can be read.
    """
    found: dict[str, Source] = {}
    rejected: list[Rejected] = []
    for where, row in _rows(path):
        try:
            source = _source(row, max_characters)
            if source.identity in found:
                raise RecordError(f"the id {source.identity!r} occurs before")
        except RecordError as error:
            rejected.append(Rejected(where, str(error)))
        else:
            found[source.identity] = source
    return list(found.values()), rejected


def _rows(path: Path) -> list[tuple[str, Any]]:
    if not path.is_dir():
        return [(f"{path.name}, record {number}", row) for number, row in enumerate(read_rows(path), 1)]
    files = [file for file in sorted(path.iterdir()) if file.suffix in SUFFIXES]
    if not files:
        raise TaskError(f"{path.name}: no file whose name ends in {' or '.join(SUFFIXES)}")
    try:
        return [(file.name, {"id": file.stem, "text": file.read_text(encoding="utf-8-sig")}) for file in files]
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path.name}: a file cannot be read: {error}") from error


def _source(row: Any, max_characters: int) -> Source:
    if isinstance(row, RecordError):
        raise row
    if isinstance(row, Mapping):
        check_text(row)
    text = row.get("text") if isinstance(row, Mapping) else None
    if not isinstance(text, str) or not text.strip():
        raise RecordError("is no object with a text")
    text = text.strip()
    if len(text) > max_characters:
        raise RecordError(f"has {len(text):,} characters, more than backend.max_characters, {max_characters:,}")
    identity = str(row["id"]) if row.get("id") not in (None, "") else content_hash(text)
    return Source(identity, text, _bench(row.get("bench")))


def _bench(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    try:
        bench: dict[str, Any] = {"allowed": []} | dict(value)
        execute("", bench)
    except (ExecutorError, TypeError, ValueError, OverflowError) as error:
        raise RecordError(f"bench cannot be used: {error}") from error
    have, sheet = bench.get("have") or {}, bench.get("sheet") or {}
    if not isinstance(have, Mapping) or not all(isinstance(amount, str) for amount in have.values()):
        raise RecordError("bench cannot be used: have is no object of texts, such as {\"buffer\": \"5 ml\"}")
    if not isinstance(sheet, Mapping) or not all(
        isinstance(listed, list) and all(isinstance(one, str) for one in listed) for listed in sheet.values()
    ):
        raise RecordError("bench cannot be used: sheet is no object of lists of texts")
    return bench
