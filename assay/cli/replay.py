"""`assay verify --replay`: stored trajectories judged again. Without a name what has changed is printed; with one it is kept: verdicts of
the role `replayed` beside those that there were, as version replay/NAME."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from assay.params.verification import VerificationParams
from assay.verifiers.columns import VERDICT_COLUMNS

KEYS = ("trajectory_id", "role")
SAID = ("verifier", "verifier_version", "verdict", "reason", "score", "answer", "answer_format", "components")
"""What is compared: what verifiers say. Noise and appeals, which come after them, are not repeated."""
SHOWN = 20
SHARD = "verdicts-replayed.parquet"


class ReplayFailure(ValueError):
    """A replay that cannot be. The message says what is wrong and what to do."""


@dataclass(frozen=True)
class Stored:
    """What is judged again."""

    label: str
    version: str | None
    """Version of the warehouse that it is in; None where that was not looked up."""
    tasks: pa.Table
    trajectories: pa.Table
    verdicts: pa.Table
    turns: pa.Table
    tool_calls: pa.Table


def replay(what: str, root: Path, params: VerificationParams, workers: int) -> str:
    """What a second verification says beside the stored verdicts. what: a folder of shards (data/rollout/0, data/fused/train/0), or
    VERSION or VERSION:ITERATION,ITERATION of the warehouse.

    Verdicts of a folder lie beside its trajectories (a fused iteration, finish) or in the output of the stage verify. Raises ShardError
    where either is missing, QueryError and ReplayFailure for a version that is not there.
    """
    stored = _from_folder(Path(what), root) if Path(what).is_dir() else _from_version(what, root)
    return compared(stored.verdicts, _judge(stored, params, workers), stored.label)


def store_replay(what: str, name: str, root: Path, params: VerificationParams, workers: int, *, replace: bool = False) -> str:
    """Judge by the rule of `params` and keep its verdicts in data/replays/NAME, whole or not at all. Returns what has changed.

    The warehouse must be up to date: the version that holds the trajectories is looked up in it, and its shards are named by hash, not
    copied. Raises ReplayFailure, also when the name is taken and `replace` is not asked for.
    """
    from assay.trajectories import ShardError, write_shard
    from assay.trajectories.contents import REPLAY_NOTE, REPLAYED, REPLAYS
    from assay.trajectories.shards import publish_folder

    if not re.fullmatch("[A-Za-z0-9_-]+", name):
        raise ReplayFailure(f"the name {name!r} cannot be a folder's; use letters, digits, - and _")
    target = root / REPLAYS / name
    if target.exists() and not replace:
        raise ReplayFailure(f"{target} exists already; choose another --name, or say --replace")
    version = _version_of(Path(what), root) if Path(what).is_dir() else what
    stored = _from_version(version, root, None if version == what else _ids(Path(what)))
    again = _judge(stored, params.model_copy(update={"reference": "none", "oracle": False}), workers)
    draft = target.with_name(f".{name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        write_shard(draft / SHARD, "verdicts", _relabelled(again, REPLAYED))
        note = {
            "replay": {"of": stored.version, "rule": params.rule, "trajectories": len(again)},
            "verification": params.model_dump(mode="json"), "shards": _shards(str(stored.version), root),
        }  # fmt: skip
        (draft / REPLAY_NOTE).write_text(json.dumps(note, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        publish_folder(draft, target)
    except OSError as error:
        raise ShardError(f"{target}: could not be written ({error.strerror or error}); free disk space, then run again") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    ruled = stored.verdicts.filter(pc.equal(stored.verdicts["role"], "rule"))
    return compared(ruled, again, f"{stored.label} -> {target}")


def _judge(stored: Stored, params: VerificationParams, workers: int) -> pa.Table:
    from assay.environments import tasks_from_table
    from assay.rounds.lines import lines
    from assay.verifiers import verify_trajectories
    from assay.verifiers.transcripts import Transcripts

    tasks = tasks_from_table(stored.tasks)
    played = Transcripts.of(tasks, stored.trajectories, stored.turns, stored.tool_calls)
    return verify_trajectories(tasks, stored.trajectories, params, workers, lines("verdicts that need a worker"), played=played)


def _relabelled(verdicts: pa.Table, role: str) -> pa.Table:
    """Verdicts that no training sees."""
    count = len(verdicts)
    for name, values in (("role", pa.array([role] * count)), ("observed_reward", pa.nulls(count, pa.float32()))):
        position = verdicts.schema.get_field_index(name)
        verdicts = verdicts.set_column(position, verdicts.schema.field(position), values)
    return verdicts


def _answers(trajectories: pa.Table) -> pa.Table:
    """Without critiques: they are not answers to their task, and are judged by what is found of their solution."""
    from assay.verifiers.critiques import CRITIQUES

    return trajectories.filter(pc.invert(pc.is_in(trajectories["kind"], value_set=pa.array(CRITIQUES))))


def _from_folder(folder: Path, root: Path) -> Stored:
    from assay.trajectories import read_table, shard_files, to_table

    trajectories = _answers(read_table("trajectories", folder, columns=VERDICT_COLUMNS))
    beside = folder if shard_files("verdicts", folder) else folder.parent.parent / "verify" / folder.name
    own = shard_files("tasks", folder)  # of an import
    tasks = read_table("tasks", folder if own else root / "data/tasks/tasks.parquet")
    turns, calls = (
        read_table(name, folder) if shard_files(name, folder) else to_table(name, []) for name in ("turns", "tool_calls")
    )
    return Stored(str(folder), None, tasks, trajectories, read_table("verdicts", beside), turns, calls)


def _from_version(what: str, root: Path, only: Sequence[str] | None = None) -> Stored:
    """VERSION or VERSION:K,K. only: trajectories, of all that it has."""
    from assay.trajectories import query

    named, _, listed = what.partition(":")
    if listed and not re.fullmatch(r"\d+(,\d+)*", listed):
        raise ReplayFailure(f"--replay {what}: expected VERSION:ITERATION or VERSION:ITERATION,ITERATION")
    escaped = named.replace("'", "''")
    version = query(f"SELECT version_of('{escaped}') AS name", root, version=named)["name"][0].as_py()
    where = f"WHERE iteration IN ({listed})" if listed else ""
    order = "ORDER BY iteration, round, task_id, kind, sample_index, trajectory_id"
    trajectories = _answers(query(f"SELECT {', '.join(VERDICT_COLUMNS)} FROM trajectories {where} {order}", root, version=named))
    verdicts = query(f"SELECT * FROM verdicts {where}", root, version=named)
    if only is not None:
        wanted = pa.array(only, pa.string())
        trajectories, verdicts = (
            table.filter(pc.is_in(table["trajectory_id"], value_set=wanted)) for table in (trajectories, verdicts)
        )
    if not len(trajectories):
        at = f" of iteration {listed}" if listed else ""
        raise ReplayFailure(f"version {version} has no trajectories{at}; `assay sql --version {named} 'FROM trajectories'` shows its rows")
    turns, calls = (
        query(f"SELECT * FROM {name} {where} ORDER BY {key}", root, version=named)
        for name, key in (("turns", "trajectory_id, turn_index"), ("tool_calls", "trajectory_id, turn_index, call_index"))
    )
    label = what if only is None else version
    return Stored(label, version, query("FROM tasks", root, version=named), trajectories, verdicts, turns, calls)


def _ids(folder: Path) -> list[str]:
    from assay.trajectories import read_table

    found: list[str] = read_table("trajectories", folder, columns=("trajectory_id",))["trajectory_id"].to_pylist()
    return found


def _version_of(folder: Path, root: Path) -> str:
    """The version that has all shards of trajectories below a folder, the current one before others."""
    from assay.trajectories import query, shard_files
    from assay.trajectories.objects import md5

    files = shard_files("trajectories", folder)
    if not files:
        raise ReplayFailure(f"{folder}: there are no trajectories in it")
    digests = ", ".join(f"'{md5(file)}'" for file in files)
    holders = query(
        f"SELECT v.name FROM versions AS v JOIN version_parts AS p ON p.version = v.name JOIN parts USING (part) WHERE md5 IN ({digests}) "
        f"AND v.kind <> 'replay' AND len(v.missing) = 0 GROUP BY v.name, v.committed_at HAVING count(DISTINCT md5) = {len(files)} "
        "ORDER BY v.name = (SELECT version FROM version_names WHERE name = 'current') DESC, v.committed_at DESC, v.name", root,
    )["name"].to_pylist()  # fmt: skip
    if not holders:
        raise ReplayFailure(f"{folder}: no version of the warehouse has these trajectories; let `dvc repro` finish, or name a version")
    return str(holders[0])


def _shards(version: str, root: Path) -> list[dict[str, str]]:
    """Everything that a version consists of; of a replay, what it has judged."""
    from assay.trajectories import query

    escaped = version.replace("'", "''")
    rows: list[dict[str, str]] = query(
        "SELECT parts.table_name AS \"table\", v.stage, v.path, md5 FROM version_parts AS v JOIN parts USING (part) "
        f"WHERE v.version = '{escaped}' AND v.stage <> 'replay' ORDER BY v.path", root,
    ).to_pylist()  # fmt: skip
    return rows


def compared(stored: pa.Table, again: pa.Table, label: str) -> str:
    """Rows of each role of which the same is said, and the changes of verdict and reason, most frequent first."""
    before = {tuple(row[key] for key in KEYS): row for row in stored.to_pylist()}
    same: Counter[str] = Counter()
    total: Counter[str] = Counter()
    changes: Counter[tuple[str, ...]] = Counter()
    for row in again.to_pylist():
        old = before.pop(tuple(row[key] for key in KEYS), None)
        total[row["role"]] += 1
        if old is not None and all(old[name] == row[name] for name in SAID):
            same[row["role"]] += 1
        else:
            was = "not judged before" if old is None else _said(old)
            changes[row["role"], was, _said(row)] += 1
    lines = [f"{label}: {len(again['trajectory_id'].unique()):,} trajectories judged again"]
    lines += [f"{role}: {same[role]:,} of {total[role]:,} verdicts are identical" for role in total]
    if before:
        lines.append(f"{len(before):,} stored verdicts have no counterpart: of other roles or trajectories")
    lines += [f"{count:>8,}  {role}: {was}  ->  {now}" for (role, was, now), count in changes.most_common(SHOWN)]
    if len(changes) > SHOWN:
        lines.append(f"and {len(changes) - SHOWN} other kinds of change")
    return "\n".join(lines)


def _said(row: dict) -> str:
    return f"{row['verdict']} ({row['reason']}) by {row['verifier']} {row['verifier_version']}"
