"""What a version consists of: its shards, parameters and stage hashes; what of it cannot be found or is out of date."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.trajectories.identity import content_hash
from assay.trajectories.objects import FOLDER, Objects, folder_digest, md5, workspace_manifest
from assay.trajectories.pipelines import CONFIG, RECORD, Shard, Stage, own_outputs, stale_stages, table_of

IMPORTED = Path("data/imported")
"""Foreign rollouts, one folder per name; each is a version imported/NAME."""
IMPORT_NOTE = "import.json"
"""File of such a folder that says where the rollouts came from."""
VERIFICATION_NOTE = "verification.json"
"""File of such a folder with the parameters that its verdicts were given by."""
REPLAYS = Path("data/replays")
"""Verdicts of other verifiers on stored trajectories, one folder per name; each is a version replay/NAME."""
REPLAY_NOTE = "replay.json"
"""File of such a folder: the version that was judged again, its shards, and the parameters."""
REPLAYED = "replayed"
"""Role of verdicts that a replay gave."""


@dataclass
class Contents:
    """One version, as found on disk."""

    shards: list[Shard] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """Outputs and shards that are neither in DVC's cache nor in the workspace: path -> hash."""
    stale: list[str] = field(default_factory=list)
    """Stages that were not run again after their inputs changed; their shards are left out."""
    params: dict[str, Any] = field(default_factory=dict)
    stages: list[tuple[str, str, str, str]] = field(default_factory=list)
    """(stage, input or output, path, hash)."""


def contents_of(stages: Sequence[Stage], pipeline: str, objects: Objects, workspace: Path | None) -> Contents:
    """Contents of a pipeline's version. `workspace`: the project's root where its files may belong to this version."""
    found = Contents()
    stale = stale_stages(stages, objects)
    outputs = own_outputs(stages, pipeline)
    found.stale = sorted(stale & {name for name, _ in outputs.values()})
    for path, (stage, digest) in sorted(outputs.items()):
        if stage in stale or not path.startswith(RECORD):
            continue
        files = {path: digest}
        if digest.endswith(FOLDER):
            manifest = _manifest(path, digest, objects, workspace)
            if manifest is None:
                found.missing[path] = digest
                continue
            files = {f"{path}/{name}": value for name, value in manifest.items()}
        for file, value in sorted(files.items()):
            table = table_of(file)
            if table is not None:
                found.shards.append(Shard(table, stage, file, value))
    found.params = _params(stages, objects, workspace)
    for own in stages:
        if own.pipeline == pipeline:
            found.stages += [(own.name, "input", *item) for item in own.inputs.items()]
            found.stages += [(own.name, "output", *item) for item in own.outputs.items()]
    return found


def _manifest(path: str, digest: str, objects: Objects, workspace: Path | None) -> dict[str, str] | None:
    manifest = objects.manifest(digest)
    if manifest is None and workspace is not None and (workspace / path).is_dir():
        # `dvc repro --no-commit`, or a cache that was emptied: the folder itself, if it is the one that dvc.lock names.
        manifest = workspace_manifest(workspace / path)
        if folder_digest(manifest) != digest:
            return None
    return manifest


def _params(stages: Sequence[Stage], objects: Objects, workspace: Path | None) -> dict[str, Any]:
    """Resolved parameters, from the files that `configure` wrote; where they are gone, what the lock files recorded."""
    digest = next((stage.outputs[CONFIG] for stage in stages if CONFIG in stage.outputs), None)
    manifest = _manifest(CONFIG, digest, objects, workspace) if digest is not None else None
    merged: dict[str, Any] = {}
    for name, value in sorted((manifest or {}).items()):
        file = objects.path(value)
        if not file.is_file() and workspace is not None:
            file = workspace / CONFIG / name
        if name.endswith(".json") and file.is_file():
            content = _json(file)
            merged.update(content if isinstance(content, dict) else {})
    if not merged:
        for stage in stages:
            merged.update(stage.parameters)
    return merged


def _json(file: Path) -> Any:
    """Content of a file; None where it is not JSON: an old revision may have kept something else here."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return None


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """(dotted key, JSON value) of nested parameters."""
    for key, value in sorted(values.items()):
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, sort_keys=True, ensure_ascii=False)


def imported(root: Path) -> dict[str, Path]:
    """Folders of imported rollouts by version name."""
    return _folders(root / IMPORTED, "imported")


def replays(root: Path) -> dict[str, Path]:
    """Folders of replays by version name."""
    return {name: folder for name, folder in _folders(root / REPLAYS, "replay").items() if (folder / REPLAY_NOTE).is_file()}


def _folders(base: Path, prefix: str) -> dict[str, Path]:
    """Names with a dot in front are being written."""
    folders = [folder for folder in sorted(base.glob("*")) if folder.is_dir() and not folder.name.startswith(".")]
    return {f"{prefix}/{folder.name}": folder for folder in folders}


def shards_of(folder: Path) -> list[Path]:
    """Parquet files of an import, none of which is below a folder with a dot in front."""
    files = sorted(folder.rglob("*.parquet"))
    return [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts)]


def imported_contents(root: Path, folder: Path) -> tuple[Contents, str]:
    """Contents of an import, and a hash of them."""
    found = Contents()
    for file in shards_of(folder):
        path = file.relative_to(root).as_posix()
        table = table_of(path)
        if table is not None:
            found.shards.append(Shard(table, "import", path, md5(file)))
    for name, key in ((IMPORT_NOTE, None), (VERIFICATION_NOTE, "verification")):
        content = _json(folder / name) if (folder / name).is_file() else None
        if isinstance(content, dict):
            found.params |= content if key is None else {key: content}
    return found, content_hash(*(part for shard in found.shards for part in (shard.path, shard.md5)))


def replay_contents(root: Path, folder: Path) -> tuple[Contents, str, str]:
    """Contents of a replay, the version that it judges again, and a hash. They are that version's shards, which are named by hash and
    not copied, and the new verdicts beside them."""
    note = _json(folder / REPLAY_NOTE)
    note = note if isinstance(note, dict) else {}
    found = Contents(params={key: note[key] for key in ("replay", "verification") if key in note})
    found.shards = [Shard(*(str(shard[key]) for key in ("table", "stage", "path", "md5"))) for shard in note.get("shards", [])]
    for file in shards_of(folder):
        path = file.relative_to(root).as_posix()
        table = table_of(path)
        if table is not None:
            found.shards.append(Shard(table, "replay", path, md5(file)))
    judged = str(note.get("replay", {}).get("of", ""))
    return found, judged, content_hash(judged, *(part for shard in found.shards for part in (shard.path, shard.md5)))
