"""Verifiers with options: the names that hold them, by which every process knows them without being told, and the versions they have."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def address(name: str, options: Mapping[str, Any]) -> str:
    """The verifier's name with the options that are not the defaults; the name alone where there are none."""
    return f"{name}:{_text(options)}" if options else name


def options_of(address: str) -> dict[str, Any]:
    """What `address` was given."""
    found: dict[str, Any] = json.loads(address.partition(":")[2] or "{}")
    return found


def version_of(revision: int, options: Mapping[str, Any]) -> str:
    """Changes with the options, for verdicts and rewards do."""
    digest = hashlib.blake2b(_text(options).encode(), digest_size=6).hexdigest()
    return f"{revision}+{digest}" if options else str(revision)


def _text(options: Mapping[str, Any]) -> str:
    return json.dumps(options, sort_keys=True)
