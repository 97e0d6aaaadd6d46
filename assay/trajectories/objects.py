"""What DVC has stored: files and folder manifests by their hash, wherever the cache lies."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = ".dir"
"""Suffix of a folder's hash."""


@dataclass(frozen=True)
class Objects:
    """DVC's local cache, content-addressed: files/md5/AB/CDEF..."""

    cache: Path

    def path(self, digest: str) -> Path:
        return self.cache / digest[:2] / digest[2:]

    def manifest(self, digest: str) -> dict[str, str] | None:
        """Files of a stored folder: path inside it -> md5. None where the cache lacks it, or has it damaged."""
        path = self.path(digest)
        try:
            return {entry["relpath"]: entry["md5"] for entry in json.loads(path.read_text(encoding="utf-8"))}
        except (OSError, ValueError, KeyError, TypeError):  # not there, or cut off
            return None


def folder_digest(files: Mapping[str, str]) -> str:
    """DVC's hash of a folder with these files (path inside it -> md5)."""
    entries = [{"md5": files[path], "relpath": path} for path in sorted(files)]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + FOLDER


def below(files: Mapping[str, str], folder: str) -> dict[str, str]:
    """The part of a manifest that lies in a sub-folder, with paths inside that."""
    return {path.removeprefix(f"{folder}/"): md5 for path, md5 in files.items() if path.startswith(f"{folder}/")}


def workspace_manifest(folder: Path) -> dict[str, str]:
    """The manifest of a folder as it lies in the workspace; every file is read."""
    return {path.relative_to(folder).as_posix(): md5(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def md5(path: Path) -> str:
    """MD5 of a file's bytes, as DVC computes it."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()
