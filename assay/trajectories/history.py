"""Versions that git knows: commits at which a lock file changed, experiments, and all the names that lead to them."""

import hashlib
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from assay.trajectories.pipelines import PIPELINES

SHORT = 7
"""Digits of a commit in a version's name."""
WORKSPACE = "workspace"
EXPERIMENTS = "refs/exps/"


@dataclass(frozen=True)
class Version:
    """A state of a pipeline's lock file that has a name."""

    name: str
    pipeline: str
    kind: str
    """commit, experiment, workspace, past (see past_runs.py), import or replay."""
    lock_hash: str
    commit_id: str | None = None
    committed_at: str | None = None
    subject: str | None = None
    parents: tuple[str, ...] = ()


@dataclass
class History:
    """Everything `sync` needs to know from git, and the lock files that lie in the workspace."""

    versions: list[Version] = field(default_factory=list)
    """Oldest first; the workspace, where it differs from all others, last."""
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Any name -> (version, kind of name)."""
    current: dict[str, str] = field(default_factory=dict)
    """Pipeline -> version that the workspace's lock file is."""


PLAIN = ("-c", "log.showSignature=false", "-c", "i18n.logOutputEncoding=UTF-8")
"""A person's settings that would change what `git log` prints."""


def git(root: Path, *arguments: str, stdin: str | None = None) -> str | None:
    """Output of a git command; None where it fails (no repository, no commit, no git)."""
    command = ["git", *PLAIN, *arguments]
    try:
        done = subprocess.run(
            command, cwd=root, input=stdin, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def references(root: Path) -> str:
    """One text that changes whenever a branch, tag, experiment or HEAD moves."""
    return f"{git(root, 'rev-parse', 'HEAD')}{git(root, 'for-each-ref', '--format=%(objectname) %(refname)')}"


def lock_file(pipeline_file: str) -> str:
    """dvc.lock beside dvc.yaml."""
    return str(PurePosixPath(pipeline_file).with_suffix(".lock"))


def read_history(root: Path) -> History:
    """Versions of every pipeline that has a lock file in the workspace, in a commit or in an experiment."""
    head = (git(root, "rev-parse", "-q", "--verify", "HEAD") or "").strip()
    log = _log(root, "--topo-order", "--reverse", "--branches", "--tags", "--remotes", "HEAD") if head else {}
    experiments = _experiments(root)
    more = _log(root, "--no-walk=unsorted", *(tip for tip, _, _ in experiments)) if experiments else {}
    history = History()
    for file, pipeline in PIPELINES.items():
        lock = root / lock_file(file)
        blobs = _blobs(root, [*log, *more], lock_file(file)) if head else {}
        own = _blob_of(root, lock)
        if blobs or own:
            _add(history, pipeline, head, log, experiments, more, blobs, own)
    for name, commit, kind in _labels(root):
        for pipeline in PIPELINES.values():
            found = history.names.get(_prefixed(pipeline, commit))
            if found is not None:
                history.names.setdefault(_prefixed(pipeline, name), (found[0], kind))
    return history


def _add(
    history: History, pipeline: str, head: str, log: Mapping[str, list[str]], experiments: list[tuple[str, str, str]],
    more: Mapping[str, list[str]], blobs: Mapping[str, str], own: str | None,
) -> None:  # fmt: skip
    """Versions of one pipeline. `blobs`: commit -> hash of its lock file."""
    introduced: dict[str, str] = {}
    of_commit: dict[str, str] = {}
    for commit, (parents, date, subject) in log.items():
        blob = blobs.get(commit)
        if blob is None:
            continue
        if blob not in introduced:
            name = introduced[blob] = _prefixed(pipeline, commit[:SHORT])
            before = tuple(dict.fromkeys(of_commit[parent] for parent in parents.split() if parent in of_commit))
            history.versions.append(Version(name, pipeline, "commit", blob, commit, date, subject, before))
            history.names[name] = (name, "version")
        of_commit[commit] = introduced[blob]
        history.names[_prefixed(pipeline, commit)] = (introduced[blob], "commit")
    by_experiment: dict[str, str] = {}
    for tip, baseline, label in experiments:
        blob = blobs.get(tip)
        if blob is not None and blob == blobs.get(baseline) and baseline in of_commit:
            # It changed no result: another name of its baseline.
            history.names.setdefault(_prefixed(pipeline, label), (of_commit[baseline], "experiment"))
            continue
        if blob is None:
            continue
        name = _prefixed(pipeline, label)
        if name in history.names:
            name = f"{name}@{baseline[:SHORT]}"
        _, date, subject = more[tip]
        before = (of_commit[baseline],) if baseline in of_commit else ()
        history.versions.append(Version(name, pipeline, "experiment", blob, tip, date, subject, before))
        history.names[name] = (name, "version")
        if baseline == head:
            by_experiment[blob] = name
    if own is not None:
        if own == blobs.get(head):
            current = introduced[own]
        elif own in by_experiment:
            current = by_experiment[own]
        else:
            current = _prefixed(pipeline, WORKSPACE)
            before = (of_commit[head],) if head in of_commit else ()
            history.versions.append(Version(current, pipeline, "workspace", own, None, None, None, before))
        history.current[pipeline] = current
        history.names[_prefixed(pipeline, WORKSPACE)] = (current, "workspace")


def _prefixed(pipeline: str, name: str) -> str:
    return name if pipeline == "staged" else f"{pipeline}/{name}"


def _log(root: Path, *selection: str) -> dict[str, list[str]]:
    """commit -> [parents, date, subject]. A subject may hold anything but NUL: line separators of Unicode, say."""
    text = git(root, "log", "-z", "--format=%H%x1f%P%x1f%cI%x1f%s", *selection) or ""
    return {commit: rest for commit, *rest in (entry.split("\x1f", 3) for entry in text.split("\0") if entry)}


def _lines(text: str | None) -> list[str]:
    """Lines of git's output. (`splitlines` would split at characters that names of branches and files may hold.)"""
    return text.removesuffix("\n").split("\n") if text else []


def _experiments(root: Path) -> list[tuple[str, str, str]]:
    """(tip, baseline, name) of each DVC experiment: refs/exps/AB/CDEF.../NAME."""
    found = []
    for line in _lines(git(root, "for-each-ref", "--format=%(objectname) %(refname)", EXPERIMENTS)):
        tip, reference = line.split(" ", 1)
        parts = reference.removeprefix(EXPERIMENTS).split("/")
        if len(parts) == 3 and len(parts[0]) == 2 and len(parts[1]) >= 38:
            found.append((tip, parts[0] + parts[1], parts[2]))
    return found


def _labels(root: Path) -> list[tuple[str, str, str]]:
    """(name, commit, kind) of tags, branches, remote branches and HEAD, in order of precedence."""
    places = {"refs/tags/": "tag", "refs/heads/": "branch", "refs/remotes/": "branch"}
    found = []
    for line in _lines(git(root, "for-each-ref", "--format=%(objectname) %(*objectname) %(refname)", *places)):
        commit, peeled, reference = line.split(" ", 2)
        place = next(place for place in places if reference.startswith(place))
        found.append((list(places).index(place), reference.removeprefix(place), peeled or commit, places[place]))
    head = (git(root, "rev-parse", "-q", "--verify", "HEAD") or "").strip()
    return [(name, commit, kind) for _, name, commit, kind in sorted(found)] + [("HEAD", head, "branch")]


def _blobs(root: Path, commits: Iterable[str], file: str) -> dict[str, str]:
    """commit -> hash of the file in it, for the commits that have it."""
    prefix = (git(root, "rev-parse", "--show-prefix") or "").removesuffix("\n")
    asked = list(commits)
    lines = _lines(git(root, "cat-file", "--batch-check", stdin="".join(f"{commit}:{prefix}{file}\n" for commit in asked)))
    return {commit: line.split()[0] for commit, line in zip(asked, lines, strict=True) if line.split()[1:2] == ["blob"]}


def _blob_of(root: Path, file: Path) -> str | None:
    """Hash that git would give to a file of the workspace; without git that of its bytes."""
    if not file.is_file():
        return None
    return (git(root, "hash-object", str(file.resolve())) or hashlib.sha1(file.read_bytes()).hexdigest()).strip()
