"""The parent's hold on the zygote and its workers: start, feed, listen, kill. What is fed to whom is `pool`'s
affair."""

import json
import logging
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.isolation.frames import Frames, pack
from assay.isolation.processes import bare_environment, helper_code
from assay.isolation.worker import BROKEN
from assay.isolation.zygote import MESSAGE

LOG = logging.getLogger(__name__)
START_SECONDS = 600.0
"""How long the zygote may import, and a worker may take to be ready."""
LARGEST = 256 << 20
"""Bytes of a worker's answer. A longer one is none, but what an item has written into the worker's stream."""


class IsolationError(RuntimeError):
    """The pool itself does not work: no worker could be started, or the process that starts them is gone. Never a
    fault of an item."""


@dataclass
class Worker:
    """One worker process, as seen from the parent."""

    key: int
    stream: socket.socket
    frames: Frames
    pid: int = 0
    """0 until the zygote has told it."""
    ready: bool = False
    fresh: bool = True
    """It has not finished any item yet."""
    leaving: bool = False
    """It ends of its own will; what it still owes was never begun."""
    chunk: deque[int] = field(default_factory=deque)
    """Items that it owes, the running one first."""
    since: float = field(default_factory=time.monotonic)
    """When the running item began (or the worker was ordered), never earlier than it really did."""
    victim: int | None = None
    """The item for whose time it was killed."""
    outgoing: bytes = b""


@dataclass(frozen=True)
class Ended:
    """A worker's process is gone."""

    code: int
    """Exit code; negative: the number of the signal that ended it."""
    growth_mib: float
    """Most memory that it ever had beyond the zygote's."""
    excess: tuple[str, str] | None = None
    """(failure, detail) where it was ended for what its own processes did."""


class Fleet:
    """A running zygote with its workers. Raises IsolationError wherever it does not do what it should."""

    def __init__(self, settings: dict[str, Any], classes: Sequence[type] = ()) -> None:
        self.network, self._classes = "", classes
        self.workers: dict[int, Worker] = {}
        self._keys = 0
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors = tempfile.TemporaryFile()
        # One thread each: libraries start one per core, and every thread reserves address space. Equal hashes: equal
        # verdicts.
        environment = bare_environment() | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        # Absolute: a relative entry of PATH gives a relative interpreter, which is not found from "/".
        starter = [os.path.abspath(sys.executable), "-P", "-c", helper_code("assay.isolation.zygote")]
        try:
            self._zygote = subprocess.Popen(
                [*starter, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._errors,
                pass_fds=(theirs.fileno(),), env=environment, cwd="/", start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise IsolationError(f"worker processes could not be started: {error}") from error
        finally:
            theirs.close()
        self._order(settings | {"path": [str(Path(entry).resolve()) for entry in sys.path]})

    def close(self) -> None:
        """End all workers and the zygote; nothing is left when this returns."""
        self._control.close()
        for worker in self.workers.values():
            worker.stream.close()
        self.workers.clear()
        try:
            self._zygote.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._zygote.kill()  # its workers die with it
            self._zygote.wait()
        self._errors.close()

    def fork(self) -> None:
        """Order one more worker."""
        ours, theirs = socket.socketpair()
        self._keys += 1
        try:
            socket.send_fds(self._control, [json.dumps({"do": "fork", "key": self._keys}).encode()], [theirs.fileno()])
        except OSError as error:
            ours.close()
            raise IsolationError(self._obituary(str(error))) from error
        finally:
            theirs.close()
        ours.setblocking(False)
        self.workers[self._keys] = Worker(self._keys, ours, Frames(ours, self._classes, LARGEST))

    def kill(self, worker: Worker) -> None:
        """Order a worker's end. Its `Ended` follows."""
        self._order({"do": "kill", "pid": worker.pid})

    def feed(self, worker: Worker, numbers: list[int], items: list[tuple[Any, ...]]) -> None:
        """Give an idle worker its next chunk."""
        worker.chunk.extend(numbers)
        worker.since = time.monotonic()
        worker.outgoing = pack(items)
        self._push(worker)

    def wait(self, seconds: float) -> list[tuple[Worker, list[Any] | Ended]]:
        """What has happened within at most so many seconds: answers of workers (in order) and ends of workers."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        by_stream = {worker.stream.fileno(): worker for worker in self.workers.values() if not worker.frames.ended}
        for number, worker in by_stream.items():
            poll.register(number, select.POLLIN | (select.POLLOUT if worker.outgoing else 0))
        happened: list[tuple[Worker, list[Any] | Ended]] = []
        # Streams before the control socket: what a worker has answered comes before its end.
        control = self._control.fileno()
        for number, flags in sorted(poll.poll(max(0, seconds) * 1000), key=lambda pair: pair[0] == control):
            if number == control:
                happened += self._listen()
                continue
            worker = by_stream[number]
            if flags & select.POLLOUT:
                self._push(worker)
            if flags & ~select.POLLOUT:
                happened += self._drain(worker)
        return happened

    def _drain(self, worker: Worker) -> list[tuple[Worker, list[Any] | Ended]]:
        worker.frames.fetch()
        answers = worker.frames.pending()
        if answers and not worker.ready:  # it has run no item yet, so this is its own word
            if answers[0][0] == BROKEN:
                raise IsolationError(f"a worker could not be started: {answers[0][1]}")
            worker.ready = True
            del answers[0]
        return [(worker, answers)] if answers else []

    def _listen(self) -> list[tuple[Worker, list[Any] | Ended]]:
        try:
            message = self._control.recv(MESSAGE)
        except ConnectionError as error:
            raise IsolationError(self._obituary(str(error))) from error
        if not message:
            raise IsolationError(self._obituary("its socket is closed"))
        event = json.loads(message)
        if event["event"] == "failed":
            raise IsolationError(f"worker processes could not be started: {event['why']}")
        if event["event"] == "ready":
            self.network = event["network"]
            if self.network == "audit":
                LOG.warning(
                    "this system gives workers no network namespace of their own: Python's sockets are refused in them, but "
                    "what compiled code or child processes of an answer do is not (docs/limits.md)"
                )
            return []
        worker = self.workers[event["key"]]
        if event["event"] == "started":
            worker.pid = event["pid"]
            return []
        happened = []
        while not worker.frames.ended and (more := self._drain(worker)):
            happened += more
        if not worker.ready:
            raise IsolationError(f"a worker process ended with code {event['code']} before it was ready")
        del self.workers[worker.key]
        worker.stream.close()
        return [*happened, (worker, Ended(event["code"], event["growth_mib"], event["excess"]))]

    def _push(self, worker: Worker) -> None:
        try:
            worker.outgoing = worker.outgoing[worker.stream.send(worker.outgoing) :]
        except BlockingIOError:
            return
        except ConnectionError:
            worker.outgoing = b""  # it is gone; its end will be told

    def _order(self, message: dict[str, Any]) -> None:
        try:
            self._control.send(json.dumps(message).encode())
        except OSError as error:
            raise IsolationError(self._obituary(str(error))) from error

    def _obituary(self, why: str) -> str:
        self._errors.seek(0)
        said = self._errors.read()[-2000:].decode(errors="replace").strip()
        return f"the process that starts workers is gone ({why}){f': {said}' if said else ''}"
