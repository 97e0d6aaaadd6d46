"""`assay verify --replay FOLDER`: stored trajectories judged again, and what has changed. Nothing is written."""

from collections import Counter
from pathlib import Path

import pyarrow as pa

from assay.params.verification import VerificationParams

JUDGED = ("trajectory_id", "iteration", "round", "task_id", "kind", "text")
KEYS = ("trajectory_id", "role")
SHOWN = 20


def replay(folder: Path, root: Path, params: VerificationParams, workers: int) -> str:
    """What a second verification of the trajectories below `folder` says beside the stored verdicts.

    The stored ones lie beside the trajectories (a fused iteration, finish) or in the output of the stage verify. Raises
    ShardError where either is missing.
    """
    from assay.environments import tasks_from_table
    from assay.rounds.lines import lines
    from assay.trajectories import read_table, shard_files
    from assay.verifiers import verify_trajectories

    trajectories = read_table("trajectories", folder, columns=JUDGED)
    beside = folder if shard_files("verdicts", folder) else folder.parent.parent / "verify" / folder.name
    stored = read_table("verdicts", beside)
    tasks = tasks_from_table(read_table("tasks", root / "data/tasks/tasks.parquet"))
    again = verify_trajectories(tasks, trajectories, params, workers, lines("verdicts that need a worker"))
    return compared(stored, again, folder)


def compared(stored: pa.Table, again: pa.Table, folder: Path) -> str:
    """Rows of each role that are the same in every column, and the changes of verdict and reason, most frequent first."""
    before = {tuple(row[key] for key in KEYS): row for row in stored.to_pylist()}
    same: Counter[str] = Counter()
    total: Counter[str] = Counter()
    changes: Counter[tuple[str, ...]] = Counter()
    for row in again.to_pylist():
        old = before.pop(tuple(row[key] for key in KEYS), None)
        total[row["role"]] += 1
        if old == row:
            same[row["role"]] += 1
        else:
            was = "not judged before" if old is None else _said(old)
            changes[row["role"], was, _said(row)] += 1
    lines = [f"{folder}: {len(again['trajectory_id'].unique()):,} trajectories judged again"]
    lines += [f"{role}: {same[role]:,} of {total[role]:,} verdicts are identical" for role in total]
    if before:
        lines.append(f"{len(before):,} stored verdicts have no counterpart: of other roles or trajectories")
    lines += [f"{count:>8,}  {role}: {was}  ->  {now}" for (role, was, now), count in changes.most_common(SHOWN)]
    if len(changes) > SHOWN:
        lines.append(f"and {len(changes) - SHOWN} other kinds of change")
    return "\n".join(lines)


def _said(row: dict) -> str:
    return f"{row['verdict']} ({row['reason']}) by {row['verifier']} {row['verifier_version']}"
