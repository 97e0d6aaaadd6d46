"""One run at a time works on a workspace: a lock that the kernel releases when its holder ends, however it ends."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from flows.commands import Busy

FILE = Path(".assay/run.lock")


@contextmanager
def run_lock(root: Path, run: str, wait: float = 0.0) -> Iterator[int]:
    """Hold the workspace at `root` for the flow run named `run`; yields the lock's file descriptor.

    The descriptor may be handed to a child process, which then holds the lock until it ends. The file stays: only the
    lock on it counts, so what a killed run leaves behind blocks nobody. Raises Busy after `wait` seconds; it names the
    holder.
    """
    path = root / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        end = time.monotonic() + wait
        while not _acquire(number):
            if time.monotonic() >= end:
                raise Busy(
                    f"{describe_holder(path)} works on {root.resolve()}: let it finish or stop it, then run again. "
                    "To run two at once, give each its own clone"
                )
            time.sleep(0.2)
        holder = {"pid": os.getpid(), "run": run, "since": datetime.now().astimezone().isoformat(timespec="seconds")}
        os.ftruncate(number, 0)
        os.pwrite(number, json.dumps(holder).encode(), 0)
        yield number
    finally:
        os.close(number)


def _acquire(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def describe_holder(path: Path) -> str:
    """Who holds the lock, as it wrote there; a holder that has not written yet, or a cut line, is "another run"."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"flow run {holder['run']!r} (process {holder['pid']}, since {holder['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"
