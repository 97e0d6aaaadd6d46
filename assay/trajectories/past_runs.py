"""Runs that were never committed. When the workspace goes on, the run that it held is kept under a name of its own, until another version
has all of its shards (it was committed, or was the first part of a run that went on) or a person forgets it.

Newest first they are also called workspace~1, workspace~2, ...: the order in which syncs found them, without a clock.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from assay.trajectories.contents import Contents
from assay.trajectories.history import SHORT, WORKSPACE, Version
from assay.trajectories.ingest import add_names, forget_version, prune, remove_names
from assay.trajectories.pipelines import Shard
from assay.trajectories.warehouse import WAREHOUSE, open_warehouse

if TYPE_CHECKING:
    import duckdb

PAST = "past"
"""Kind of these versions, and of the names workspace~N."""
_WHOLE = "kind = 'workspace' AND len(missing) = 0 AND len(stale) = 0 AND name IN (SELECT version FROM version_parts)"
_OF_A_VERSION = ("version_parts", "version_stages", "version_params")


class ForgetError(ValueError):
    """A name that leads to no past run."""


def set_aside(connection: "duckdb.DuckDBPyConnection") -> list[str]:
    """Give each stored workspace that is whole a name of its own; `settle` removes it again where it is still there.

    Returns these names. Within a transaction of the caller, as everything here but `forget`.
    """
    names = []
    for name, lock_hash in connection.execute(f"SELECT name, lock_hash FROM versions WHERE {_WHOLE}").fetchall():
        names.append(_free_name(connection, name, lock_hash))
        connection.execute("UPDATE versions SET name = ?, kind = ? WHERE name = ?", [names[-1], PAST, name])
        for table in _OF_A_VERSION:
            connection.execute(f"UPDATE {table} SET version = ? WHERE version = ?", [names[-1], name])
    return names


def _free_name(connection: "duckdb.DuckDBPyConnection", name: str, lock_hash: str) -> str:
    """workspace-HASH; with a number where dvc.yaml alone has changed since another of this hash was kept."""
    taken = {taken for (taken,) in connection.execute("SELECT name FROM versions").fetchall()}
    wanted = (f"{name}-{lock_hash[:SHORT]}{'' if number == 1 else f'-{number}'}" for number in count(1))
    return next(free for free in wanted if free not in taken)


def in_order(connection: "duckdb.DuckDBPyConnection") -> list[str]:
    """Past runs of all pipelines, newest first."""
    numbered = "SELECT version FROM version_names WHERE kind = ? ORDER BY string_split(name, '~')[-1]::INTEGER, name"
    return [name for (name,) in connection.execute(numbered, [PAST]).fetchall()]


def settle(connection: "duckdb.DuckDBPyConnection", names: Sequence[str]) -> list[str]:
    """Forget the past runs, given newest first, of which another version has all shards. Returns the others."""
    held = (
        "SELECT name, pipeline, list(part) FROM versions JOIN version_parts ON version = name "
        "WHERE kind IN ('commit', 'experiment', 'workspace', 'past') GROUP BY ALL"
    )
    parts = {name: (pipeline, set(own)) for name, pipeline, own in connection.execute(held).fetchall()}
    for name in reversed(names):  # of two equal ones the newer stays
        pipeline, own = parts[name]
        if any(other != name and own <= theirs for other, (its, theirs) in parts.items() if its == pipeline):
            forget_version(connection, name)
            del parts[name]
    return [name for name in names if name in parts]


def numbered(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """workspace~1 -> (version, kind of name) and so on, of past runs that are given newest first."""
    found: dict[str, tuple[str, str]] = {}
    for name in names:
        prefix = name[: name.rindex(WORKSPACE) + len(WORKSPACE)]
        number = sum(other.startswith(f"{prefix}~") for other in found) + 1
        found[f"{prefix}~{number}"] = (name, PAST)
    return found


def stored(connection: "duckdb.DuckDBPyConnection") -> list[tuple[Version, Contents]]:
    """The past runs as the warehouse knows them, newest first: no lock file that git has leads to them."""
    return [_stored(connection, name) for name in in_order(connection)]


def _stored(connection: "duckdb.DuckDBPyConnection", name: str) -> tuple[Version, Contents]:
    own = "SELECT pipeline, lock_hash, parents, params FROM versions WHERE name = ?"
    ((pipeline, lock_hash, parents, params),) = connection.execute(own, [name]).fetchall()
    shards = "SELECT table_name, v.stage, v.path, md5 FROM version_parts AS v JOIN parts USING (part) WHERE version = ? ORDER BY ALL"
    stages = "SELECT stage, role, path, hash FROM version_stages WHERE version = ?"
    contents = Contents(
        [Shard(*row) for row in connection.execute(shards, [name]).fetchall()],
        params=json.loads(params), stages=connection.execute(stages, [name]).fetchall(),
    )  # fmt: skip
    return Version(name, pipeline, PAST, lock_hash, parents=tuple(parents)), contents


def kept(connection: "duckdb.DuckDBPyConnection") -> list[tuple[Version, Contents]]:
    """The past runs, and before them the workspaces that are whole: they are past to a warehouse that is made again."""
    found = stored(connection)
    for name, lock_hash in connection.execute(f"SELECT name, lock_hash FROM versions WHERE {_WHOLE}").fetchall():
        version, contents = _stored(connection, name)
        found.insert(0, (replace(version, name=_free_name(connection, name, lock_hash)), contents))
    return found


def forget(root: Path, wanted: Sequence[str]) -> list[str]:
    """Remove past runs and the rows that only they have. `wanted`: any of their names, or patterns such as 'workspace-*'.

    Returns what was removed. Raises ForgetError for a name that leads to none, and then removes nothing.
    """
    with open_warehouse(root / WAREHOUSE, write=True) as connection:
        names = in_order(connection)
        called = [*numbered(names).items(), *((name, (name, PAST)) for name in names)]
        called += [(name.partition("/")[2], found) for name, found in called if "/" in name]  # fused/workspace-HASH
        gone: list[str] = []
        for pattern in wanted:
            matching = [version for name, (version, _) in called if fnmatchcase(name, pattern)]
            if not matching:
                there = ", ".join(names) if names else "there is none"
                raise ForgetError(f"{pattern} is no past run of the workspace, and only these can be forgotten: {there}")
            gone += [name for name in matching if name not in gone]
        connection.begin()
        for name in gone:
            forget_version(connection, name)
        prune(connection)
        remove_names(connection, gone, PAST)
        add_names(connection, numbered(name for name in names if name not in gone))
        connection.commit()
        connection.execute("CHECKPOINT")
    return gone
