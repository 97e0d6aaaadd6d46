"""One process at a time in a scratch folder."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from assay.rollouts.plan import RolloutError


@contextmanager
def folder_lock(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold `folder` for this process, after at most `wait` seconds. Raises RolloutError naming the holder. A killed
    process holds nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "lock"
    with file.open("a+", encoding="utf-8") as stream:
        end = time.monotonic() + wait
        while not _acquired(stream):
            if time.monotonic() >= end:
                stream.seek(0)
                holder = stream.read().strip() or "unknown"
                raise RolloutError(
                    f"{folder}: another process (pid {holder}) is at work on the same; wait until it has ended, or end it, "
                    "and run again"
                )
            time.sleep(0.1)
        stream.seek(0)
        stream.truncate()
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def _acquired(stream: TextIO) -> bool:
    try:
        # Locks of this kind belong to the process: children that it forks neither inherit nor prolong them.
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
