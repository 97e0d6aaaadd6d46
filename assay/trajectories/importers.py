"""Foreign rollouts (JSON lines) as shards of the record: data/imported/NAME, version imported/NAME after a sync.

A line is an object with `prompt` (text or messages), `completion` (text, or a list for several samples) and `gold`.
It may have `prompt_ids`, `completion_ids`, `logprobs`, `reward`, `finish_reason` (one each, or a list of them where
there are several completions), `environment`, `split`, `verifier` and `meta`. Where token ids are missing the lists are
empty, the text is the truth and the finish reason is `unknown`.
"""

import fcntl
import json
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from assay.trajectories.contents import IMPORT_NOTE, IMPORTED
from assay.trajectories.gates.suites import LARGEST_LOGPROB
from assay.trajectories.identity import content_hash, file_digest, token_hash
from assay.trajectories.shards import publish_folder, write_shard

MakeTask = Callable[..., Mapping[str, Any]]
"""(environment, split, prompt, gold, verifier, meta) -> row of `tasks`; raises ValueError for a task that cannot be."""
KEYS = (
    "prompt", "completion", "gold", "prompt_ids", "completion_ids", "logprobs", "reward", "finish_reason",
    "environment", "split", "verifier", "meta",
)  # fmt: skip
FINISH_REASONS = ("stop", "length")
UNKNOWN = "unknown"
RULE = "imported"
"""Role and verifier of the verdicts that stand for rewards in the file."""
ROWS_PER_SHARD = 50_000
TOKENS_PER_SHARD = 8_000_000
"""Of prompts and completions: what is held in memory, as Python's lists, takes some 100 bytes for each."""
LOCK = Path(".assay/import.lock")
"""Held while an import works; the file stays."""
LARGEST_FLOAT = 3.4028234e38
"""Of float32, as which rewards and log-probabilities are stored."""


class ImportFailure(ValueError):
    """A file that cannot be imported, or an import that is not there. The message names file, row and key."""


def import_rollouts(
    file: Path, name: str, root: Path, make_task: MakeTask, *, columns: Mapping[str, str] | None = None,
    environment: str | None = None, split: str = "eval", verifier: str = "math_verify", replace: bool = False,
    verifiers: Collection[str] | None = None,
) -> dict[str, int]:  # fmt: skip
    """Read a file of rollouts into data/imported/NAME, whole or not at all. Returns rows by table.

    columns: key of the record -> key in the file, where they differ. environment, split, verifier: of rows that do
    not say. verifiers: names that a task may name (None: any). Raises ImportFailure, also when the name is taken and
    `replace` is not asked for.
    """
    if not re.fullmatch("[A-Za-z0-9_-]+", name):
        raise ImportFailure(f"the name {name!r} cannot be a folder's; use letters, digits, - and _")
    target = root / IMPORTED / name
    unknown = sorted(set(columns or {}) - set(KEYS))
    if unknown:
        raise ImportFailure(f"there is no key {', '.join(unknown)} to fill; the keys are {', '.join(KEYS)}")
    defaults = {"environment": environment or name, "split": split, "verifier": verifier}
    draft = target.with_name(f".{name}.partial")
    with _alone(root):
        if target.exists() and not replace:
            raise ImportFailure(f"{target} exists already; choose another --name, or say --replace")
        shutil.rmtree(draft, ignore_errors=True)
        return _import(_Reader(file, name, make_task, dict(columns or {}), defaults, verifiers), draft, target)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One import at a time: two of one name would write into each other's draft."""
    path = root / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ImportFailure(f"another import works in {root.resolve()}: let it end, then run this one again") from None
        yield


def _import(reader: "_Reader", draft: Path, target: Path) -> dict[str, int]:
    try:
        counts = _write(reader, draft)
        shown = reader.file.name.encode("utf-8", "replace").decode()  # a name that is no UTF-8 would be no JSON for others
        note = {"file": shown, "digest": file_digest(reader.file), **reader.defaults, "columns": reader.columns, "rows": counts}
        (draft / IMPORT_NOTE).write_text(json.dumps(note, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        publish_folder(draft, target)
    except OSError as error:
        raise ImportFailure(f"{target}: could not be written ({error.strerror or error}); free disk space") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return counts


def _write(reader: "_Reader", folder: Path) -> dict[str, int]:
    tables: dict[str, list[Mapping[str, Any]]] = {"trajectories": [], "verdicts": []}
    counts = {"tasks": 0, "trajectories": 0, "verdicts": 0}
    shard = tokens = 0

    def flush() -> None:
        nonlocal shard, tokens
        for table, rows in tables.items():
            if rows:
                write_shard(folder / f"{table}-{shard:04d}.parquet", table, rows)
                counts[table] += len(rows)
                rows.clear()
        shard, tokens = shard + 1, 0

    for trajectory, verdict in reader.rows():
        tables["trajectories"].append(trajectory)
        if verdict is not None:
            tables["verdicts"].append(verdict)
        tokens += len(trajectory["prompt_ids"]) + len(trajectory["completion_ids"])
        if len(tables["trajectories"]) >= ROWS_PER_SHARD or tokens >= TOKENS_PER_SHARD:
            flush()
    if not reader.tasks:
        raise ImportFailure(f"{reader.file}: there is no row in it")
    flush()
    write_shard(folder / "tasks.parquet", "tasks", list(reader.tasks.values()))
    return counts | {"tasks": len(reader.tasks)}


class _Reader:
    """Rows of one file, checked."""

    def __init__(
        self, file: Path, name: str, make_task: MakeTask, columns: dict[str, str], defaults: dict[str, str],
        verifiers: Collection[str] | None,
    ) -> None:  # fmt: skip
        self.file, self.name, self.make_task, self.columns, self.defaults = file, name, make_task, columns, defaults
        self.verifiers = verifiers
        self.tasks: dict[str, Mapping[str, Any]] = {}
        self.row_of: dict[str, int] = {}
        """task_id -> row that it was first read from."""
        self.samples: dict[str, int] = {}

    def rows(self) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
        """(trajectory, verdict or None) of each completion, in the order of the file."""
        try:
            with self.file.open(encoding="utf-8") as stream:
                for number, line in enumerate(stream, start=1):
                    if line.strip():
                        yield from self._completions(number, self._object(number, line))
        except UnicodeDecodeError as error:
            raise ImportFailure(f"{self.file}: not text in UTF-8 ({error.reason} at byte {error.start})") from error
        except OSError as error:
            raise ImportFailure(f"{self.file}: cannot be read ({error.strerror})") from error

    def _object(self, number: int, line: str) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            place = f"{error.msg} at character {error.pos + 1}"
            raise ImportFailure(f"{self.file}, row {number}: not JSON ({place})") from error
        except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists within lists without end
            raise ImportFailure(f"{self.file}, row {number}: JSON that cannot be read ({error})") from error
        if "\\ud" in line.lower() and not _is_text(row):
            raise ImportFailure(f"{self.file}, row {number}: half of a surrogate pair (\\ud800 to \\udfff), which is no text")
        if not isinstance(row, dict):
            raise ImportFailure(f"{self.file}, row {number}: {type(row).__name__}, expected an object")
        return row

    def _fail(self, number: int, key: str, problem: str) -> ImportFailure:
        return ImportFailure(f"{self.file}, row {number}, {self.columns.get(key, key)}: {problem}")

    def _completions(self, number: int, row: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
        given = {key: row.get(self.columns.get(key, key)) for key in KEYS}
        if given["completion"] is None and "completion" not in self.columns:
            given["completion"] = row.get("completions")
        for key in ("prompt", "completion", "gold"):
            if given[key] is None:
                known = ", ".join(row) or "none"
                raise self._fail(number, key, f"missing; the row has {known} (--columns {key}=KEY names another)")
        if isinstance(given["gold"], int | float) and not isinstance(given["gold"], bool):
            given["gold"] = str(given["gold"])
        for key, default in self.defaults.items():
            given[key] = default if given[key] is None else given[key]
        task = self._task(number, given)
        several = isinstance(given["completion"], list) and not _is_message(given["completion"])
        texts = given["completion"] if several else [given["completion"]]
        if not texts:
            raise self._fail(number, "completion", "an empty list")
        for index, text in enumerate(texts):
            parts = {}
            for key in ("completion_ids", "logprobs", "reward", "finish_reason"):
                value = given[key]
                if several and value is not None:
                    if not isinstance(value, list) or len(value) != len(texts):
                        raise self._fail(number, key, f"expected a list of {len(texts)}, one for each completion")
                    value = value[index]
                parts[key] = value
            yield self._trajectory(number, task, text, given["prompt_ids"], parts)

    def _task(self, number: int, given: Mapping[str, Any]) -> Mapping[str, Any]:
        names = ("environment", "split", "prompt", "gold", "verifier")
        if self.verifiers is not None and given["verifier"] not in tuple(self.verifiers):
            offered = ", ".join(sorted(self.verifiers))
            raise self._fail(number, "verifier", f"there is no {given['verifier']!r}; there are {offered}")
        try:
            task = self.make_task(*(given[name] for name in names), given["meta"])
        except (ValueError, TypeError) as error:
            raise ImportFailure(f"{self.file}, row {number}: {error}") from error
        identity = task["task_id"]
        first = self.row_of.setdefault(identity, number)
        known = self.tasks.setdefault(identity, task)
        for key in ("split", "verifier", "meta"):
            if known[key] != task[key]:
                problem = f"{task[key]!r}, but row {first} has {known[key]!r} for the same question; make them agree"
                raise self._fail(number, key, problem)
        return known

    def _trajectory(
        self, number: int, task: Mapping[str, Any], completion: Any, prompt_ids: Any, parts: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        text = completion[-1]["content"] if _is_message(completion) else completion
        if not isinstance(text, str):
            raise self._fail(number, "completion", f"{type(text).__name__}, expected text")
        ids = self._numbers(number, "completion_ids", parts["completion_ids"], int)
        logprobs = self._numbers(number, "logprobs", parts["logprobs"], float)
        if parts["logprobs"] is not None and len(logprobs) != len(ids):
            problem = f"{len(logprobs)} numbers for {len(ids)} completion_ids; there must be one for each"
            raise self._fail(number, "logprobs", problem)
        if any(value > LARGEST_LOGPROB for value in logprobs):
            raise self._fail(number, "logprobs", "a log-probability above 0")
        reason = parts["finish_reason"] or UNKNOWN
        if reason not in (*FINISH_REASONS, UNKNOWN):
            raise self._fail(number, "finish_reason", f"{reason!r}, expected one of {', '.join(FINISH_REASONS)}")
        index = self.samples.get(task["task_id"], 0)
        self.samples[task["task_id"]] = index + 1
        identity = content_hash("imported", self.name, task["task_id"], index, text, token_hash(ids))
        trajectory = {
            "trajectory_id": identity, "iteration": 0, "round": 0, "policy": self.name, "task_id": task["task_id"],
            "group_id": content_hash("imported", self.name, task["task_id"]), "sample_index": index,
            "kind": "evaluation", "parent_id": None,
            "prompt_ids": self._numbers(number, "prompt_ids", prompt_ids, int), "completion_ids": ids,
            "loss_mask": [True] * len(ids), "sampled_logprobs": logprobs, "finish_reason": reason, "text": text,
            "sampling": {"engine": "imported", "engine_version": ""},
        }  # fmt: skip
        return trajectory, self._verdict(number, identity, parts["reward"])

    def _verdict(self, number: int, identity: str, reward: Any) -> dict[str, Any] | None:
        """The file's own reward, as a verdict of the role `imported`: correct from 1 upwards."""
        if reward is None:
            return None
        if not _is_number(reward):
            raise self._fail(number, "reward", f"{_short(reward)}, expected a number of at most {LARGEST_FLOAT:.2g}")
        return {
            "trajectory_id": identity, "iteration": 0, "round": 0, "verifier": RULE, "verifier_version": "",
            "role": RULE, "verdict": "correct" if reward >= 1 else "wrong", "reason": RULE, "score": float(reward),
            "observed_reward": float(reward), "appealed": False, "flipped": False,
        }  # fmt: skip

    def _numbers(self, number: int, key: str, values: Any, kind: type) -> list[Any]:
        if values is None:
            return []
        allowed = (int,) if kind is int else (int, float)
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise self._fail(number, key, f"{type(values).__name__}, expected a list of numbers")
        for value in values:
            if not isinstance(value, allowed) or isinstance(value, bool) or not _is_number(value):
                wanted = "whole numbers" if kind is int else "numbers"
                raise self._fail(number, key, f"{_short(value)} in it, expected {wanted}")
            if kind is int and not 0 <= value < 2**31:
                raise self._fail(number, key, f"{_short(value)} in it, which is no token id")
        return [kind(value) for value in values]


def _is_number(value: Any) -> bool:
    """Whether it is a number that float32 holds; whole numbers of JSON have no limit."""
    return isinstance(value, int | float) and -LARGEST_FLOAT <= value <= LARGEST_FLOAT


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _is_text(value: Any) -> bool:
    """Whether all strings in it can be stored as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_message(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(m, dict) and "content" in m for m in value)
