"""Identities and seeds by hash: equal content, equal id, on every machine and in every process."""

import hashlib
from array import array
from collections.abc import Iterable
from pathlib import Path


def content_hash(*parts: str | int | float | None, length: int = 20) -> str:
    """Hexadecimal digest of the parts in order; parts are length-prefixed, so ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.blake2b(digest_size=length // 2)
    for part in parts:
        data = b"\0none" if part is None else repr(part).encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def seed_from(*parts: str | int | float | None) -> int:
    """A seed in [0, 2^31): common to Python, NumPy, torch and vLLM."""
    return int(content_hash(*parts, length=16), 16) % 2**31


def token_hash(ids: Iterable[int]) -> str:
    """Digest of a token sequence."""
    return hashlib.blake2b(array("i", ids).tobytes(), digest_size=10).hexdigest()


def file_digest(path: Path) -> str:
    """BLAKE2 digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def tree_digest(paths: Iterable[Path]) -> str:
    """Digest of files and folders by relative name and content; independent of where they lie and of times."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            name = file.relative_to(path).as_posix() if path.is_dir() else file.name
            digest.update(f"{name}\0{file_digest(file)}\n".encode())
        digest.update(b"--\n")
    return digest.hexdigest()
