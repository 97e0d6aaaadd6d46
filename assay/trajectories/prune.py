"""Policies that only took a run from one iteration to the next: they may go, with their optimizer states; the record stays.

DVC keeps what the lock file names, so `dvc gc` cannot help. The lock file still says what they were: `dvc repro --allow-missing` goes on
from the last policy, `dvc pull` brings back what was pushed, and a plain `dvc repro` would make them anew.
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.trajectories.objects import Objects
from assay.trajectories.pipelines import Stage, open_project

POLICY = re.compile(r"(models/(?:fused/)?)(\d+)")


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

    What another output of the workspace's stages holds too stays in the cache; other commits' copies of the same policies go. dry: only
    say. Raises PruneError for keep < 1, PipelineError where there is no DVC project, LockError of DVC where another process runs stages.
    """
    if keep < 1:
        raise PruneError(f"--keep is {keep}, expected 1 or more: a run goes on from its last policy")
    with open_project(root) as project:
        ((_, stages),) = [found for found in project.stages([]) if found[0] is None]
        if isinstance(stages, str):
            raise PruneError(f"dvc.yaml cannot be read: {stages}")
        outputs = {path: digest for stage in stages for path, digest in stage.outputs.items()}
        chosen = between(stages, keep)
        still = {md5 for path, digest in outputs.items() if path not in chosen for md5 in _objects(project.objects, digest)}
        gone = {md5 for path in chosen for md5 in _objects(project.objects, outputs[path])} - still
        files = [file for file in map(project.objects.path, sorted(gone)) if file.is_file()]
        there = [path for path in chosen if (root / path).is_dir() or project.objects.path(outputs[path]).is_file()]
        size = sum(file.stat().st_size for file in files)
        if not dry:
            with project.repo.lock:
                for path in there:
                    shutil.rmtree(root / path, ignore_errors=True)
                for file in files:  # manifests are among them
                    file.unlink(missing_ok=True)
    return Pruned(tuple(there), size)


def between(stages: Sequence[Stage], keep: int) -> list[str]:
    """Paths of the policies after the first and before the last `keep` of their pipeline, in order."""
    found: dict[str, list[int]] = {}
    for path in sorted({path for stage in stages for path in stage.outputs}):
        if match := POLICY.fullmatch(path):
            found.setdefault(match[1], []).append(int(match[2]))
    return [f"{folder}{number}" for folder, numbers in found.items() for number in sorted(numbers)[:-keep] if number > 0]


def _objects(objects: Objects, digest: str) -> set[str]:
    return {digest, *(objects.manifest(digest) or {}).values()}
