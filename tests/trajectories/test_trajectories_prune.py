"""Policies that are pruned: which, what stays in the cache, and that a run goes on without making them anew."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import environment

from assay.cli import main
from assay.trajectories.pipelines import open_project
from assay.trajectories.prune import PruneError, prune
from flows.run_lock import run_lock

STAGES = """stages:
  start:
    cmd: mkdir -p models/0 && echo policy 0 > models/0/weights && echo base > models/0/base
    outs: [models/0]
  update:
    foreach: ${iterations}
    do:
      cmd: >-
        mkdir -p models/${item.next} && echo policy ${item.next} after $(cat models/${item.k}/weights) > models/${item.next}/weights
        && cp models/0/base models/${item.next}/base
      deps: ["models/${item.k}", models/0/base]
      outs: ["models/${item.next}"]
"""


class Run:
    def __init__(self, root: Path, iterations: int) -> None:
        self.root = root
        for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
            self.call(*command)
        (root / "dvc.yaml").write_text(STAGES)
        self.last_policy(iterations)

    def last_policy(self, count: int) -> None:
        rows = "".join(f"  - {{k: {k}, next: {k + 1}}}\n" for k in range(count))
        (self.root / "params.yaml").write_text(f"iterations:\n{rows}")

    def call(self, *command: str) -> str:
        program = [str(Path(sys.executable).with_name("dvc")), *command[1:]] if command[0] == "dvc" else list(command)
        return subprocess.run(program, cwd=self.root, check=True, capture_output=True, text=True, env=environment()).stdout

    def policies(self) -> list[str]:
        return sorted(path.name for path in (self.root / "models").iterdir() if path.is_dir())

    def cached(self) -> set[str]:
        return {path.read_text() for path in (self.root / ".dvc/cache/files/md5").rglob("*") if path.is_file() and path.suffix != ".dir"}


@pytest.fixture
def run(tmp_path):
    made = Run(tmp_path, 4)
    made.call("dvc", "repro", "-q")
    return made


def test_a_run_goes_on_from_its_last_policy_and_makes_none_of_the_removed_anew(run, capsys):
    assert main(["prune", "--root", str(run.root), "--keep", "1", "--dry"]) == 0
    assert "would remove models/1, models/2, models/3: 0.00 GiB" in capsys.readouterr().out
    assert run.policies() == ["0", "1", "2", "3", "4"]
    pruned = prune(run.root, 1)
    assert pruned.policies == ("models/1", "models/2", "models/3") and pruned.size > 0
    assert run.policies() == ["0", "4"]
    assert sorted(text[:8] for text in run.cached()) == ["base\n", "policy 0", "policy 4"]  # the base is policy 4's too
    assert len(list((run.root / ".dvc/cache/files/md5").rglob("*.dir"))) == 2
    last = (run.root / "models/4/weights").read_text()

    run.last_policy(5)
    run.call("dvc", "repro", "-q", "--allow-missing")
    assert run.policies() == ["0", "4", "5"]
    assert (run.root / "models/5/weights").read_text() == f"policy 5 after {last}"
    assert prune(run.root, 2).policies == () and prune(run.root, 1).policies == ("models/4",)


def test_the_last_policy_of_a_commit_stays_in_the_cache(run):
    run.call("git", "add", "-A")
    run.call("git", "commit", "-q", "-m", "four policies")
    run.last_policy(6)
    run.call("dvc", "repro", "-q")
    assert prune(run.root, 1).policies == ("models/1", "models/2", "models/3", "models/4", "models/5")
    assert run.policies() == ["0", "6"]
    assert sorted(text[:8] for text in run.cached()) == ["base\n", "policy 0", "policy 4", "policy 6"]


def test_policies_of_two_runs_are_not_told_apart_by_their_numbers(run):
    run.call("dvc", "repro", "-q")
    text = (run.root / "dvc.yaml").read_text()
    (run.root / "dvc.yaml").write_text(text.replace("echo policy 0", "echo another policy 0"))
    run.call("dvc", "repro", "-q", "update@0")
    with pytest.raises(PruneError, match="models/2 is of another run than the policies before it"):
        prune(run.root, 1)
    assert run.policies() == ["0", "1", "2", "3", "4"]


def test_nothing_goes_that_a_running_stage_reads(run):
    text = (run.root / "dvc.yaml").read_text()
    (run.root / "dvc.yaml").write_text(text + "  slow:\n    cmd: touch begun && sleep 60\n    deps: [models/2]\n")
    dvc = str(Path(sys.executable).with_name("dvc"))
    with subprocess.Popen([dvc, "repro", "-q", "slow"], cwd=run.root, env=environment(), start_new_session=True) as working:
        try:
            wait_for(run.root / "begun")
            with pytest.raises(PruneError, match="a stage that is running uses one of these policies"):
                prune(run.root, 1)
            assert run.policies() == ["0", "1", "2", "3", "4"]
        finally:
            os.killpg(working.pid, signal.SIGKILL)


def test_nothing_goes_while_dvc_or_a_flow_works(run):
    with open_project(run.root) as other, other.repo.lock, pytest.raises(PruneError, match="another DVC command or flow works here"):
        prune(run.root, 1)
    with run_lock(run.root, "nightly"), pytest.raises(PruneError, match="another DVC command or flow works here"):
        prune(run.root, 1)
    assert prune(run.root, 3).policies == ("models/1",)


def wait_for(file: Path, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < end, f"{file} did not appear"
        time.sleep(0.05)


def test_what_cannot_be_pruned_is_said(run, tmp_path_factory, capsys):
    with pytest.raises(PruneError, match=r"--keep is 0, expected 1 or more"):
        prune(run.root, 0)
    assert main(["prune", "--root", str(tmp_path_factory.mktemp("empty")), "--keep", "1"]) == 1
    assert "is no DVC project" in capsys.readouterr().err
    assert main(["prune", "--root", str(run.root), "--keep", "9"]) == 0
    assert "nothing to remove" in capsys.readouterr().out
