"""Inside a worker process: limits first, then one item after the other.

Not a security boundary. It keeps verifiers that hang, explode or crash from hurting the run, and makes honest code
that reaches for the network fail; code that means harm can still read files and can deceive the parent.
"""

import ctypes
import math
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assay.isolation.frames import Frames, pack
from assay.isolation.processes import descendants

PR_SET_PDEATHSIG = 1
MIB = 1 << 20
RECYCLE_ITEMS = 5000
"""Items after which a worker is replaced, as caches of libraries grow."""
RECYCLE_SHARE = 0.25
"""Share of the memory limit that a worker may have kept when an item is done; beyond it the worker is replaced."""
PEAK_SHARE = 0.9
"""Share of the memory limit beyond which a slow item counts as out of memory, although a library swallowed the
MemoryError."""
SLOW = 0.02
"""Seconds from which that is looked at."""
DETAIL = 500
"""Characters of an error message that are kept."""

READY, BROKEN, DONE, FAILED, BYE = "ready", "broken", "done", "failed", "bye"
"""What a worker tells: (READY,) or (BROKEN, why) at its start; (DONE, value) or (FAILED, kind, detail) for each item
in order; (BYE,) before it ends of its own will."""


def run_worker(channel: int, function: Callable[..., Any], timeout: float, memory_mib: int, parent: int) -> None:
    """The life of a worker, forked from the zygote. Returns when it is over; the caller then exits."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return  # it died before the line above
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(channel, 3)
    os.closerange(4, 1 << 20)
    stream = socket.socket(fileno=3)
    start, limit = address_space(), memory_mib * MIB
    try:
        _limit(resource.RLIMIT_AS, start + limit)
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_FSIZE, 0)
        _limit(resource.RLIMIT_NOFILE, 64)
        sys.addaudithook(_guard)
    except (OSError, ValueError) as error:
        stream.sendall(pack((BROKEN, f"its limits could not be set: {error}")))
        return
    stream.sendall(pack((READY,)))
    _serve(stream, function, timeout, start, limit)


def _limit(kind: int, value: int) -> None:
    """Set a limit for good; a lower one that the system has set stays."""
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def address_space() -> int:
    """Bytes of address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def peak_address_space() -> int:
    """The most that it ever was."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmPeak"))


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    if event.startswith("socket."):
        raise PermissionError(f"no network in a worker ({event})")
    if event in ("os.kill", "os.killpg") and not _is_own(-arguments[0] if event == "os.killpg" else arguments[0]):
        raise PermissionError(f"a worker ends no processes but its own ({event})")


def _is_own(pid: int) -> bool:
    """Whether a process number, or a group as a negative one, means this worker or what it has started. (0: its own group.)"""
    return pid != -1 and (abs(pid) in (0, os.getpid()) or any(one.pid == abs(pid) for one in descendants(os.getpid())))


def left_behind() -> bool:
    """Whether an item has left a thread or a process: it would take time and memory that later items are owed."""
    if threading.active_count() > 1:
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _serve(stream: socket.socket, function: Callable[..., Any], timeout: float, start: int, limit: int) -> None:
    """Answer until the parent closes the stream, or until this worker has grown too old or too large."""
    frames = Frames(stream)
    count, me = 0, os.getpid()
    while not frames.ended:
        frames.fetch()
        for items in frames.pending():
            for item in items:
                began = time.monotonic()
                _allow_cpu(timeout)
                answer = _answer(function, item)
                if os.getpid() != me:
                    os._exit(1)  # a child that the item has forked and that came back here: it has nothing to say to the parent
                slow = time.monotonic() - began > SLOW
                if slow and answer[0] == DONE and peak_address_space() - start > PEAK_SHARE * limit:
                    answer = (FAILED, "memory", "the limit was reached, and the function went on")
                stream.sendall(_packed(answer))
                count += 1
                large = address_space() - start > RECYCLE_SHARE * limit
                if large or count >= RECYCLE_ITEMS or answer[:2] == (FAILED, "memory") or left_behind():
                    stream.sendall(pack((BYE,)))
                    return


def _allow_cpu(timeout: float) -> None:
    """Seconds of processor time for the next item: ends it even when the parent is too busy to look at the clock."""
    soft = math.ceil(time.process_time() + timeout) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _answer(function: Callable[..., Any], item: tuple[Any, ...]) -> tuple[Any, ...]:
    try:
        return (DONE, function(*item))
    except MemoryError as error:
        return (FAILED, "memory", _message(error))
    except BaseException as error:  # SystemExit and its like too: nothing that an item raises may end the worker
        return (FAILED, "error", _message(error))


def _message(error: BaseException) -> str:
    """What an exception says. Items bring exceptions of their own, whose text may fail, or be too large."""
    try:
        return f"{type(error).__name__}: {error}"[:DETAIL]
    except BaseException:
        return f"{type(error).__name__}, whose message cannot be read"[:DETAIL]


def _packed(answer: tuple[Any, ...]) -> bytes:
    try:
        return pack(answer)
    except Exception as error:  # pickle raises many kinds, and values may raise their own
        return pack((FAILED, "error", f"the result cannot be sent: {_message(error)}"[:DETAIL]))
