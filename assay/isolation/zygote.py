"""The process that workers are forked from: it has imported what they need, and nothing else lives in it.

Started as a fresh interpreter, so workers know nothing of the parent's memory, threads, environment and open files. A
new worker costs a fork (milliseconds) instead of an import (seconds), which keeps the throughput when answers kill
workers by the dozen.
"""

import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assay.isolation.processes import children, descendants, kill_tree, look, resident
from assay.isolation.worker import MIB, run_worker

PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PATIENCE = 100
"""Milliseconds between two looks whether the parent still lives (its end of the socket may survive it in a forked
child)."""
CROWDED_PATIENCE = 30
"""The same while a worker has processes of its own, which may become many within moments."""
MAX_PROCESSES = 64
"""Processes that one item may have started and not ended."""
MESSAGE = 1 << 16
"""Bytes of the longest message on the control socket."""


def main() -> None:
    """Arguments: file descriptor of the control socket, the parent's process number."""
    control = socket.socket(fileno=int(sys.argv[1]))
    Zygote(control, int(sys.argv[2])).run()


class Zygote:
    """Forks workers on request, ends them on request, reports their ends; ends with its parent and takes everything
    along."""

    def __init__(self, control: socket.socket, parent: int) -> None:
        self.control, self.parent = control, parent
        self.workers: dict[int, int] = {}  # process number -> the parent's key of that worker
        self.excess: dict[int, tuple[str, str]] = {}  # process number of a worker that was ended for it -> (failure, detail)
        self.crowded = False
        self.function: Callable[..., Any]
        self.settings: dict[str, Any] = {}
        self.resident = 0

    def run(self) -> None:
        """Until the parent closes the control socket or dies."""
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # what outlives a worker becomes our child, and is ended
        self.settings = json.loads(self.control.recv(MESSAGE))
        network = leave_network()
        try:
            self._import()
        except BaseException as error:  # whatever an import does, SystemExit included, is reported instead
            self._tell(event="failed", why="".join(traceback.format_exception(error))[-2000:])
            # Orders that lie unread when a socket is closed would take that message with them.
            while os.getppid() == self.parent and self.control.recv(MESSAGE):
                continue
            return
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        gc.collect()
        gc.freeze()
        self.resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)  # until here the parent wants to know what went wrong
        self._tell(event="ready", network=network)
        self._loop(woken)
        self.workers.clear()
        self._sweep()

    def _import(self) -> None:
        for path in self.settings["path"]:
            if path not in sys.path:
                sys.path.append(path)
        for name in (*self.settings["preload"], self.settings["function"]):
            module, _, attribute = name.partition(":")
            found = importlib.import_module(module)
            if name == self.settings["function"]:
                self.function = getattr(found, attribute)
            elif attribute:
                getattr(found, attribute)()
        os.environ.clear()

    def _loop(self, woken: int) -> None:
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(woken, select.POLLIN)
        looked = time.monotonic()
        while os.getppid() == self.parent:
            patience = CROWDED_PATIENCE if self.crowded else PATIENCE
            ready = {descriptor for descriptor, _ in poll.poll(patience)}
            if (time.monotonic() - looked) * 1000 >= patience:
                self._watch()
                looked = time.monotonic()
            if woken in ready:
                os.read(woken, 4096)
                self._collect()
            if self.control.fileno() in ready:
                message, channels, _, _ = socket.recv_fds(self.control, MESSAGE, 1)
                if not message:
                    return
                order = json.loads(message)
                if order["do"] == "fork":
                    self._fork(order["key"], channels[0])
                else:
                    self._kill(order["pid"])

    def _fork(self, key: int, channel: int) -> None:
        me = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(channel)
            self._tell(event="failed", why=f"a worker could not be started: {error}")
            return
        if pid == 0:
            try:
                run_worker(channel, self.function, self.settings["timeout"], self.settings["memory_mib"], me)
            finally:
                os._exit(1)
        os.close(channel)
        self.workers[pid] = key
        self._tell(event="started", key=key, pid=pid)

    def _kill(self, pid: int) -> None:
        """End a worker and what it started. It has not been collected yet, so its number cannot mean another
        process."""
        process = look(pid) if pid in self.workers else None
        if process is not None:
            kill_tree([process], spare=os.getpid())

    def _collect(self) -> None:
        """Report workers that have ended and end what they left behind."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            key = self.workers.pop(pid, None)
            if key is not None:
                growth = usage.ru_maxrss * 1024 - self.resident
                code, excess = os.waitstatus_to_exitcode(status), self.excess.pop(pid, None)
                self._tell(event="ended", key=key, code=code, growth_mib=growth / MIB, excess=excess)
            self._sweep()

    def _watch(self) -> None:
        """End what is orphaned, and workers whose processes are too many, or hold more memory than one worker may."""
        self._sweep()
        self.crowded = False
        for pid in self.workers:
            family = descendants(pid)
            if not family or pid in self.excess:
                continue
            self.crowded = True
            grown = sum(max(0, resident(one) - self.resident) for one in (pid, *(process.pid for process in family)))
            if len(family) > MAX_PROCESSES:
                self.excess[pid] = "crash", f"ended with {len(family)} processes of its own, more than {MAX_PROCESSES}"
            elif grown > self.settings["memory_mib"] * MIB:
                self.excess[pid] = "memory", f"ended with {grown // MIB} MiB in {len(family) + 1} processes"
            else:
                continue
            self._kill(pid)

    def _sweep(self) -> None:
        """End our children that are not workers, and all below them: what ended workers have left behind."""
        strays = (look(pid) for pid in children(os.getpid()) if pid not in self.workers)
        kill_tree([process for process in strays if process is not None], spare=os.getpid())

    def _tell(self, **message: Any) -> None:
        try:
            self.control.send(json.dumps(message).encode())
        except OSError:
            return  # the parent is gone; the loop sees it too


def leave_network() -> str:
    """Move to a network namespace without any device, where the system lets us. Returns what holds now."""
    library = ctypes.CDLL(None, use_errno=True)
    for flags in (CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNET):
        if library.unshare(flags) == 0:
            return "namespace"
    return "audit"
