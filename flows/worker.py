"""A process that runs one command after another for the flow, and leaves nothing of them behind.

Why a process of its own: whatever a command starts, also in a session of its own, is found again and ended, because
orphans fall to this process (Linux: "child subreaper"). That happens when the command runs out of time and when the
flow goes away, even by kill -9: the flow's end of the pipe closes. Why it serves DVC from memory: importing DVC takes
longer than all that it does for a stage, so it is imported once and every `dvc ...` runs in a fork.

Protocol: requests are JSON lines on standard input, {"arguments", "timeout", "token"}. The command's output comes on
standard output as it is, and after it one line: the token, a space, and the JSON of an outcome ("exited" or "timeout"),
the exit code and the number of processes that had been left behind.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from typing import IO, Any, NoReturn

import psutil

GRACE = 5.0  # seconds between the request to end and the end
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def main() -> int:
    """Serve requests until standard input closes."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    for number in map(int, os.listdir("/proc/self/fd")):  # what the flow wants kept open (commands.Runner) is for this
        with contextlib.suppress(OSError):  # process alone; the listing's own descriptor is closed by now
            os.set_inheritable(number, number < 3)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    warm = False
    try:
        while line := sys.stdin.readline():
            request = json.loads(line)
            if request["arguments"][0] == "dvc" and not warm:
                warm_up()
                warm = True
            answer = run(request["arguments"], request["timeout"])
            sys.stdout.write(f"\n{request['token']} {json.dumps(answer)}\n")
            sys.stdout.flush()
    finally:
        end_descendants()
    return 0


def run(arguments: list[str], timeout: float) -> dict[str, Any]:
    """One command, to its end, to its time-out in seconds, or to the end of the flow (SystemExit)."""
    child = start(arguments)
    outcome, code = "timeout", -signal.SIGKILL
    end = time.monotonic() + timeout
    finished = os.pidfd_open(child)
    try:
        ready, _, _ = select.select([finished, sys.stdin], [], [], max(0.0, end - time.monotonic()))
        if finished in ready:
            outcome, code = "exited", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        elif ready:
            sys.exit(1)  # the flow is gone, or wants the command to end: it never writes during one
    finally:
        os.close(finished)
        left = end_descendants(patience=1.0 if outcome == "exited" else 0.0)
    return {"outcome": outcome, "code": code, "left": left}


def start(arguments: list[str]) -> int:
    """Fork a child that leads its own session and dies with this process; returns its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(1, 2)
        if arguments[0] == "dvc":
            code = dvc(arguments)
        else:
            os.execvp(arguments[0], arguments)
    except OSError as error:
        print(f"error: {arguments[0]}: {error.strerror}", file=sys.stderr)
        code = 127
    finally:
        leave(code)


def dvc(arguments: list[str]) -> int:
    """DVC's own command line, in this process."""
    from dvc.cli import main as command_line

    sys.argv = arguments  # DVC names it in its locks
    return int(command_line(arguments[1:]) or 0)


def leave(code: int) -> NoReturn:
    """End a forked child without the parent's exit handlers."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code & 0xFF)


def warm_up() -> None:
    """Import what `dvc repro` needs by letting DVC draw its graph, unseen. Errors are said at the real request."""
    quiet: IO[str]
    saved = os.dup(1), os.dup(2)
    with open(os.devnull, "w") as quiet:
        os.dup2(quiet.fileno(), 1)
        os.dup2(quiet.fileno(), 2)
        try:
            dvc(["dvc", "dag", "--dot"])
            sys.stdout.flush()
        finally:
            for number, copy in enumerate(saved, start=1):
                os.dup2(copy, number)
                os.close(copy)


def end_descendants(patience: float = 0.0) -> int:
    """End every process below this one: after `patience` seconds asked to, after GRACE more killed. Counts them."""
    me = psutil.Process()
    start = time.monotonic()
    asked: set[int] = set()
    while remaining := me.children(recursive=True):  # again each time: a process that ends may have started others
        for process in remaining:
            with contextlib.suppress(psutil.NoSuchProcess):
                if time.monotonic() > start + patience + GRACE:
                    process.kill()
                elif (
                    time.monotonic() >= start + patience
                    and process.pid not in asked
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    process.terminate()
                    asked.add(process.pid)
        reap()
        time.sleep(0.02)
    return len(asked)


def reap() -> None:
    """Collect ended children, adopted ones too, so that none stays as a zombie."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def prctl(option: int, value: int) -> None:
    """Linux's prctl. Raises OSError."""
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl failed")


if __name__ == "__main__":
    sys.exit(main())
