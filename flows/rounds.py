"""A fused iteration while it runs: a progress artifact that follows the lines which it prints, one a round."""

import re
import time
import uuid
from collections.abc import Callable

PAUSE = 5.0
"""Seconds between two updates: each is a request to the Prefect server."""
_ROUND = re.compile(r"^round (?P<done>\d+) of (?P<all>\d+): (?P<numbers>.*)")


def watched(take: Callable[[str], None]) -> Callable[[str], None]:
    """`take` that also keeps an artifact of the current task run up to date, once a stage prints rounds."""
    artifact: uuid.UUID | None = None
    last = 0.0

    def see(line: str) -> None:
        nonlocal artifact, last
        take(line)
        if (match := _ROUND.match(line)) is None:
            return
        ended = match["done"] == match["all"]
        if artifact is not None and not ended and time.monotonic() - last < PAUSE:
            return
        last = time.monotonic()
        share, said = 100 * int(match["done"]) / int(match["all"]), f"round {match['done']} of {match['all']}: {match['numbers']}"
        artifact = show(artifact, share, said)

    return see


def show(artifact: uuid.UUID | None, percent: float, said: str) -> uuid.UUID:
    """Make the artifact, or change it; returns its id."""
    from prefect.artifacts import create_progress_artifact, update_progress_artifact

    if artifact is None:
        return create_progress_artifact(progress=percent, key="rounds", description=said)
    update_progress_artifact(artifact, progress=percent, description=said)
    return artifact
