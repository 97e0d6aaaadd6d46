"""kill -9 of `dvc` at random moments in every stage, each followed at once by another `dvc repro`.

Prints, per kill, the stage and the second at which it came, then whether the tables equal those of an uninterrupted run
and whether any process was left. Works on two copies of the project at scale micro in a temporary folder.

    python -m benchmarks.kills --kills 20 --seed 0
"""

import argparse
import os
import random
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.workspace import Workspace, copy_project, fingerprints

STAGES = ("configure", "generate", "warm_start", "rollout@0", "verify@0", "filter@0", "update@0", "finish", "evaluate", "publish")
ASSUMED_SECONDS = 20.0
"""For a stage whose uninterrupted time is not known."""


@dataclass(frozen=True)
class Kill:
    """One kill that came."""

    stage: str
    after: float
    """Seconds after the stage's start."""
    survivors: int
    """Processes of the killed run that were alive three seconds later."""


def repro_until(workspace: Workspace, stage: str, after: float) -> Kill | None:
    """Run `dvc repro`; `after` seconds into `stage` kill -9 the dvc process alone. None if the pipeline ended before."""
    process = subprocess.Popen(
        ["dvc", "repro"], cwd=workspace.root, env=workspace.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"Running stage '{stage}'"):
            break
    else:
        process.wait()
        if process.returncode:
            raise RuntimeError(f"dvc repro failed with {process.returncode} while no kill was due")
        return None
    time.sleep(after)
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    if process.poll() is not None:
        return None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    time.sleep(3)
    return Kill(stage, after, sum(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children))


def stage_seconds(workspace: Workspace) -> dict[str, float]:
    """Run the pipeline once without interruption; seconds of each stage, seen from outside."""
    seconds: dict[str, float] = {}
    process = subprocess.Popen(
        ["dvc", "repro"], cwd=workspace.root, env=workspace.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )  # fmt: skip
    assert process.stdout is not None
    current, start = "", time.monotonic()
    tail: list[str] = []
    for line in process.stdout:
        tail = [*tail[-30:], line]
        if line.startswith("Running stage '"):
            now = time.monotonic()
            seconds[current], current, start = now - start, line.split("'")[1], now
    seconds[current] = time.monotonic() - start
    if process.wait():
        raise RuntimeError(f"the uninterrupted run failed:\n{''.join(tail)}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=len(STAGES), help="number of kills, spread over the stages in turn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="*", default=list(STAGES))
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = copy_project(Path(folder) / "whole"), copy_project(Path(folder) / "killed")
        seconds = stage_seconds(whole)
        print("uninterrupted: " + ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items() if name), flush=True)
        plan = sorted((arguments.stages[i % len(arguments.stages)] for i in range(arguments.kills)), key=STAGES.index)
        print(f"{'stage':<12}{'killed after s':>16}{'survivors':>12}", flush=True)
        survivors = 0
        for stage in plan:
            kill = repro_until(killed, stage, rng.uniform(0, 0.95 * seconds.get(stage, ASSUMED_SECONDS)))
            if kill is None:
                print(f"{stage:<12}{'ended before':>16}", flush=True)
                continue
            survivors += kill.survivors
            print(f"{kill.stage:<12}{kill.after:>16.1f}{kill.survivors:>12}", flush=True)
        killed.run("dvc", "repro")
        expected, found = fingerprints(whole), fingerprints(killed)
        different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        print(f"files compared: {len(expected)}; different: {different or 'none'}; processes left: {survivors}")
        if different or survivors:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
