"""One process at a time in a scratch folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assay.rollouts.plan import RolloutError


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process. Raises RolloutError naming the holder. A killed process holds nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "lock"
    with file.open("a+", encoding="utf-8") as stream:
        try:
            # Locks of this kind belong to the process: children that it forks neither inherit nor prolong them.
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            raise RolloutError(
                f"{folder}: another process (pid {holder}) is sampling the same plan; wait until it has ended, or end "
                "it, and run again"
            ) from error
        stream.seek(0)
        stream.truncate()
        stream.write(str(os.getpid()))
        stream.flush()
        yield
