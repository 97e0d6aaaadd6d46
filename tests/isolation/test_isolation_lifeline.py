"""`kill -9` of what ordered a stage leaves nothing of it; what people detach on purpose lives on. Real processes
throughout."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from assay.isolation import die_with_parent
from assay.isolation.lifeline import watched_ancestors

STAGE = """
import os, subprocess, sys, time
sys.path.insert(0, {tests!r})
from assay.isolation import Pool, die_with_parent
die_with_parent()
die_with_parent()
folder, mode = sys.argv[1:]
def tell(name, *pids):
    with open(os.path.join(folder, "." + name), "w") as stream:
        stream.write(" ".join(map(str, pids)))
    os.rename(os.path.join(folder, "." + name), os.path.join(folder, name))
child = subprocess.Popen(["sh", "-c", "sleep 987 & wait"], start_new_session=True)
if mode == "pool":
    def stop(done, total):
        tell("stage", os.getpid(), child.pid)
    with Pool("isolation_items:act", 2, 900.0, 128) as pool:
        pool.map([("ok", 1), ("hang", 1), ("hang", 1)], stop)
tell("stage", os.getpid(), child.pid)
if mode == "locked":  # one call that never gives up the interpreter's lock
    import re
    re.match("(a+)+$", "a" * 60 + "b")
if mode == "short":
    os.killpg(child.pid, 9)
    sys.exit(7)
time.sleep(900)
"""
DVC = """
import subprocess, sys
sys.exit(subprocess.call(sys.argv[1], shell=True))
"""


@pytest.fixture
def ground(tmp_path):
    """Folder with a stage and a stand-in for `dvc`; everything that was started there is ended after the test."""
    (tmp_path / "stage.py").write_text(STAGE.format(tests=str(Path(__file__).parent)))
    (tmp_path / "dvc").write_text(DVC)
    yield tmp_path
    if (tmp_path / "stage").exists():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int((tmp_path / "stage").read_text().split()[1]), signal.SIGKILL)
    for process in psutil.process_iter(["cmdline"]):
        if any(str(tmp_path) in word for word in process.info["cmdline"] or []):
            process.kill()


def command(ground: Path, mode: str = "plain") -> str:
    return f"{sys.executable} {ground / 'stage.py'} {ground} {mode}"


def start(*words: str, **options) -> subprocess.Popen:
    # As at a terminal, whatever the test run itself was started with.
    def signals() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    return subprocess.Popen(words, preexec_fn=signals, stdout=subprocess.DEVNULL, **options)


def family(ground: Path, everyone: int = 4) -> list[psutil.Process]:
    """The stage, its watcher, its child and grandchild (and its workers), once it is up."""
    wait_until((ground / "stage").exists)
    stage = psutil.Process(int((ground / "stage").read_text().split()[0]))
    wait_until(lambda: len(stage.children(recursive=True)) + 1 >= everyone)
    return [stage, *stage.children(recursive=True)]


def wait_until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def gone(processes: list[psutil.Process]) -> bool:
    return not [
        p for p in processes if p.is_running() and p.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    ]


@pytest.mark.parametrize("tail", ["; true", ""], ids=["shell stays", "shell replaced"])
@pytest.mark.parametrize("mode", ["plain", "locked", "pool"])
def test_killing_dvc_leaves_nothing(ground, mode, tail):
    dvc = start(sys.executable, str(ground / "dvc"), command(ground, mode) + tail)
    processes = family(ground, 7 if mode == "pool" else 4)
    dvc.kill()
    dvc.wait()
    wait_until(lambda: gone(processes), 3)


def test_killing_the_real_dvc_leaves_nothing(ground):
    dvc = str(Path(sys.executable).with_name("dvc"))
    quiet = {"cwd": ground, "stderr": subprocess.DEVNULL}
    assert start(dvc, "init", "--no-scm", "-q", **quiet).wait() == 0
    (ground / "dvc.yaml").write_text(f"stages:\n  long:\n    cmd: {command(ground)}\n")
    repro = start(dvc, "repro", **quiet)
    processes = family(ground)
    repro.kill()
    repro.wait()
    wait_until(lambda: gone(processes), 3)


def test_killing_the_shell_leaves_nothing(ground):
    shell = start("sh", "-c", command(ground) + "; true")
    processes = family(ground)
    shell.kill()
    shell.wait()
    wait_until(lambda: gone(processes), 3)


def test_killing_the_stage_itself_leaves_nothing(ground):
    stage = start(*command(ground, "pool").split())
    processes = family(ground, 7)
    time.sleep(0.6)  # the watcher has had a look at the children
    stage.kill()
    stage.wait()
    wait_until(lambda: gone(processes), 3)


def test_programs_between_dvc_and_stage_do_not_hide_dvc(ground):
    dvc = start(sys.executable, str(ground / "dvc"), f"timeout 900 sh -c '{command(ground)}; true'; true")
    processes = family(ground)
    dvc.kill()
    dvc.wait()
    wait_until(lambda: gone(processes), 3)


@pytest.mark.parametrize("order", ["nohup {} & true", "{} & true", "set -m; {} & sleep 0.5"])
def test_what_is_detached_on_purpose_lives_on(ground, order):
    shell = start("bash", "-c", order.format(command(ground)), stderr=subprocess.DEVNULL)
    processes = family(ground)
    shell.wait()
    time.sleep(1.2)
    assert processes[0].is_running()
    os.kill(processes[0].pid, signal.SIGKILL)
    wait_until(lambda: gone(processes), 3)


def test_dvc_behind_nohup_is_still_watched(ground):
    dvc = start("nohup", sys.executable, str(ground / "dvc"), command(ground) + "; true", stderr=subprocess.DEVNULL)
    processes = family(ground)
    dvc.kill()
    dvc.wait()
    wait_until(lambda: gone(processes), 3)


def test_a_stage_that_ends_keeps_its_exit_code_and_leaves_no_watcher(ground):
    stage = start(*command(ground, "short").split())
    assert stage.wait() == 7
    words = [p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"])]
    assert not [line for line in words if str(stage.pid) in " ".join(line) and "watcher" in " ".join(line)]


def test_workers_of_a_killed_process_end_without_any_lifeline(ground):
    script = ground / "stage.py"
    script.write_text(script.read_text().replace("\ndie_with_parent()", ""))
    stage = start(*command(ground, "pool").split())
    processes = [p for p in family(ground, 6) if p.name() not in ("sh", "sleep")]
    stage.kill()
    stage.wait()
    wait_until(lambda: gone(processes), 3)


def test_ancestors_are_the_shell_and_the_first_program_above_it():
    code = "from assay.isolation.lifeline import watched_ancestors; print(*[p.pid for p in watched_ancestors()])"
    root = Path(__file__).parents[2]
    shell = start("sh", "-c", f"echo $$; {sys.executable} -c '{code}'; true", cwd=root)
    assert shell.wait() == 0
    read, write = os.pipe()
    shell = subprocess.Popen(["sh", "-c", f"echo $$; {sys.executable} -c '{code}'; true"], stdout=write, cwd=root)
    os.close(write)
    with os.fdopen(read) as stream:
        own, ancestors = stream.read().splitlines()
    assert shell.wait() == 0
    assert ancestors.split()[:2] == [own, str(os.getpid())]


def test_the_call_returns_and_a_second_one_starts_no_second_watcher(ground):
    before = len(psutil.Process().children())
    pid = os.fork()
    if pid == 0:
        die_with_parent()
        once = len(psutil.Process().children())
        die_with_parent()
        os._exit(0 if once == len(psutil.Process().children()) == 1 and watched_ancestors() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(psutil.Process().children()) == before


ORPHAN = """
import os, sys, time
from assay.isolation import is_orphan
assert not is_orphan()
parent = os.getpid()
if os.fork() == 0:
    assert not is_orphan()
    while os.getppid() == parent:
        time.sleep(0.01)
    with open(sys.argv[1], "w") as stream:
        stream.write(f"{is_orphan()} {os.getppid()}")
else:
    time.sleep(0.2)
"""


def test_a_process_whose_parent_has_ended_knows_it(tmp_path):
    subprocess.run([sys.executable, "-c", ORPHAN, str(tmp_path / "said")], check=True)
    wait_until(lambda: (tmp_path / "said").exists() and (tmp_path / "said").read_text())
    orphan, adopted_by = (tmp_path / "said").read_text().split()
    name = psutil.Process(int(adopted_by)).name()
    assert orphan == str(adopted_by == "1" or name == "systemd")  # others adopt only what they wait for


@pytest.mark.parametrize("order", ["exec {}", "{}; exit $?"], ids=["replaced", "waiting"])
def test_a_stage_that_begins_after_the_end_of_its_dvc_ends_at_once(tmp_path, order):
    """kill -9 of dvc in the stage's first moments: before it has imported anything, and could watch anybody. DVC takes the
    shell of $SHELL: bash replaces itself by the stage, dash waits for it and is then the one that init adopts."""
    starter = "import subprocess, sys; subprocess.Popen(['sh', '-c', sys.argv[1]], start_new_session=True)"
    command_line = f"env DVC_STAGE=rollout@0 {sys.executable} -c 'import time; time.sleep(0.5); import stages; print(1)' 2> {tmp_path}/said"
    subprocess.run([sys.executable, "-c", starter, order.format(command_line)], check=True, cwd=Path(__file__).parents[2])
    said = tmp_path / "said"
    wait_until(lambda: said.exists() and "the dvc that started this stage is gone" in said.read_text())
