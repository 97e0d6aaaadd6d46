"""What tool code finds closed in its worker, beside the pool's own limits: files, other programs, processes, threads, foreign code.

The pool already keeps workers from the network, from writing into files, and from time and memory beyond their share. Tool code is
stricter: it has no file system at all. Only Python's own modules may be read, to be imported. Not a security boundary: a Python process
cannot be kept from itself. It holds against code that tries, not against code that studies this interpreter.
"""

import os
import sys
import sysconfig
from typing import Any, NoReturn

READABLE = tuple(
    {os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {"/usr/share/zoneinfo/"}
)
"""Folders whose files may be read: the standard library, installed packages, time zones."""
OF_THE_WORKER = ("/proc/self/statm", "/proc/self/status")
"""What the worker itself reads between two calls."""
REFUSED = frozenset({
    "ctypes.dlopen", "ctypes.dlsym", "ctypes.cdata", "fcntl.fcntl", "fcntl.flock", "fcntl.ioctl", "fcntl.lockf", "glob.glob",
    "mmap.__new__", "os.chdir", "os.chflags", "os.chmod", "os.chown", "os.exec", "os.fork", "os.forkpty", "os.fwalk", "os.getxattr",
    "os.kill", "os.killpg", "os.link", "os.listxattr", "os.lockf", "os.mkdir", "os.posix_spawn", "os.putenv", "os.remove",
    "os.removexattr", "os.rename", "os.rmdir", "os.setxattr", "os.spawn", "os.symlink", "os.system", "os.truncate", "os.unsetenv",
    "os.utime", "os.walk", "pty.spawn", "resource.prlimit", "signal.pthread_kill", "sqlite3.connect", "subprocess.Popen",
    "sys.addaudithook", "_posixsubprocess.fork_exec",
})  # fmt: skip
"""Events of Python's audit hooks."""
UNHEARD = (
    "abort", "close", "closerange", "copy_file_range", "dup", "dup2", "eventfd", "eventfd_write", "lseek", "memfd_create", "mkfifo",
    "mknod", "nice", "open_by_handle_at", "openpty", "pipe", "pipe2", "pread", "preadv", "pwrite", "pwritev", "read", "readlink",
    "readv", "sched_setaffinity", "sched_setscheduler", "sendfile", "setpgid", "setpriority", "setsid", "splice", "sync", "umask",
    "write", "writev", "chroot", "mount", "setns", "unshare", "fchdir", "fork", "forkpty", "vfork",
)  # fmt: skip
"""Functions of `os` that tell no hook of what they do. The worker speaks over a socket and needs none of them."""

_closed = False


def close_doors() -> None:
    """For the rest of this process's life; a second call does nothing. To be called in a worker, never in a program's main process."""
    global _closed
    if _closed:
        return
    _closed = True
    sys.dont_write_bytecode = True
    for module in (os, sys.modules["posix"]):
        for name in UNHEARD:
            if hasattr(module, name):
                setattr(module, name, _refusal(name))
    sys.addaudithook(_guard)


def _refusal(name: str) -> Any:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise PermissionError(f"tool code may not use os.{name}")

    return refuse


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        _check_open(arguments[0], arguments[2])
    elif event in ("os.listdir", "os.scandir"):
        _check_path(arguments[0])
    elif event in REFUSED or event.startswith(("shutil.", "tempfile.")):
        raise PermissionError(f"tool code may not do this ({event})")


def _check_open(path: Any, flags: int) -> None:
    if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
        raise PermissionError("tool code may not write files")
    _check_path(path)


def _check_path(path: Any) -> None:
    """Numbers of open files are refused too: one of them leads to the parent."""
    name = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
    if name not in OF_THE_WORKER and not f"{os.path.realpath(name)}{os.sep}".startswith(READABLE):
        raise PermissionError("tool code may not read files")
