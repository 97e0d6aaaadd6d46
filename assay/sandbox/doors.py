"""What tool code finds closed in its worker, beside the pool's own limits: files, other programs, processes, threads, foreign code.

The pool already keeps workers from the network, from writing into files, and from time and memory beyond their share. Tool code is
stricter: it has no file system at all. Only Python's own modules may be read, to be imported, and not all of these. Not a security
boundary: a Python process cannot be kept from itself. It holds against code that tries, not against code that studies this interpreter.
"""

import os
import sys
import sysconfig
from typing import Any, NoReturn

_PLATFORM = sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix})
READABLE = tuple({os.path.realpath(path) + os.sep for path in (os.path.dirname(os.__file__), _PLATFORM)} | {"/usr/share/zoneinfo/"})
"""Folders whose files may be read: the standard library with its compiled modules, time zones."""
PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
"""What lies in them and may not: compiled code of a package opens files of its own, and no hook hears of it."""
MODULES = frozenset({
    "_ctypes", "_ctypes_test", "_curses", "_dbm", "_gdbm", "_interpreters", "_multiprocessing", "_posixshmem", "_posixsubprocess",
    "_sqlite3", "_ssl", "_testcapi", "_testinternalcapi", "_tkinter", "_xxsubinterpreters", "nis", "ossaudiodev", "readline", "spwd",
    "syslog", "termios",
})  # fmt: skip
"""Compiled modules that are not imported: they open files, run programs or have interpreters without hooks."""
LINKS = 40
"""Symbolic links on one way, as Linux has it."""
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
    "mknod", "nice", "open_by_handle_at", "openpty", "pidfd_open", "pipe", "pipe2",
    "pread", "preadv", "pwrite", "pwritev", "read", "readlink",
    "readv", "sched_setaffinity", "sched_setscheduler", "sendfile", "setpgid", "setpriority", "setsid", "splice", "sync", "umask",
    "write", "writev", "chroot", "mount", "setns", "unshare", "fchdir", "fork", "forkpty", "vfork",
)  # fmt: skip
"""Functions of `os` that tell no hook of what they do. The worker speaks over a socket and needs none of them."""
UNHEARD_ELSEWHERE = (
    ("signal", "pidfd_send_signal"), ("_signal", "pidfd_send_signal"), ("_posixsubprocess", "fork_exec"), ("subprocess", "_fork_exec"),
)  # fmt: skip
"""Such functions of other modules that a worker may have imported."""

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
                setattr(module, name, _refusal(f"os.{name}"))
    for name, function in UNHEARD_ELSEWHERE:
        if hasattr(sys.modules.get(name), function):
            setattr(sys.modules[name], function, _refusal(f"{name}.{function}"))
    sys.path[:] = _SEARCHED
    sys.addaudithook(_guard)


def _refusal(name: str) -> Any:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise PermissionError(f"tool code may not use {name}")

    return refuse


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "import":
        _check_import(arguments[0], arguments[1])
    elif event == "open":
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
    if name not in OF_THE_WORKER and not _is_readable(name):
        raise PermissionError("tool code may not read files")


_readlink = os.readlink


def _real(path: str) -> str:
    """`os.path.realpath`, which needs `os.readlink`, one of what is closed."""
    left, real = os.path.join(os.getcwd(), path).split(os.sep)[::-1], ""
    links = 0
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            real = os.path.dirname(real)
            continue
        try:
            link = _readlink(f"{real}/{part}")
        except OSError:  # no link, or no file
            real = f"{real}/{part}"
            continue
        links += 1
        if links > LINKS:
            return ""
        real = "" if link.startswith(os.sep) else real
        left += link.split(os.sep)[::-1]
    return real


def _is_readable(path: str) -> bool:
    path = f"{_real(path)}{os.sep}"
    return path.startswith(READABLE) and not any(one in path for one in PACKAGES)


_SEARCHED = [os.path.realpath(path) for path in sys.path if path.endswith(".zip") or _is_readable(path)]
"""Where modules are looked for: once for all calls, as looking at folders takes its time."""


def _check_import(name: str, file: str | None) -> None:
    """file: of compiled code, which is opened without another event."""
    if name.rpartition(".")[2] in MODULES:
        raise ImportError(f"tool code may not import {name}")
    if file is not None:
        _check_path(file)
