"""Commands that the flow runs, with real processes: their output, their end, and that nothing of them is left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from flows_toy import living, sleeper, wait_until

from flows.commands import FlowError, Runner, TimedOut, duration


@pytest.fixture
def runner(tmp_path: Path):
    with Runner(tmp_path) as opened:
        yield opened


def test_output_comes_line_by_line_with_the_exit_code(runner: Runner) -> None:
    seen: list[str] = []
    finished = runner.run(["sh", "-c", "echo one; echo two >&2; printf 'a\\rb\\r\\n\\n'; exit 3"], 60, seen.append)
    assert (finished.code, finished.left) == (3, 0)
    assert seen == ["one", "two", "a", "b"] == list(finished.tail)


def test_output_without_line_ends_or_of_any_bytes_is_taken(runner: Runner) -> None:
    finished = runner.run(["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; printf '\\377\\376'; printf last"], 60)
    assert finished.code == 0
    assert sum(map(len, finished.tail)) == 300_006
    assert finished.tail[-1].endswith("last")


def test_a_command_that_is_missing_says_so(runner: Runner) -> None:
    finished = runner.run(["no-such-command"], 60)
    assert finished.code == 127
    assert finished.tail == ("error: no-such-command: No such file or directory",)


def test_a_signal_is_a_negative_code(runner: Runner) -> None:
    assert runner.run(["sh", "-c", "kill -9 $$"], 60).code == -9


def test_dvc_runs_from_memory_and_reads_the_folder_each_time(project) -> None:
    with Runner(project.root) as runner:
        for name in ("first", "second"):
            project.stages(f"{name}:\n  cmd: 'true'\n")
            seen: list[str] = []
            assert runner.run(["dvc", "stage", "list", "--name-only"], 60, seen.append).code == 0
            assert seen == [name]


def test_time_out_leaves_no_process_of_any_kind(runner: Runner, mark: str) -> None:
    stubborn = f"python -c 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)' {mark}"
    script = (
        f"{sleeper(mark)} & setsid {sleeper(mark)} & (setsid nohup {sleeper(mark)} &) ; {stubborn} & {sleeper(mark)}"
    )
    with pytest.raises(TimedOut, match="took longer than 3 s"):
        runner.run(["sh", "-c", f"echo {mark}; {script}"], 3)
    assert living(mark) == []
    assert runner.run(["echo", "next"], 60).tail == ("next",)


def test_what_a_command_leaves_behind_is_ended_and_counted(runner: Runner, mark: str) -> None:
    finished = runner.run(["sh", "-c", f"(setsid nohup {sleeper(mark)} >/dev/null 2>&1 &) ; exit 0"], 60)
    assert (finished.code, finished.left) == (0, 1)
    assert living(mark) == []


def test_leaving_ends_what_runs(tmp_path: Path, mark: str) -> None:
    class Stop(Exception):
        pass

    def stop(line: str) -> None:
        raise Stop

    with Runner(tmp_path) as runner, pytest.raises(Stop):
        runner.run(["sh", "-c", f"{sleeper(mark)} & setsid {sleeper(mark)} & echo started; wait"], 60, stop)
    assert living(mark) == []


def as_at_a_terminal() -> None:
    """A shell starts what runs in the background deaf to SIGINT, and that is inherited: then Python would not end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_survives_the_end_of_the_flow(tmp_path: Path, mark: str, number: int) -> None:
    program = (
        "import pathlib, sys; from flows.commands import Runner\n"
        "with Runner(pathlib.Path(sys.argv[1])) as runner: runner.run(['sh', '-c', sys.argv[2]], 600)"
    )
    script = f"{sleeper(mark)} & (setsid nohup {sleeper(mark)} &) ; {sleeper(mark)}"
    flow = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), script], stderr=subprocess.DEVNULL, preexec_fn=as_at_a_terminal
    )
    # The flow's own command line holds the mark, and so does the shell's.
    wait_until(lambda: sum(process.name().startswith("python") for process in living(mark)) >= 4)
    worker = next(child for child in psutil.Process(flow.pid).children() if "worker.py" in " ".join(child.cmdline()))
    os.kill(flow.pid, number)
    flow.wait(60)
    wait_until(lambda: not living(mark) and not worker.is_running())


def test_a_killed_worker_is_said_and_replaced(runner: Runner, mark: str) -> None:
    def kill_worker(line: str) -> None:
        psutil.Process(int(line)).parent().kill()

    with pytest.raises(FlowError, match="was ended"):
        runner.run(["sh", "-c", f"echo $$; exec {sleeper(mark)}"], 60, kill_worker)
    wait_until(lambda: not living(mark))
    assert runner.run(["echo", "again"], 60).tail == ("again",)


@pytest.mark.parametrize(
    ("seconds", "said"), [(4.25, "4.25 s"), (65, "1 min 05 s"), (7200, "2 h 00 min"), (3599.6, "1 h 00 min")]
)
def test_duration(seconds: float, said: str) -> None:
    assert duration(seconds) == said
