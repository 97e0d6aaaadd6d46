"""Commands of the flow, run through the worker (worker.py), which leaves no process of them behind."""

import json
import os
import subprocess
import sys
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

TAIL = 40  # last lines of output that are kept for an error message
LINE = 65_536  # most characters read at once of output without line ends
STOP_SECONDS = 20.0  # for the worker to end everything; of these it gives processes worker.GRACE to end by themselves

OnLine = Callable[[str], None]


class FlowError(RuntimeError):
    """A command that did not succeed. Running it again may help."""


class PersonNeeded(FlowError):
    """A mistake that a person has to correct: without a change, running again would fail again."""


class Busy(FlowError):
    """Another process works on the same workspace."""


class TimedOut(FlowError):
    """Ended because it took too long."""


@dataclass(frozen=True)
class Finished:
    """What became of a command: exit code (negative: the signal that ended it), last lines, processes left behind."""

    code: int
    tail: tuple[str, ...]
    left: int


class Runner:
    """Runs commands in the folder `root`, one at a time. A context manager: leaving it ends whatever still runs.

    File descriptors in `keep_open`, such as that of a lock, stay open until the worker has ended everything.
    """

    def __init__(self, root: Path, keep_open: Sequence[int] = ()) -> None:
        self.root = root
        self._keep_open = tuple(keep_open)
        self._worker: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, arguments: Sequence[str], timeout: float, on_line: OnLine | None = None) -> Finished:
        """Run one command to its end; `on_line` gets each line of its output as it comes.

        Any exception here, also one that a signal handler raises, ends all processes of the command first.
        Raises TimedOut after `timeout` seconds; FlowError when the worker itself was ended.
        """
        if self._worker is None:
            self._worker = self._start()
        try:
            return self._run(self._worker, list(arguments), timeout, on_line)
        except TimedOut:
            raise
        except BaseException:
            self.close()
            raise

    def _run(
        self, worker: subprocess.Popen[str], arguments: list[str], timeout: float, on_line: OnLine | None
    ) -> Finished:
        assert worker.stdin is not None and worker.stdout is not None
        token = uuid.uuid4().hex
        tail: deque[str] = deque(maxlen=TAIL)
        try:
            worker.stdin.write(json.dumps({"arguments": arguments, "timeout": timeout, "token": token}) + "\n")
            worker.stdin.flush()
        except BrokenPipeError as error:
            raise FlowError("the flow's worker process has ended; see its last words above") from error
        while line := worker.stdout.readline(LINE):
            if line.startswith(token):
                answer = json.loads(line[len(token) :])
                if answer["outcome"] == "timeout":
                    raise TimedOut(
                        f"`{' '.join(arguments)}` took longer than {duration(timeout)}: it and all below it were ended"
                    )
                return Finished(answer["code"], tuple(tail), answer["left"])
            if text := line.rstrip():
                tail.append(text)
                if on_line is not None:
                    on_line(text)
        raise FlowError(
            "\n".join([f"the worker process that ran `{' '.join(arguments)}` was ended; last lines:", *list(tail)[-5:]])
        )

    def close(self) -> None:
        """End the worker, which ends everything that it runs."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        assert worker.stdin is not None and worker.stdout is not None
        try:
            worker.stdin.close()
        except BrokenPipeError:
            pass  # it has ended already
        worker.stdout.close()
        try:
            worker.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()

    def _start(self) -> subprocess.Popen[str]:
        binaries = str(Path(sys.executable).parent)  # stages say `python`: they mean the one that runs the flow
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([binaries, os.environ.get("PATH", os.defpath)]),
            "PYTHONUNBUFFERED": "1",  # progress lines come when they are printed
        }
        return subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))],
            cwd=self.root,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches the flow alone, which then ends the worker in order
            pass_fds=self._keep_open,
        )


def duration(seconds: float) -> str:
    """A span of time as people say it: 45 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
