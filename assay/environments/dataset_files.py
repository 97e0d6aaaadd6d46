"""Reading a user's data set with Hugging Face `datasets`: files, folders, hub names, and errors that name them."""

import csv
import glob
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.environments.task import TaskError
from assay.params.data import UserDataset

READERS = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
"""By the suffix of a file: the reader of `datasets`."""
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NOT_TEXT = ("Image", "Audio", "Video", "Pdf")


@dataclass(frozen=True)
class Rows:
    """What was read."""

    label: str
    """What a person calls it: the path as written in params.yaml, with the split where it has several."""
    columns: tuple[str, ...]
    """All that there are; rows hold those that are mapped or kept."""
    rows: list[dict[str, Any]]
    left_out: tuple[str, ...]
    """Columns that hold images, sound or the like."""
    narrow: frozenset[str] = frozenset()
    """Columns of floating-point numbers shorter than Python's."""
    commit: str | None = None
    """Of a hub data set."""


def read_rows(params: UserDataset, root: Path, split: str) -> Rows:
    """All rows of one split, in the order of the data set. Raises TaskError naming file and, where it can be told,
    line."""
    path = root / params.path
    if params.revision is not None and path.exists():
        raise TaskError(f"{params.path} is here: `revision` is for hub data sets, leave it out")
    if path.is_file():
        return _read_file(params, path, split)
    if path.is_dir():
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            return _read_saved(params, path, split)
        with tempfile.TemporaryDirectory(prefix="assay-datasets-") as cache:
            options = _as_text(params, sorted(path.rglob("*.csv")))
            return _load(params, split, path=str(path), name=params.name, split=split, cache_dir=cache, **options)
    outside = params.path.startswith((".", "/", "~")) or Path(params.path).suffix.lower() in READERS
    if outside or not _HUB_NAME.fullmatch(params.path):
        raise TaskError(
            f"{params.path}: no such file or folder (looked at {path}); `path` is a file, a folder, or the "
            "name of a hub data set"
        )
    read = _load(params, split, path=params.path, name=params.name, split=split, revision=params.revision)
    if params.revision is not None and _COMMIT.fullmatch(params.revision) and read.commit not in (None, params.revision):
        # Where the hub cannot be reached `datasets` takes what its cache has, whatever the revision.
        raise TaskError(f"{read.label}: the hub did not give revision {params.revision}, and the local cache has {read.commit}")
    return read


def _read_file(params: UserDataset, path: Path, split: str) -> Rows:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise TaskError(
            f"{params.path}: files of type {path.suffix or 'without suffix'} are not read; expected one of "
            f"{', '.join(READERS)}"
        )
    if split != "train" or params.name is not None:
        raise TaskError(
            f"{params.path} is one file: `split`, `eval_split` and `name` are for Hugging Face data sets; "
            "give the column of the split in `columns`"
        )
    if path.stat().st_size == 0:
        raise TaskError(f"{params.path}: the file is empty")
    options = _as_text(params, [path]) if reader == "csv" else {}
    with tempfile.TemporaryDirectory(prefix="assay-datasets-") as cache:
        try:
            files = glob.escape(str(path.absolute()))
            read = _load(params, None, path=reader, data_files=files, split="train", cache_dir=cache, **options)
            return _as_written(read, path) if reader == "json" else read
        except TaskError as error:
            lines = reader == "json" and not path.read_text(encoding="utf-8-sig", errors="replace").lstrip().startswith("[")
            if lines and (place := _bad_line(path)):
                raise TaskError(f"{params.path}, {place}") from error
            raise


def _as_text(params: UserDataset, files: Sequence[Path]) -> dict[str, Any]:
    """How CSV files are read: as text throughout, for 007, 0.50 and NA are golds as good as any, not numbers and nulls."""
    if not files:
        return {}
    import datasets

    headers = [_header(params, file) for file in files]
    for file, header in zip(files, headers, strict=True):
        if header != headers[0]:
            raise TaskError(f"{params.path}: {file.name} has other columns than {files[0].name}; give all its CSV files the same header")
    return {"features": datasets.Features({name: datasets.Value("string") for name in headers[0]}), "na_filter": False}


def _read_saved(params: UserDataset, path: Path, split: str) -> Rows:
    """A folder written by `save_to_disk`: one data set, or several splits."""
    import datasets

    with _quiet():
        try:
            saved = datasets.load_from_disk(str(path))
        except Exception as error:  # of whatever kind: a damaged folder
            raise TaskError(
                f"{params.path}: cannot be read as a data set saved by save_to_disk: {_short(error)}"
            ) from error
        if not isinstance(saved, datasets.DatasetDict):
            if split != "train":
                raise TaskError(
                    f"{params.path} holds one data set without splits, so split {split!r} cannot be read from it"
                )
            return _rows(params, saved, params.path)
        if split not in saved:
            raise TaskError(f"{params.path}: no split {split!r}; it has {', '.join(saved)}")
        return _rows(params, saved[split], f"{params.path} (split {split})")


def _load(params: UserDataset, shown_split: str | None, **arguments: Any) -> Rows:
    import datasets

    with _quiet():
        try:
            loaded = datasets.load_dataset(**arguments)
        except Exception as error:  # `datasets` raises a dozen kinds, all of them about the user's data
            if "corresponds to no data" in str(error):
                raise TaskError(f"{params.path}: no rows") from error
            hint = (
                ""
                if Path(arguments["path"]).exists() or shown_split is None
                else "; no file or folder of this name exists either"
            )
            raise TaskError(f"{params.path}: cannot be read: {_short(error)}{hint}") from error
        return _rows(params, loaded, params.path if shown_split is None else f"{params.path} (split {shown_split})")


def _rows(params: UserDataset, loaded: Any, label: str) -> Rows:
    columns = tuple(loaded.column_names)
    if params.keep is not None:
        unknown = [name for name in params.keep if name not in columns]
        if unknown:
            raise TaskError(f"{label}: `keep` names {', '.join(unknown)}, but its columns are {', '.join(columns)}")
        wanted = {*mapping(params).values(), *params.keep}
        loaded = loaded.select_columns([name for name in columns if name in wanted])
    left_out = tuple(name for name in loaded.column_names if type(loaded.features[name]).__name__ in _NOT_TEXT)
    narrow = frozenset(name for name in loaded.column_names if getattr(loaded.features[name], "dtype", None) in ("float16", "float32"))
    try:
        rows = loaded.remove_columns(list(left_out)).to_list()
    except UnicodeDecodeError as error:
        raise TaskError(f"{label}: its text is not UTF-8 ({error.reason}); save it as UTF-8") from error
    return Rows(label, columns, rows, left_out, narrow, _commit(loaded))


def _as_written(read: Rows, path: Path) -> Rows:
    """The integers and texts of a JSON file as they stand there: Arrow makes doubles of all where one is beyond 64 bits or has a fraction,
    and times of texts that look like times. Other layouts than an object a row stay as they are."""
    try:
        with path.open(encoding="utf-8-sig") as stream:
            if path.suffix.lower() == ".json":
                objects = json.load(stream)
            else:
                objects = [json.loads(line) for line in stream if line.strip()]
    except (ValueError, RecursionError):
        return read
    if not isinstance(objects, list) or len(objects) != len(read.rows) or not all(isinstance(written, dict) for written in objects):
        return read
    for row, written in zip(read.rows, objects, strict=True):
        row |= {name: written[name] for name in row if type(written.get(name)) in (int, str)}
    return read


def mapping(params: UserDataset) -> dict[str, str]:
    """The column of each field."""
    return {"prompt": "prompt", "gold": "gold"} | dict(params.columns)


def _commit(loaded: Any) -> str | None:
    """The commit of a hub data set: `datasets` names the folder of its cache by it, online and offline."""
    folders = (Path(file["filename"]).parent.name for file in loaded.cache_files)
    return next((name for name in folders if _COMMIT.fullmatch(name)), None)


def _header(params: UserDataset, path: Path) -> list[str]:
    """Column names of a CSV file. Raises TaskError for a line with too many or too few fields: pandas, which reads the
    file in the end, would shift the one into other columns and fill up the other."""
    try:
        csv.field_size_limit(2**31 - 1)
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = next(reader, [])
            for row in reader:
                if row and len(row) != len(header):
                    raise TaskError(
                        f"{params.path}, line {reader.line_num}: {len(row)} fields, but the header names {len(header)} "
                        "columns; put text with commas into quotation marks"
                    )
    except (UnicodeDecodeError, csv.Error) as error:
        raise TaskError(f"{params.path}: not a CSV file in UTF-8: {error}") from error
    if len(set(header)) != len(header):
        raise TaskError(f"{params.path}: the header names a column twice: {', '.join(header)}")
    return header


def _bad_line(path: Path) -> str | None:
    """The first line of a JSON lines file that is not an object, with what is wrong."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                value = json.loads(line)
            except ValueError as error:
                return f"line {number}: {'the line is empty' if not line.strip() else f'not valid JSON: {error}'}"
            if not isinstance(value, dict):
                return f"line {number}: expected a JSON object, found {type(value).__name__}"
    return None


def _short(error: BaseException) -> str:
    """The message of an error and of what caused it, on one line."""
    parts = [f"{type(e).__name__}: {' '.join(str(e).split())}" for e in (error, error.__cause__) if e is not None]
    return "; ".join(parts)[:400]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's bars and log lines: its errors reach the person through TaskError."""
    import datasets

    level, bars = datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()
