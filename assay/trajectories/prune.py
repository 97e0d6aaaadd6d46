"""Policies that only took a run from one iteration to the next: they may go, with their optimizer states; the record stays.

DVC keeps what the lock file names, so `dvc gc` cannot help. The lock file still says what they were: `dvc repro --allow-missing` goes on
from the last policy, `dvc pull` brings back what was pushed, and a plain `dvc repro` would make them anew.
"""

import fcntl
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from assay.trajectories.history import read_history
from assay.trajectories.objects import Objects
from assay.trajectories.pipelines import Project, Stage, open_project, stale_stages

POLICY = re.compile(r"(models/(?:fused/)?)(\d+)")
FLOW_LOCK = Path(".assay/run.lock")
"""Held by a flow for the whole of its run (flows/run_lock.py)."""


class PruneError(ValueError):
    """What cannot be pruned. The message says why."""


@dataclass(frozen=True)
class Pruned:
    """What `prune` removed, or would."""

    policies: tuple[str, ...]
    """Paths of those that are gone, or would be."""
    size: int
    """Bytes that only they held in DVC's cache; those in the workspace come on top where it holds copies."""


def prune(root: Path, keep: int, dry: bool = False) -> Pruned:
    """Remove all policies but policy 0 and the last `keep` of each pipeline from the workspace and from DVC's cache.

    What other outputs of the workspace hold too stays in the cache, and so does the last policy of every commit and experiment. dry: only
    say. Raises PruneError for keep < 1, where a run is under way or was cut short, or where somebody works on these policies;
    PipelineError where there is no DVC project.
    """
    if keep < 1:
        raise PruneError(f"--keep is {keep}, expected 1 or more: a run goes on from its last policy")
    with open_project(root) as project, _alone(project, root):
        stages = _stages(project)
        outputs = {path: digest for stage in stages for path, digest in stage.outputs.items()}
        chosen = between(stages, keep)
        needed = [digest for path, digest in outputs.items() if path not in chosen] + last_policies(project, root)
        still = {md5 for digest in needed for md5 in _objects(project.objects, digest)}
        gone = {md5 for path in chosen for md5 in _objects(project.objects, outputs[path])} - still
        files = [file for file in map(project.objects.path, sorted(gone)) if file.is_file()]
        there = [path for path in chosen if (root / path).is_dir() or project.objects.path(outputs[path]) in files]
        size = sum(file.stat().st_size for file in files)
        if not dry:
            with _written(project, [str((root / path).resolve()) for path in there]):
                for path in there:
                    if (root / path).is_dir():
                        shutil.rmtree(root / path)
                for file in files:  # manifests are among them
                    file.unlink(missing_ok=True)
    return Pruned(tuple(there), size)


def between(stages: Sequence[Stage], keep: int) -> list[str]:
    """Paths of the policies after the first and before the last `keep` of their pipeline, in order."""
    return [path for paths in _policies(stages).values() for path in paths[:-keep] if not path.endswith("/0")]


def last_policies(project: Project, root: Path) -> list[str]:
    """Hashes of the policy that each pipeline of each commit and experiment ended with."""
    commits = list(dict.fromkeys(version.commit_id for version in read_history(root).versions if version.commit_id))
    found = []
    for revision, stages in project.stages(commits):
        if revision is not None and not isinstance(stages, str):
            outputs = {path: digest for stage in stages for path, digest in stage.outputs.items()}
            found += [outputs[paths[-1]] for paths in _policies(stages).values()]
    return found


def _policies(stages: Sequence[Stage]) -> dict[str, list[str]]:
    """By pipeline's folder, in order."""
    found: dict[str, list[tuple[int, str]]] = {}
    for path in {path for stage in stages for path in stage.outputs}:
        if match := POLICY.fullmatch(path):
            found.setdefault(match[1], []).append((int(match[2]), path))
    return {folder: [path for _, path in sorted(numbered)] for folder, numbered in sorted(found.items())}


def _stages(project: Project) -> list[Stage]:
    """The workspace's, whose policies must be of one run."""
    ((_, stages),) = [found for found in project.stages([]) if found[0] is None]
    if isinstance(stages, str):
        raise PruneError(f"dvc.yaml cannot be read: {stages}")
    stale = stale_stages(stages, project.objects)
    mixed = [path for stage in stages if stage.name in stale for path in stage.outputs if POLICY.fullmatch(path)]
    if mixed:
        raise PruneError(f"{mixed[0]} is of another run than the policies before it: let `dvc repro` end first, then prune")
    return stages


@contextmanager
def _alone(project: Project, root: Path) -> Iterator[None]:
    """No flow, and no DVC command outside a stage, works here."""
    from dvc.lock import LockError

    (root / FLOW_LOCK).parent.mkdir(parents=True, exist_ok=True)
    with (root / FLOW_LOCK).open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with project.repo.lock:
                yield
        except (BlockingIOError, LockError) as error:
            raise PruneError("another DVC command or flow works here: let it end, then prune") from error


@contextmanager
def _written(project: Project, paths: Sequence[str]) -> Iterator[None]:
    """No stage reads or writes these: DVC gives its lock up while a stage runs, and notes what that uses."""
    from dvc.lock import LockError
    from dvc.rwlock import rwlock

    repo = project.repo
    try:
        with rwlock(repo.tmp_dir, repo.fs, "assay prune", [], list(paths), repo.config["core"].get("hardlink_lock", False)):
            yield
    except LockError as error:
        raise PruneError("a stage that is running uses one of these policies: let it end, then prune") from error


def _objects(objects: Objects, digest: str) -> set[str]:
    return {digest, *(objects.manifest(digest) or {}).values()}
