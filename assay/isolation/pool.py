"""A pool of killable worker processes: one item that hangs, explodes or crashes costs no other item its result.

Why not pebble or multiprocessing: pebble's time limit holds for a whole chunk and loses the chunk's finished results
(or every item is scheduled alone, which is slow), it knows no memory limit, and a replaced worker imports everything
again; multiprocessing's fork server takes the parent's environment and runs the parent's main module in every worker.
"""

import math
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from assay.isolation.fleet import START_SECONDS, Ended, Fleet, IsolationError, Worker
from assay.isolation.worker import DETAIL, DONE, FAILED

CHUNK_SECONDS = 0.05
"""Work that is handed to a worker at once, by the mean time of earlier items."""
CHUNK_ITEMS = 512
STALL_SECONDS = 0.5
"""A wait that took so much longer than asked for: nothing on this machine ran."""
MEMORY_SHARE = 0.75
"""A worker that a signal ended with more than this share of its limit in use died for lack of memory: some libraries
abort."""

Failure = Literal["timeout", "memory", "crash", "error"]
Progress = Callable[[int, int], None]
"""Called with (finished items, all items)."""


@dataclass(frozen=True)
class Outcome:
    """What became of one item: the function's value, or why there is none."""

    value: Any = None
    failure: Failure | None = None
    detail: str = ""


class Pool:
    """Calls one function on many items in worker processes.

    `function` is "module:attribute", importable without the main program; items are tuples of its arguments; items
    are plain data, values too, or instances of `results`: nothing else is read from a worker. Each item has `timeout`
    seconds of wall clock and may add `memory_mib` MiB of address space to what a worker has at its start. `preload`: modules
    ("module") imported and functions ("module:attribute") called once, before any worker is forked.

    Workers have an empty environment but for PYTHONHASHSEED=0 and thread counts, no open files of the parent,
    /dev/null for stdin, stdout and stderr, no network (a network namespace of their own where the system permits it;
    sockets are refused by an audit hook in any case), cannot write into files, and die with this process. Threads and
    processes that an item leaves end with it; those of a running item are limited in number, and in memory together. Not a
    security boundary: see `assay.isolation.worker`.

    A context manager; nothing is started before `start` or the first `map`. Not for use from several threads at once.
    """

    def __init__(
        self, function: str, workers: int, timeout: float, memory_mib: int, preload: Sequence[str] = (), results: Sequence[type] = ()
    ) -> None:
        if workers < 1 or timeout <= 0 or memory_mib < 1:
            found = f"workers {workers}, timeout {timeout}, memory_mib {memory_mib}"
            raise IsolationError(f"a pool needs at least 1 worker, 1 MiB and a time above 0; found {found}")
        self.size, self.timeout, self.memory_mib = workers, timeout, memory_mib
        self._settings = {"function": function, "preload": list(preload), "timeout": timeout, "memory_mib": memory_mib}
        self._results = tuple(results)
        self._fleet: Fleet | None = None

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def network(self) -> str:
        """What keeps the workers from the network: namespace, or only the audit hook; empty before they are up."""
        return self._fleet.network if self._fleet else ""

    def start(self) -> None:
        """Start the workers and return at once, so that they warm up while the caller does something else. Never
        necessary."""
        if self._fleet is None:
            self._fleet = Fleet(self._settings, self._results)
            for _ in range(self.size):
                self._fleet.fork()

    def close(self) -> None:
        """End all workers. A later `map` starts anew."""
        fleet, self._fleet = self._fleet, None
        if fleet is not None:
            fleet.close()

    def map(self, items: Sequence[tuple[Any, ...]], progress: Progress | None = None) -> list[Outcome]:
        """One outcome per item, in their order. Raises IsolationError where the pool itself fails; the pool is then
        closed."""
        if not items:
            return []
        self.start()
        assert self._fleet is not None
        try:
            return _Run(self, self._fleet, items, progress).finish()
        except BaseException:
            self.close()  # half a run is in the workers
            raise


class _Run:
    """One call of `map`."""

    def __init__(self, pool: Pool, fleet: Fleet, items: Sequence[tuple[Any, ...]], progress: Progress | None) -> None:
        self.pool, self.fleet, self.items, self.progress = pool, fleet, items, progress
        self.outcomes: dict[int, Outcome] = {}
        self.pending = deque(range(len(items)))
        self.alone: deque[int] = deque()
        """Items whose worker died, but may have died of an earlier item: to be tried again, first in a fresh worker."""
        self.item_seconds = CHUNK_SECONDS

    def finish(self) -> list[Outcome]:
        while len(self.outcomes) < len(self.items):
            self._distribute()
            patience, before = self._patience(), time.monotonic()
            self._listen(patience)
            self._forgive(time.monotonic() - before - patience)
            self._check_clocks()
        return [self.outcomes[number] for number in range(len(self.items))]

    def _listen(self, seconds: float) -> None:
        for worker, what in self.fleet.wait(seconds):
            if isinstance(what, Ended):
                self._bury(worker, what)
            else:
                self._take(worker, what)

    def _forgive(self, lost: float) -> None:
        """Do not hold against the items what the machine slept (a laptop's lid, a paused virtual machine)."""
        if lost > STALL_SECONDS:
            for worker in self.fleet.workers.values():
                worker.since += lost

    def _distribute(self) -> None:
        """Chunks to idle workers; new workers for those that are gone."""
        for worker in list(self.fleet.workers.values()):
            if not worker.ready or worker.chunk or worker.leaving:
                continue
            if self.alone and worker.fresh:
                numbers = [self.alone.popleft()]
            elif self.pending:
                share = math.ceil(len(self.pending) / (2 * self.pool.size))
                size = max(1, min(CHUNK_ITEMS, share, int(CHUNK_SECONDS / max(self.item_seconds, 1e-6))))
                numbers = [self.pending.popleft() for _ in range(size)]
            elif self.alone and not any(other.fresh for other in self.fleet.workers.values()):
                worker.leaving = True
                self.fleet.kill(worker)
                continue
            else:
                continue
            self.fleet.feed(worker, numbers, [self.items[number] for number in numbers])
        for _ in range(self.pool.size - len(self.fleet.workers)):
            self.fleet.fork()

    def _patience(self) -> float:
        """Seconds until the next clock runs out."""
        ends = [self._deadline(worker) for worker in self.fleet.workers.values()]
        return min(max(0.0, min(ends) - time.monotonic()), 1.0)

    def _deadline(self, worker: Worker) -> float:
        if not worker.ready:
            return worker.since + START_SECONDS
        return worker.since + self.pool.timeout if worker.chunk and worker.victim is None else math.inf

    def _check_clocks(self) -> None:
        late = [worker for worker in self.fleet.workers.values() if time.monotonic() > self._deadline(worker)]
        if not late:
            return
        self._listen(0)  # we may be the ones who were slow
        for worker in late:
            if worker.key not in self.fleet.workers or time.monotonic() <= self._deadline(worker):
                continue
            if not worker.ready:
                raise IsolationError(f"a worker process was not ready within {START_SECONDS:.0f} s")
            worker.victim = worker.chunk[0]
            self.fleet.kill(worker)

    def _take(self, worker: Worker, answers: list[Any]) -> None:
        """Answers of a worker, in the order of its items."""
        now, count = time.monotonic(), 0
        for answer in () if worker.leaving else answers:  # nothing that comes after its farewell is its own word
            outcome = _outcome(answer)
            if outcome is None or not worker.chunk:  # a farewell, or what no worker says, or an answer that nobody asked for
                self._part(worker)
                break
            number = worker.chunk.popleft()
            count += 1
            if outcome.failure == "memory" and not worker.fresh:
                self.alone.append(number)
            else:
                self._settle(number, outcome)
            worker.fresh = False
        if count:
            self.item_seconds += 0.2 * ((now - worker.since) / count - self.item_seconds)
            worker.since = now

    def _part(self, worker: Worker) -> None:
        """No more of this worker: it leaves, or its stream holds what no worker writes. What it would run now may have done that, and is
        blamed where nothing else ran in it."""
        worker.leaving = True
        if worker.chunk:
            number = worker.chunk.popleft()
            if worker.fresh:
                self._settle(number, Outcome(None, "crash", "what came from its worker is no answer"))
            else:
                self.alone.append(number)
        self.fleet.kill(worker)

    def _bury(self, worker: Worker, end: Ended) -> None:
        """Blame the running item for its worker's end; the others of the chunk go back, first in the queue."""
        if worker.chunk and not worker.leaving and worker.victim in (None, worker.chunk[0]):
            number = worker.chunk.popleft()
            failure, detail = self._diagnose(worker, end)
            if failure == "timeout" or worker.fresh:
                self._settle(number, Outcome(None, failure, detail))
            else:
                self.alone.append(number)
        self.pending.extendleft(reversed(worker.chunk))

    def _diagnose(self, worker: Worker, end: Ended) -> tuple[Failure, str]:
        if worker.victim is not None:
            return "timeout", f"no answer within {self.pool.timeout:g} s"
        if end.excess is not None:
            return ("crash" if end.excess[0] == "crash" else "memory"), end.excess[1]
        if end.code == -signal.SIGXCPU:
            return "timeout", f"more than {self.pool.timeout:g} s of processor time"
        if end.code == -signal.SIGKILL or (end.code < 0 and end.growth_mib > MEMORY_SHARE * self.pool.memory_mib):
            return "memory", f"ended by {signal.Signals(-end.code).name} with {end.growth_mib:.0f} MiB in use"
        how = f"by {signal.Signals(-end.code).name}" if end.code < 0 else f"itself with code {end.code}"
        return "crash", f"ended {how}"

    def _settle(self, number: int, outcome: Outcome) -> None:
        self.outcomes[number] = outcome
        if self.progress is not None:
            self.progress(len(self.outcomes), len(self.items))


def _outcome(answer: Any) -> Outcome | None:
    """An answer of a worker about an item; None for anything else."""
    if not isinstance(answer, tuple):
        return None
    if len(answer) == 2 and answer[0] == DONE:
        return Outcome(answer[1])
    if len(answer) == 3 and answer[0] == FAILED and answer[1] in ("memory", "error") and isinstance(answer[2], str):
        return Outcome(None, answer[1], answer[2][:DETAIL])
    return None
