"""What the pool's tests let workers do. Imported by workers, so it stands in a module of its own."""

import ctypes
import os
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from assay.isolation.frames import pack


def act(kind: str, value: Any = None) -> Any:
    """One item. Everything but `ok`, `sees`, `sleep` and `pid` misbehaves."""
    return globals()[f"do_{kind}"](value)


def do_ok(value: Any) -> Any:
    return value


def do_pid(value: Any) -> int:
    return os.getpid()


def do_sleep(value: float) -> float:
    time.sleep(value)
    return value


def do_sees(value: Any) -> dict[str, Any]:
    descriptors = {}
    for name in os.listdir("/proc/self/fd"):
        if os.path.exists(f"/proc/self/fd/{name}") or os.path.islink(f"/proc/self/fd/{name}"):
            descriptors[name] = os.readlink(f"/proc/self/fd/{name}")
    return {"environment": dict(os.environ), "descriptors": descriptors, "modules": "psutil" in sys.modules}


def do_hang(value: Any) -> None:
    while True:
        pass


def do_power(value: Any) -> int:
    return len(str(7 ** (7 ** (7**7))))


def do_eat(value: Any) -> None:
    hoard = []
    while True:
        hoard.append(bytearray(4 << 20))


def do_swallow(value: Any) -> str:
    try:
        do_eat(value)
    except Exception:  # what libraries do
        return "went on"
    return ""


def do_exit(value: int) -> None:
    os._exit(value)


def do_segfault(value: Any) -> None:
    ctypes.string_at(0)


def do_raise(value: Any) -> None:
    raise ValueError("x" * 100_000)


def do_leave(value: Any) -> None:
    sys.exit(4)


def do_connect(value: tuple[str, int]) -> None:
    socket.create_connection(value, timeout=1)


def do_raw_connect(value: int) -> int:
    """Past the audit hook, as compiled code would: errno of connect(2) to a port of the loopback device."""
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = library.socket(2, 1, 0)
    address = (2).to_bytes(2, "little") + value.to_bytes(2, "big") + bytes((127, 0, 0, 1)) + bytes(8)
    return ctypes.get_errno() if library.connect(descriptor, address, len(address)) else 0


def do_children(value: float) -> None:
    """A child in a session of its own, a daemon whose parent is gone, then a hang."""
    subprocess.Popen(["sleep", str(value)], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", str(value)])
        os._exit(0)
    do_hang(None)


def do_unpicklable(value: Any) -> Any:
    return lambda: value


def do_write(value: str) -> None:
    with open(value, "w") as stream:
        stream.write("x")


def do_leave_thread(value: Any) -> int:
    """Returns at once; the thread would go on, and slow down what comes after it."""
    threading.Thread(target=do_hang, args=(None,), daemon=True).start()
    return os.getpid()


def do_leave_child(value: float) -> int:
    subprocess.Popen(["sleep", str(value)], start_new_session=True)
    return os.getpid()


def do_many_children(value: float) -> None:
    """A fork bomb with an end, so that a failing test does no harm."""
    for _ in range(200):
        subprocess.Popen(["sleep", str(value)])
    do_hang(None)


def do_children_eat(value: int) -> None:
    """Each child stays below the limit of one process, all of them together do not."""
    for _ in range(6):
        if os.fork() == 0:
            hoard = bytearray(value)
            hoard[::4096] = b"x" * len(hoard[::4096])
            time.sleep(30)
            os._exit(0)
    time.sleep(30)


def do_signal(value: int) -> None:
    """Signal 0, which harms nobody, to the process that workers are forked from (0) or to the group with that number."""
    os.kill(value or os.getppid(), 0)


def do_end_own_child(value: Any) -> str:
    try:
        subprocess.run(["sleep", "30"], timeout=0.05)
    except subprocess.TimeoutExpired:
        return "ended"
    return ""


def do_fork(value: Any) -> int:
    """Both the worker and its child come back from here."""
    os.fork()
    return os.getpid()


def do_fork_raise(value: Any) -> int:
    if os.fork() == 0:
        raise ValueError("in the child")
    return os.getpid()


class Calls:
    """A pickle that calls something where it is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def do_calls(value: str) -> Calls:
    return Calls(value)


def do_forge(value: Any) -> str:
    """What no worker says, on the worker's own stream to the parent."""
    os.write(3, value if isinstance(value, bytes) else pack(value))
    time.sleep(0.05)
    return "went on"


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def do_unreadable(value: Any) -> None:
    raise Unreadable
