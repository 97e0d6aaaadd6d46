"""Progress of long work as lines at intervals: in a log, a bar would be noise."""

import time
from collections.abc import Callable

LINE_EVERY = 10.0
"""Seconds between two lines."""


def lines(what: str) -> Callable[[int, int], None]:
    """A function that is called with (done, all) as often as one likes, and says so now and then."""
    last = time.monotonic()

    def say(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY:
            last = time.monotonic()
            print(f"{what}: {done:,} of {total:,}", flush=True)

    return say


def now_and_then() -> Callable[[str], None]:
    """A function that is called with what there is to say as often as one likes, and prints it at intervals."""
    last = time.monotonic()

    def say(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY:
            last = time.monotonic()
            print(line, flush=True)

    return say
