"""kill -9 of `dvc` at random moments in every stage, each followed at once by another `dvc repro`.

Prints, per kill, the stage that was hit and the second at which it came, then whether the tables equal those of an
uninterrupted run and whether any process was left. Works on two copies of the project at scale micro in a temporary
folder. Ends with code 1 where a table differs, a process is left or a kill did not come.

    python -m benchmarks.kills --kills 20 --seed 0
    python -m benchmarks.kills --kills 20 --fused        # kills within the rounds of the fused pipeline
"""

import argparse
import os
import random
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.workspace import MICRO, Workspace, copy_project, fingerprints

STAGES = ("configure", "generate", "pretrain", "warm_start", "rollout@0", "verify@0", "filter@0", "update@0", "finish", "evaluate", "publish")
FUSED = "fused/dvc.yaml"
ROUNDS = 12
"""Of the fused iteration that is killed."""
ASSUMED_SECONDS = 20.0
"""For a stage whose uninterrupted time is not known."""
PATIENCE = 6.0
"""Seconds in which all that a killed run started must have ended."""


@dataclass(frozen=True)
class Kill:
    """One kill that came."""

    stage: str
    """That was running."""
    after: float
    """Seconds after the stage's start."""
    survivors: int
    """Processes of the killed run that were alive PATIENCE seconds later."""


def start(workspace: Workspace, target: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """`dvc repro`, its output on a pipe."""
    return subprocess.Popen(
        ["dvc", "repro", *target], cwd=workspace.root, env=workspace.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )  # fmt: skip


def repro_until(workspace: Workspace, stage: str, after: float, target: Sequence[str] = (), sign: str = "") -> Kill | None:
    """Run `dvc repro` of the target; `after` seconds into `stage` kill -9 the dvc process alone. A stage that ends earlier is killed at
    its end, in whatever follows. `sign`: the seconds count from a line of the stage that begins so. None if the pipeline ended
    before."""
    process = start(workspace, target)
    assert process.stdout is not None
    running, began, due = "", time.monotonic(), float("inf")
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        pending = b""
        while time.monotonic() < due:
            if not selector.select(min(due - time.monotonic(), 5.0)):
                continue
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                process.wait()
                if process.returncode:
                    raise RuntimeError(f"dvc repro failed with {process.returncode} while no kill was due")
                return None
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                if line.startswith(b"Running stage '"):
                    before, running, began = running, line.split(b"'")[1].decode(), time.monotonic()
                    due = began + after if running == stage and not sign else began if before == stage else due
                elif sign and running == stage and line.startswith(sign.encode()):
                    due = min(due, time.monotonic() + after)
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    end = time.monotonic() + PATIENCE
    while (left := [child for child in children if alive(child)]) and time.monotonic() < end:
        time.sleep(0.05)
    return Kill(running, time.monotonic() - began, len(left))


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stage_seconds(workspace: Workspace, target: Sequence[str]) -> dict[str, float]:
    """Run the pipeline once without interruption; seconds of each stage, seen from outside."""
    seconds: dict[str, float] = {}
    process = start(workspace, target)
    assert process.stdout is not None
    current, began = "", time.monotonic()
    tail: list[str] = []
    for line in map(bytes.decode, process.stdout):
        tail = [*tail[-30:], line]
        if line.startswith("Running stage '"):
            now = time.monotonic()
            seconds[current], current, began = now - began, line.split("'")[1], now
    seconds[current] = time.monotonic() - began
    if process.wait():
        raise RuntimeError(f"the uninterrupted run failed:\n{''.join(tail)}")
    return {name: value for name, value in seconds.items() if name}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=len(STAGES), help="number of kills, spread over the stages in turn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="*")
    parser.add_argument("--fused", action="store_true", help=f"of the fused pipeline, {ROUNDS} rounds")
    arguments = parser.parse_args()
    target = [FUSED] if arguments.fused else []
    params = MICRO | {"fused": {"rounds": ROUNDS}} if arguments.fused else MICRO
    stages = arguments.stages or ([f"{FUSED}:train@0"] if arguments.fused else list(STAGES))
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = (copy_project(Path(folder) / name, params) for name in ("whole", "killed"))
        seconds = stage_seconds(whole, target)
        print("uninterrupted: " + ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()), flush=True)
        plan = sorted((stages[i % len(stages)] for i in range(arguments.kills)), key=stages.index)
        print(f"{'planned':<24}{'hit':<24}{'after s':>9}{'survivors':>12}", flush=True)
        kills = []
        for number, stage in enumerate(plan):
            # A stage that an earlier kill came too late for has ended: it is run again, from nothing.
            forget(killed, stage)
            kill = repro_until(killed, stage, rng.uniform(0, 0.8 * seconds.get(stage, ASSUMED_SECONDS)), target)
            if kill is None:
                print(f"{stage:<24}{'no kill':<24}", flush=True)
                continue
            kills.append(kill)
            print(f"{stage:<24}{kill.stage:<24}{kill.after:>9.1f}{kill.survivors:>12}   {number + 1} of {len(plan)}", flush=True)
        killed.run("dvc", "repro", *target)
        expected, found = fingerprints(whole), fingerprints(killed)
        different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        survivors = sum(kill.survivors for kill in kills)
        print(f"kills: {len(kills)} of {len(plan)}; files compared: {len(expected)}; ", end="")
        print(f"different: {different or 'none'}; processes left: {survivors}")
        if different or survivors or len(kills) < len(plan):
            raise SystemExit(1)


def forget(workspace: Workspace, stage: str) -> None:
    """Make `dvc repro` run a stage, though it has run before: its record and DVC's memory of earlier runs go."""
    import yaml

    file, _, name = stage.rpartition(":")
    lock = (workspace.root / (file or "dvc.yaml")).with_suffix(".lock")
    content = yaml.safe_load(lock.read_text()) if lock.is_file() else None
    if content and content.get("stages", {}).pop(name, None):
        lock.write_text(yaml.safe_dump(content, sort_keys=False))
        shutil.rmtree(workspace.root / ".dvc/cache/runs", ignore_errors=True)


if __name__ == "__main__":
    main()
