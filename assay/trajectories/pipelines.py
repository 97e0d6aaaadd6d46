"""What each stage of a revision read and wrote, by hash, as DVC knows it from dvc.yaml and dvc.lock.

The lock file alone does not say it: stages that dvc.yaml no longer has (iterations taken away, say) stay in it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.trajectories.objects import FOLDER, Objects, below, folder_digest
from assay.trajectories.schemas import TABLES

PIPELINES: dict[str, str] = {"dvc.yaml": "staged", "fused/dvc.yaml": "fused"}
"""Pipeline by its file. Each has a lock file beside it and versions of its own."""
RECORD = "data/"
"""Where outputs that hold tables lie. A policy that is not in DVC's cache makes no version incomplete."""
CONFIG = "data/config"
"""Output that holds the resolved parameters, one JSON file per stage."""


class PipelineError(RuntimeError):
    """A project that DVC cannot read. The message says what DVC said."""


@dataclass(frozen=True)
class Stage:
    """One stage of one revision. Paths are relative to the project's root, hashes are DVC's."""

    name: str
    """As in dvc.yaml; behind its pipeline's name where that is not the staged one."""
    pipeline: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    parameters: Mapping[str, object]
    """As recorded in the lock file."""
    frozen: bool


@dataclass(frozen=True)
class Shard:
    """A shard of a version."""

    table: str
    stage: str
    path: str
    md5: str


@contextmanager
def open_project(root: Path) -> Iterator["Project"]:
    """The DVC project at `root`. Raises PipelineError where there is none."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        repo = Repo(str(root))
    except DvcException as error:
        raise PipelineError(f"{root.resolve()} is no DVC project ({error}); go to one, or run `dvc init`") from error
    with repo:
        yield Project(repo, Objects(Path(repo.cache.local.path)))


@dataclass(frozen=True)
class Project:
    """A DVC project, open."""

    repo: Any
    objects: Objects

    def stages(self, revisions: Sequence[str]) -> Iterator[tuple[str | None, list[Stage] | str]]:
        """Stages of the workspace (revision None), then of each revision, or DVC's message where it cannot read them.

        Stages that have never run are left out.
        """
        from dvc.exceptions import DvcException

        for name in self.repo.brancher(revs=list(revisions), sha_only=True):
            revision = name if name not in ("", "workspace") else None
            try:
                yield revision, _stages(self.repo)
            except DvcException as error:
                yield revision, " ".join(str(error).split())


def _stages(repo: Any) -> list[Stage]:
    stages = []
    for stage in repo.index.stages:
        pipeline = PIPELINES.get(stage.path_in_repo)
        if pipeline is None or not all(out.hash_info for out in stage.outs):
            continue
        inputs, parameters = {}, {}
        for dependency in stage.deps:
            value = dependency.hash_info.value if dependency.hash_info else None
            if isinstance(value, dict):
                parameters.update(value)
            elif value is not None:
                inputs[_relative(repo, dependency)] = value
        outputs = {_relative(repo, out): out.hash_info.value for out in stage.outs}
        name = stage.name if pipeline == "staged" else f"{pipeline}/{stage.name}"
        stages.append(Stage(name, pipeline, inputs, outputs, parameters, stage.frozen))
    return stages


def _relative(repo: Any, entry: Any) -> str:
    return Path(repo.fs.relpath(entry.fs_path, repo.root_dir)).as_posix()


def table_of(path: str) -> str | None:
    """Table whose shard this file is: NAME.parquet or NAME-*.parquet."""
    file = Path(path)
    if file.suffix != ".parquet":
        return None
    return next((name for name in TABLES if file.stem == name or file.stem.startswith(f"{name}-")), None)


def own_outputs(stages: Sequence[Stage], pipeline: str) -> dict[str, tuple[str, str]]:
    """Outputs of a pipeline's version: path -> (stage, hash). What it reads from another pipeline's is part of it."""
    found = {path: (s.name, digest) for s in stages if s.pipeline == pipeline for path, digest in s.outputs.items()}
    elsewhere = {path: s.name for s in stages if s.pipeline != pipeline for path in s.outputs}
    for stage in stages:
        if stage.pipeline == pipeline:
            for path, digest in stage.inputs.items():
                owner = next((name for output, name in elsewhere.items() if _within(path, output)), None)
                if owner is not None:
                    found.setdefault(path, (owner, digest))
    return found


def stale_stages(stages: Sequence[Stage], objects: Objects) -> set[str]:
    """Stages whose outputs were made from other inputs than those there are now: a run is under way, or was cut short.

    A stage that reads a folder above several outputs counts as stale when one of these is made by a stale stage.
    """
    outputs = {path: (stage.name, digest) for stage in stages for path, digest in stage.outputs.items()}
    stale: set[str] = set()
    grown = True
    while grown:
        grown = False
        for stage in stages:
            if stage.name in stale or stage.frozen:
                continue
            if any(_changed(path, digest, outputs, stale, objects) for path, digest in stage.inputs.items()):
                stale.add(stage.name)
                grown = True
    return stale


def _changed(path: str, digest: str, outputs: Mapping[str, tuple[str, str]], stale: set[str], objects: Objects) -> bool:
    for output, (owner, now) in outputs.items():
        if not (_within(path, output) or _within(output, path)):
            continue
        if owner in stale:
            return True
        if path == output:
            return digest != now
        if _within(path, output) and now.endswith(FOLDER) and (files := objects.manifest(now)) is not None:
            inside = path.removeprefix(f"{output}/")
            return digest != (folder_digest(below(files, inside)) if digest.endswith(FOLDER) else files.get(inside))
    return False


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
