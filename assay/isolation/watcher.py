"""The process behind `die_with_parent`: ends its owner, and all below it, when an ancestor of the owner is gone."""

import os
import select
import signal
import sys

from assay.isolation.processes import Process, descendants, is_alive, kill_tree

INTERVAL = 0.25
"""Seconds between two looks."""


def main() -> None:
    """Arguments: file descriptor of the farewell pipe, the owner, its watched ancestors (pid:start each)."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the owner, who then ends or not; we follow
    pipe = int(sys.argv[1])
    owner, *ancestors = (_named(word) for word in sys.argv[2:])
    watch(pipe, owner, ancestors)


def _named(word: str) -> Process:
    pid, started = word.split(":")
    return Process(int(pid), 0, 0, "", int(started))


def watch(pipe: int, owner: Process, ancestors: list[Process]) -> None:
    """Return when the owner says farewell; otherwise end everything below it when it or an ancestor is gone, then
    return."""
    pipes = [pipe]
    known: dict[tuple[int, int], Process] = {}
    while True:
        if select.select(pipes, [], [], INTERVAL)[0]:
            if os.read(pipe, 1):
                return
            pipes = []  # closed without a word: killed, or the owner has replaced itself by another program
        alive = is_alive(owner)
        if alive:
            # Remembered from look to look: once the owner is gone, its children are somebody else's.
            known = {(one.pid, one.started): one for one in descendants(owner.pid) if one.pid != os.getpid()}
        if not alive or not all(map(is_alive, ancestors)):
            kill_tree([owner, *known.values()], spare=os.getpid())
            return
