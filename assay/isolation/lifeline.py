"""A process that does not outlive the one that ordered it: `kill -9` of `dvc` must leave nothing running.

DVC starts a stage as `sh -c COMMAND`. When `dvc` is killed, neither the shell nor we hear of it. PR_SET_PDEATHSIG is
not enough: it follows the direct parent only (the shell), fires when the parent's *thread* ends, and leaves our own
children behind. So a small second process watches our ancestors and us (`assay.isolation.watcher`); when an ancestor
is gone it ends us and all below us. A process of its own, because a thread of ours waits for the interpreter's lock,
and because it must also act when we are killed.
"""

import atexit
import os
import signal
import subprocess
import sys

from assay.isolation.processes import Process, bare_environment, command, helper_code, ignored_signals, look

SHELLS = frozenset({"sh", "dash", "bash", "ash", "zsh", "ksh", "mksh", "fish", "busybox"})
_DETACHING = (1 << (signal.SIGHUP - 1)) | (1 << (signal.SIGINT - 1))
_watched_pids: set[int] = set()  # a fact about this process, not state: a second call must not start a second watcher


def die_with_parent() -> None:
    """From now on this process and all below it end within about a second after the process that ordered it has ended.

    Watched are our ancestors up to the nearest `dvc`, or, without one, the shells above us that run a command or
    script and the first process above them that is not a shell. What people detach on purpose is left alone: nothing
    beyond an interactive shell is watched, nor beyond a `nohup` or a `&` in a script (seen by the signals that such a
    process ignores and its parent does not). When this process is itself killed, what it had started is ended too;
    when it ends by itself, what it leaves running is its affair. Linux only: elsewhere, or without /proc, this does
    nothing. Further calls do nothing.
    """
    me = look(os.getpid())
    if me is None or me.pid in _watched_pids:
        return
    _watched_pids.add(me.pid)
    reading, writing = os.pipe()
    ancestors = watched_ancestors()
    arguments = [str(reading), *(f"{process.pid}:{process.started}" for process in (me, *ancestors))]
    watcher = subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", helper_code("assay.isolation.watcher"), *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        pass_fds=(reading,), env=bare_environment(),
    )  # fmt: skip
    os.close(reading)
    atexit.register(_farewell, me.pid, writing, watcher)


def is_orphan() -> bool:
    """Whether the program that ordered this process has ended: beyond the shells that carried the order (some replace
    themselves by the command, dash waits for it) is nothing but init, or a service manager that takes its place for a
    session. For processes that somebody else started and waits for; what people detach looks the same."""
    parent = look(os.getppid())
    while parent is not None and parent.pid != 1 and _is_shell(parent):
        parent = look(parent.parent)
    if parent is None:
        return True
    name = os.path.basename((command(parent.pid) or [""])[0])
    return (parent.pid == 1 or name == "systemd") and not _is_dvc(parent)


def _farewell(owner: int, writing: int, watcher: subprocess.Popen[bytes]) -> None:
    """Tell the watcher that we end by ourselves. A forked child runs this too and must not."""
    if os.getpid() != owner:
        return
    try:
        os.write(writing, b".")
        watcher.wait(timeout=2)
    except (OSError, subprocess.TimeoutExpired):
        watcher.kill()
        watcher.wait()


def watched_ancestors() -> list[Process]:
    """The ancestors whose end is ours, nearest first. Empty when we were started from an interactive shell or
    detached."""
    chain: list[Process] = []
    enough = None  # how many of them to watch where there is no dvc
    child = look(os.getpid())
    while child is not None:
        parent = look(child.parent)
        if parent is None or parent.pid == 1 or _is_detached(child, parent) or _is_at_prompt(parent):
            break
        if enough is None and _is_shell(parent) and child.group != parent.group:
            enough = len(chain)  # a job of a shell with job control, or a program that made its own group
        chain.append(parent)
        if _is_dvc(parent):
            return chain
        if enough is None and not _is_shell(parent):
            enough = len(chain)
        child = parent
    return chain[:enough]


def _is_detached(child: Process, parent: Process) -> bool:
    """nohup ignores SIGHUP for the child; a shell without job control ignores SIGINT for what it starts with `&`."""
    return bool(ignored_signals(child.pid) & ~ignored_signals(parent.pid) & _DETACHING)


def _is_shell(process: Process) -> bool:
    words = command(process.pid)
    return bool(words) and os.path.basename(words[0]).removeprefix("-") in SHELLS


def _is_at_prompt(process: Process) -> bool:
    """A shell that was given neither a command nor a script: a person types into it."""
    arguments = command(process.pid)[1:]
    ordered = any(not word.startswith("-") or ("c" in word and not word.startswith("--")) for word in arguments)
    return _is_shell(process) and not ordered


def _is_dvc(process: Process) -> bool:
    words = command(process.pid)[:4]
    return any(os.path.basename(word) == "dvc" for word in words)
