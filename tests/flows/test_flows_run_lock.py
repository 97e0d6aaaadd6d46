"""The lock on a workspace: one holder, named to others, released by any kind of end."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from flows_toy import living, sleeper, wait_until

from flows.commands import Busy, Runner
from flows.run_lock import FILE, run_lock

HOLD = """
import pathlib, sys, time
from flows.run_lock import run_lock
with run_lock(pathlib.Path(sys.argv[1]), "other"):
    print("held", flush=True)
    time.sleep(600)
"""
RUN = """
import pathlib, sys
from flows.commands import Runner
from flows.run_lock import run_lock
root = pathlib.Path(sys.argv[1])
with run_lock(root, "killed") as lock, Runner(root, keep_open=[lock]) as runner:
    runner.run(["sh", "-c", sys.argv[2]], 600)
"""
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"


def test_a_second_run_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    with run_lock(tmp_path, "first"):
        with pytest.raises(Busy, match=rf"flow run 'first' \(process {os.getpid()}, since .* works on {tmp_path}"):
            with run_lock(tmp_path, "second"):
                pytest.fail("both hold it")
    with run_lock(tmp_path, "third"):
        pass


def test_a_killed_holder_does_not_block(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(Busy, match=rf"flow run 'other' \(process {holder.pid}"):
        with run_lock(tmp_path, "mine"):
            pytest.fail("both hold it")
    holder.kill()
    holder.wait()
    assert (tmp_path / FILE).is_file()
    with run_lock(tmp_path, "mine"):
        assert "mine" in (tmp_path / FILE).read_text()


def test_waiting_gets_the_lock_once_it_is_free(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD.replace("600", "1"), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with run_lock(tmp_path, "patient", wait=60):
        assert "patient" in (tmp_path / FILE).read_text()
    holder.wait()


@pytest.mark.parametrize("content", ["", "{", '{"pid": 1}', "[]"])
def test_a_holder_that_wrote_nothing_readable_is_another_run(tmp_path: Path, content: str) -> None:
    with run_lock(tmp_path, "first"):
        (tmp_path / FILE).write_text(content)
        with pytest.raises(Busy, match="another run works on"):
            with run_lock(tmp_path, "second"):
                pytest.fail("both hold it")


def test_the_lock_is_held_until_the_worker_has_ended_everything(tmp_path: Path, mark: str) -> None:
    script = f"python -c '{STUBBORN}' {mark} > {tmp_path}/ready"
    flow = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path), script])
    wait_until(lambda: (tmp_path / "ready").is_file() and (tmp_path / "ready").read_text())
    flow.kill()
    flow.wait()
    with pytest.raises(Busy):  # the stage ignores the request to end, so that the worker needs its grace period
        with run_lock(tmp_path, "next"):
            pytest.fail("a stage of the killed run still lives")
    with run_lock(tmp_path, "next", wait=60):
        assert living(mark) == []


@pytest.mark.parametrize("number", [None, 200], ids=["as it comes", "a flow with many open files"])
def test_no_command_inherits_the_lock(tmp_path: Path, mark: str, number: int | None) -> None:
    with run_lock(tmp_path, "first") as lock, ExitStack() as stack:
        if number is not None:
            os.dup2(lock, number)
            stack.callback(os.close, number)
        runner = stack.enter_context(Runner(tmp_path, keep_open=[lock if number is None else number]))
        assert runner.run(
            ["sh", "-c", f"ls -l /proc/self/fd | grep -c {FILE.name}; {sleeper(mark).replace('600', '0')}"], 60
        ).tail == ("0",)
