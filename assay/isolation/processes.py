"""What /proc tells about other processes. Standard library only: the watcher and the workers start with this."""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[2])


@dataclass(frozen=True)
class Process:
    """A process at the moment it was looked at. Number and start together identify it: numbers are given again."""

    pid: int
    parent: int
    group: int
    state: str
    """One letter: R, S, D, T ... ; Z and X are dead."""
    started: int
    """Clock ticks after boot."""


def bare_environment() -> dict[str, str]:
    """The environment of helpers: empty but for what a Python built against shared libraries needs to start."""
    return {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}


def helper_code(module: str) -> str:
    """What `python -c` must run to call `main` of a module of ours, wherever we are imported from."""
    return f"import sys; sys.path.insert(0, {_ROOT!r}); from {module} import main; main()"


def look(pid: int) -> Process | None:
    """The process with this number, None where there is none (or it has ended and waits to be collected)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()  # the name before it may hold brackets and spaces
    process = Process(pid, int(fields[1]), int(fields[2]), fields[0].decode(), int(fields[19]))
    return None if process.state in "ZX" else process


def is_alive(process: Process) -> bool:
    """Whether that very process still runs."""
    now = look(process.pid)
    return now is not None and now.started == process.started


def resident(pid: int) -> int:
    """Bytes of its memory that are in use, shared ones included; 0 where there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError):
        return 0


def command(pid: int) -> list[str]:
    """The command line; empty where it cannot be read."""
    try:
        return [os.fsdecode(part) for part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]]
    except OSError:
        return []


def ignored_signals(pid: int) -> int:
    """Bit mask of the signals that the process ignores (bit 0 is signal 1); 0 where it cannot be read."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:")), 0)


def children(pid: int) -> list[int]:
    """Numbers of the direct children."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        for thread in threads:
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_bytes().split())
    except FileNotFoundError:
        if Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists():
            return found  # a thread ended while we looked
        everyone = (look(int(name)) for name in os.listdir("/proc") if name.isdigit())
        return [process.pid for process in everyone if process is not None and process.parent == pid]
    except OSError:
        return found
    return found


def descendants(pid: int) -> list[Process]:
    """Children, their children and so on, parents first."""
    found: list[Process] = []
    waiting = children(pid)
    while waiting:
        process = look(waiting.pop(0))
        if process is not None:
            found.append(process)
            waiting += children(process.pid)
    return found


def send(process: Process, number: signal.Signals) -> None:
    """Signal that very process; nothing happens where it has ended."""
    if is_alive(process):
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            print(f"process {process.pid} cannot be ended: {error}", file=sys.stderr)


def kill_tree(roots: list[Process], spare: int) -> None:
    """SIGKILL to the given processes and all of their descendants but `spare`. They are stopped first, so that none
    escapes by forking."""
    stopped: dict[tuple[int, int], Process] = {}
    while True:
        tree = [one for root in roots if is_alive(root) for one in (root, *descendants(root.pid))]
        new = [process for process in tree if process.pid != spare and (process.pid, process.started) not in stopped]
        if not new:
            break
        for process in new:
            send(process, signal.SIGSTOP)
            stopped[process.pid, process.started] = process
    for process in reversed(stopped.values()):
        send(process, signal.SIGKILL)
