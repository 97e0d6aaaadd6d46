"""`assay sync`: bring the warehouse up to date with everything that git, DVC's cache, data/imported and data/replays
hold.

Each shard is stored once and checked against its hash; a version appears when all of its shards that can be found are
in. Everything happens in transactions: a killed sync leaves whole shards behind, and the next one goes on from them.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from assay.trajectories import past_runs
from assay.trajectories.contents import IMPORTED, Contents, contents_of, imported, imported_contents, replay_contents, replays
from assay.trajectories.history import History, Version, lock_file, read_history, references
from assay.trajectories.ingest import (
    add_shards,
    forget_version,
    outdated_parts,
    prune,
    stored_parts,
    write_names,
    write_version,
)
from assay.trajectories.objects import Objects, md5
from assay.trajectories.pipelines import PIPELINES, PipelineError, Shard, open_project
from assay.trajectories.shards import ShardError
from assay.trajectories.warehouse import (
    WAREHOUSE,
    WarehouseBroken,
    WarehouseBusy,
    WarehouseError,
    layout,
    open_warehouse,
    prepare,
)

if TYPE_CHECKING:
    import duckdb

Progress = Callable[[str], None]


@dataclass
class SyncReport:
    """What a sync did and found. Printed: one sentence, and a line for each thing to know."""

    file: Path
    busy: str | None = None
    """Who holds the file; nothing was done."""
    current: str | None = None
    """Version that the views show."""
    versions: int = 0
    """Versions in the warehouse."""
    shards: int = 0
    """Shards added."""
    rows: int = 0
    """Rows added."""
    incomplete: dict[str, list[str]] = field(default_factory=dict)
    """Version -> outputs of it that cannot be found."""
    stale: list[str] = field(default_factory=list)
    """Stages of the current version that are older than their inputs."""
    notes: list[str] = field(default_factory=list)
    """Revisions that DVC cannot read, corrupted shards of other versions and of imports."""
    corrupted: list[str] = field(default_factory=list)
    """Corrupted shards of the current version, with what to do at the end."""
    kept: Path | None = None
    """Where an old file was kept that was replaced."""
    past: list[str] = field(default_factory=list)
    """Names of runs that were never committed and are past now: they are kept."""
    lost: list[str] = field(default_factory=list)
    """Past runs of the old file whose shards can no longer be found (`rebuild`)."""

    @property
    def needs_attention(self) -> bool:
        """Whether a person should read the report."""
        return bool(self.busy or self.current in self.incomplete or self.stale or self.notes or not self.versions)

    def __str__(self) -> str:
        if self.busy is not None:
            return f"warehouse: {self.busy}; nothing was added, the next `assay sync` catches up"
        if not self.versions:
            return f"warehouse {self.file}: there is nothing to store yet; run `dvc repro` first"
        added = f"{self.shards:,} shards ({self.rows:,} rows) added" if self.shards else "up to date"
        lines = [f"warehouse {self.file}: {added}; {self.versions:,} versions, current: {self.current or 'none'}"]
        lines += [f"note: the run before was not committed; it is kept as {name}, until `assay sync --forget {name}`" for name in self.past]
        if self.current in self.incomplete:
            paths = ", ".join(self.incomplete[self.current])
            lines.append(f"warning: the current version lacks {paths}; run `dvc pull`, then `assay sync`")
        if self.stale:
            stages = ", ".join(self.stale)
            lines.append(f"warning: left out, as their inputs have changed since: {stages}; run `dvc repro`")
        # What is wrong with an import, which DVC does not hold, is in the notes.
        others = [name for name in self.incomplete if name != self.current and not name.startswith(f"{IMPORTED.name}/")]
        if others:
            shown = f"{', '.join(others[:3])}{' ...' if others[3:] else ''}"
            lines.append(f"note: {len(others):,} other versions are incomplete ({shown}): `dvc fetch --all-commits`")
        return "\n".join(lines + [f"note: {note}" for note in self.notes])


def sync(root: Path, file: Path | None = None, *, wait: float = 5.0, progress: Progress | None = None) -> SyncReport:
    """Add what is missing. `file`: another place for the warehouse; `wait`: seconds for a process that holds it.

    A warehouse that stays held is reported, not raised; one that DuckDB cannot open is set aside and made again.
    Raises ShardError for a corrupted shard of the current version (after everything else was added), WarehouseError for
    a full disk and the like, PipelineError outside a DVC project.
    """
    report = _synced(root, root / WAREHOUSE if file is None else file, wait, progress)
    if report.corrupted:
        raise ShardError("\n".join(report.corrupted))
    return report


Kept = Sequence[tuple[Version, Contents]]


def _synced(root: Path, file: Path, wait: float, progress: Progress | None, past: Kept = ()) -> SyncReport:
    """`sync`, with corrupted shards of the current version in the report. `past`: runs of a file that is made again."""
    fingerprint = _fingerprint(root)
    try:
        if file.exists():
            with open_warehouse(file, wait=wait) as connection:
                done = _nothing_new(connection, fingerprint, SyncReport(file))
            if done is not None:
                return done
        with open_warehouse(file, write=True, wait=wait) as connection:
            return _Sync(connection, root, SyncReport(file), progress or (lambda line: None)).run(fingerprint, past)
    except WarehouseBusy as error:
        return SyncReport(file, busy=str(error))
    except WarehouseBroken as error:
        aside = free_name(file, "broken")
        file.replace(aside)
        Path(f"{file}.wal").unlink(missing_ok=True)
        report = _synced(root, file, wait, progress)
        report.notes.append(f"{str(error).split(';')[0]}: it was made again, the old file is {aside}")
        report.kept = aside
        return report


def free_name(file: Path, word: str) -> Path:
    """NAME.word.duckdb, or NAME.word-2.duckdb ...: a file that is kept replaces none that was kept before."""
    names = (file.with_suffix(f".{word}{'' if number == 1 else f'-{number}'}{file.suffix}") for number in count(1))
    return next(name for name in names if not name.exists())


def _fingerprint(root: Path) -> str:
    """Changes whenever a sync may find something new, except an object that has come into DVC's cache."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{layout()}\n{references(root)}\n".encode())
    for name in ["params.yaml", *PIPELINES, *map(lock_file, PIPELINES)]:
        path = root / name
        digest.update(path.read_bytes() if path.is_file() else b"-")
        digest.update(b"\0")
    for folder in (imported(root) | replays(root)).values():
        for path in sorted(folder.rglob("*")):
            state = path.stat()
            digest.update(f"{path.relative_to(root)} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _state(connection: "duckdb.DuckDBPyConnection") -> dict[str, str]:
    if not connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'warehouse_state'").fetchall():
        return {}
    return dict(connection.execute("SELECT key, value FROM warehouse_state").fetchall())


def _nothing_new(connection: "duckdb.DuckDBPyConnection", fingerprint: str, report: SyncReport) -> SyncReport | None:
    """The report of the last sync, where nothing can have changed since."""
    state = _state(connection)
    if state.get("fingerprint") != fingerprint or any(Path(path).exists() for path in json.loads(state["awaited"])):
        return None
    return _summary(connection, replace(report, notes=json.loads(state["notes"])))


def _summary(connection: "duckdb.DuckDBPyConnection", report: SyncReport) -> SyncReport:
    rows = connection.execute("SELECT name, missing, stale FROM versions ORDER BY name").fetchall()
    report.versions = len(rows)
    report.incomplete = {name: missing for name, missing, _ in rows if missing}
    current = connection.execute("SELECT version FROM version_names WHERE name = 'current'").fetchall()
    report.current = current[0][0] if current else None
    report.stale = next((stale for name, _, stale in rows if name == report.current), [])
    return report


@dataclass(frozen=True)
class Found:
    """A version whose contents were read."""

    version: Version
    contents: Contents
    objects: Objects | None
    """DVC's cache; None where it is not needed: imports, which DVC does not hold, and replays of what is stored already."""
    in_workspace: bool
    """Whether its files may lie in the workspace."""


class _Sync:
    """One run of `sync`, with the file held."""

    def __init__(
        self, connection: "duckdb.DuckDBPyConnection", root: Path, report: SyncReport, progress: Progress
    ) -> None:
        self.connection, self.root, self.report, self.progress = connection, root, report, progress
        prepare(connection)
        self.parts = stored_parts(connection)
        self.outdated = outdated_parts(connection)
        self.awaited: list[str] = []
        self.corrupted: list[str] = []

    def run(self, fingerprint: str, past: Kept = ()) -> SyncReport:
        history = read_history(self.root)
        imports, again = imported(self.root), replays(self.root)
        current = history.current.get("staged") or next(iter(history.current.values()), None)
        found = [*self._pipelines(history), *self._imports(imports), *self._replays(again)]
        found += self._past(past or past_runs.stored(self.connection))
        self._add_shards(found)
        self.report.lost = [item.version.name for item in found if item.version.kind == past_runs.PAST and item.contents.missing]
        found = [item for item in found if item.version.name not in self.report.lost]
        keep = {version.name for version in history.versions} | set(imports) | set(again)
        self.connection.begin()
        fresh = past_runs.set_aside(self.connection)
        before = [version.name for version, _ in past] or past_runs.in_order(self.connection)
        passing = "SELECT name FROM versions WHERE kind IN ('workspace', 'import', 'replay')"
        for (name,) in self.connection.execute(passing).fetchall():
            if name not in keep:
                forget_version(self.connection, name)
        for item in found:
            write_version(self.connection, item.version, item.contents, self.parts)
        stay = past_runs.settle(self.connection, [*fresh, *(name for name in before if name not in self.report.lost)])
        self.report.past = [name for name in stay if name in fresh]
        own = {name: (name, "version") for name in (*imports, *again)}
        write_names(self.connection, history.names | own | past_runs.numbered(stay), current)
        prune(self.connection)
        lists = {"awaited": self.awaited, "notes": self.report.notes}
        for key, value in {"fingerprint": fingerprint, **{k: json.dumps(v) for k, v in lists.items()}}.items():
            self.connection.execute("DELETE FROM warehouse_state WHERE key = ?", [key])
            self.connection.execute("INSERT INTO warehouse_state VALUES (?, ?)", [key, value])
        self.connection.commit()
        # A log that is never replayed cannot fail to be.
        self.connection.execute("CHECKPOINT")
        if self.corrupted:
            advice = "delete the file, then get it again with `dvc pull` or by running its stage"
            self.report.corrupted = [*self.corrupted, advice]
        return _summary(self.connection, self.report)

    def _pipelines(self, history: History) -> Iterator[Found]:
        """Versions of the project whose contents are not known yet, or may have become complete."""
        known = (
            "SELECT name, lock_hash FROM versions WHERE len(missing) = 0 AND name NOT IN "
            "(SELECT version FROM version_parts WHERE list_contains(?::INTEGER[], part))"
        )
        complete = dict(self.connection.execute(known, [list(self.outdated.values())]).fetchall())
        unread = [v for v in history.versions if v.kind == "workspace" or complete.get(v.name) != v.lock_hash]
        if not unread:
            return
        current = set(history.current.values())
        with open_project(self.root) as project:
            revisions = list(dict.fromkeys(v.commit_id for v in unread if v.commit_id is not None))
            for read, (revision, stages) in enumerate(project.stages(revisions)):
                self.progress(f"reading version {read} of {len(revisions)}")
                for version in unread:
                    if version.commit_id != revision:
                        continue
                    if isinstance(stages, str):
                        self.report.notes.append(f"version {version.name} is left out, DVC cannot read it: {stages}")
                        continue
                    here = version.name in current
                    contents = contents_of(stages, version.pipeline, project.objects, self.root if here else None)
                    yield Found(version, contents, project.objects, here)

    def _imports(self, folders: dict[str, Path]) -> Iterator[Found]:
        for name, folder in folders.items():
            contents, digest = imported_contents(self.root, folder)
            yield Found(Version(name, "imported", "import", digest), contents, None, True)

    def _replays(self, folders: dict[str, Path]) -> Iterator[Found]:
        objects = None
        for name, folder in folders.items():
            contents, judged, digest = replay_contents(self.root, folder)
            if objects is None and any(shard.md5 not in self.parts for shard in contents.shards):
                objects = self._objects()
            yield Found(Version(name, "replay", "replay", digest, parents=(judged,)), contents, objects, True)

    def _past(self, runs: Kept) -> Iterator[Found]:
        """Past runs of which shards are to be stored, or read again for columns that the schema has gained."""
        wanted = [run for run in runs if any(s.md5 not in self.parts or s.md5 in self.outdated for s in run[1].shards)]
        objects = self._objects() if wanted else None
        yield from (Found(version, contents, objects, False) for version, contents in wanted)

    def _objects(self) -> Objects | None:
        """DVC's cache; None in a folder that has only imports."""
        try:
            with open_project(self.root) as project:
                return project.objects
        except PipelineError:
            return None

    def _add_shards(self, found: Sequence[Found]) -> None:
        """Store what is not stored yet, and say of each version what could not be."""
        wanted: dict[str, tuple[Shard, Path]] = {}
        for item in found:
            for shard in item.contents.shards:
                if shard.md5 in self.parts and shard.md5 not in self.outdated:
                    continue
                file = self._find(shard, item)
                if file is not None:
                    wanted.setdefault(shard.md5, (shard, file))
        parts, self.report.rows, faults = add_shards(self.connection, list(wanted.values()), self.progress)
        self.parts |= parts
        self.report.shards = len(parts)
        for item in found:
            missing = item.contents.missing
            missing |= {shard.path: shard.md5 for shard in item.contents.shards if shard.md5 not in self.parts}
            mine = [faults[shard.md5] for shard in item.contents.shards if shard.md5 in faults]
            if item.version.kind == "replay":
                self.report.notes += mine
            elif item.objects is None:
                self.report.notes += [f"{item.version.name} is incomplete: {fault}; import it again" for fault in mine]
            else:
                (self.corrupted if item.in_workspace else self.report.notes).extend(mine)
            if item.objects is not None:
                self.awaited += [str(item.objects.path(digest).resolve()) for digest in missing.values()]

    def _find(self, shard: Shard, item: Found) -> Path | None:
        """The shard's file: in DVC's cache, or in the workspace where that is this version."""
        places = [item.objects.path(shard.md5)] if item.objects is not None else []
        if item.in_workspace:
            places.append(self.root / shard.path)
        if item.version.kind == "replay":  # what lies in the workspace by now may be of a later run
            places = [place for place in places if place.is_file() and md5(place) == shard.md5]
        return next((place for place in places if place.is_file()), None)


def rebuild(root: Path, progress: Progress | None = None) -> tuple[SyncReport, list[str]]:
    """Make the warehouse again from the shards. Returns the report and the versions that only the old file has whole.
    Past runs, to which no lock file leads, are those of the old file whose shards DVC's cache still has.

    The old file is kept, as trajectories.previous.duckdb or with a number, where it has such versions or cannot be
    read; the report's `kept` says where. Corrupted shards of the current version, which are left out, are in its
    `corrupted`. Raises WarehouseBusy when another process writes the old file.
    """
    file = root / WAREHOUSE
    fresh = file.with_suffix(".fresh.duckdb")
    before, past, readable = _complete_versions(file)
    for path in (fresh, Path(f"{fresh}.wal")):
        path.unlink(missing_ok=True)
    try:
        report = replace(_synced(root, fresh, 5.0, progress, past), file=file)
        after, _, _ = _complete_versions(fresh)
        lost = sorted((before - after) | set(report.lost))
        if file.exists() and (lost or not readable):
            report.kept = free_name(file, "previous")
            file.replace(report.kept)
        Path(f"{file}.wal").unlink(missing_ok=True)
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)
    return report, lost


def _complete_versions(file: Path) -> tuple[set[str], Kept, bool]:
    """Names of the versions that a warehouse holds in full, its past runs, and whether it can be read."""
    if not file.exists():
        return set(), (), True
    try:
        with open_warehouse(file) as connection:
            if not _state(connection):
                return set(), (), True
            complete = "SELECT name FROM versions WHERE len(missing) = 0 AND kind NOT IN ('workspace', 'past')"
            names = {name for (name,) in connection.execute(complete).fetchall()}
            return names, past_runs.kept(connection), True
    except WarehouseBusy:
        raise
    except WarehouseError:
        return set(), (), False
