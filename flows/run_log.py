"""A stage's output: all of it in a file, a bounded part of it in Prefect's log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(".assay/logs")
WHOLE = 60  # lines passed on without a pause; later ones at most one every PAUSE seconds
PAUSE = 10.0
WIDTH = 400  # characters of a line that are passed on
FILE_LIMIT = 64 * 2**20  # bytes of a log file


@contextmanager
def stage_log(
    root: Path, stage: str, say: Callable[[str], object], *, again: bool = False
) -> Iterator[Callable[[str], None]]:
    """A function that takes lines of output: it writes them to .assay/logs/STAGE.log and passes some on to `say`.

    `again` keeps what an earlier attempt wrote. A long stage goes on showing that it lives; a talkative one does not
    flood the log.
    """
    path = root / FOLDER / f"{stage.replace('/', '_').replace(':', '_')}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    passed = held_back = 0
    last = 0.0
    with path.open("a" if again else "w", encoding="utf-8") as file:
        room = FILE_LIMIT - file.tell()

        def take(line: str) -> None:
            nonlocal passed, held_back, last, room
            if room > 0:
                file.write(f"{line}\n")
                file.flush()
                room -= len(line) + 1
            now = time.monotonic()
            if passed < WHOLE or now - last >= PAUSE:
                passed, last = passed + 1, now
                say(line if len(line) <= WIDTH else f"{line[:WIDTH]} … ({len(line)} characters)")
            else:
                held_back += 1

        try:
            yield take
        finally:
            if held_back:
                say(f"{held_back} more lines are in {path.relative_to(root)}")
