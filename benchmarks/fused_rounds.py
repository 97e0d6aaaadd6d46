"""Hundreds of fused rounds in one go: does memory stay level, does the policy keep learning?

Runs the fused pipeline on the default tasks in a copy of the project that is kept (a second call goes on where the first
was stopped), and prints reward, resident memory and seconds on the way, then held-out pass@1 before and after. Ends with
code 1 where memory at the end is more than a tenth above that of round 30.

    python -m benchmarks.fused_rounds --rounds 300 --folder /tmp/assay-rounds
"""

import argparse
import re
import subprocess
import time
from pathlib import Path

import psutil
import yaml

from assay.trajectories import read_table
from benchmarks.workspace import ROOT, Workspace, copy_project

EARLY = 30
"""The round that memory at the end is compared with: by then everything has been allocated once."""
ALLOWED = 1.10
_ROUND = re.compile(r"round (\d+) of \d+: reward ([\d.]+).*entropy ([\d.]+).* ([\d.]+) s \(")


def resident(process: psutil.Process) -> dict[str, int]:
    """Bytes of resident memory of the stage's own process and of all below it."""
    try:
        stage = next(p for p in process.children(recursive=True) if "stages.train" in " ".join(p.cmdline()) and "python" in p.name())
        return {"stage": stage.memory_info().rss, "workers": sum(p.memory_info().rss for p in stage.children(recursive=True))}
    except (StopIteration, psutil.NoSuchProcess):
        return {"stage": 0, "workers": 0}


def follow(workspace: Workspace) -> dict[int, int]:
    """Run the fused pipeline; round -> resident memory of the stage."""
    process = subprocess.Popen(
        ["dvc", "repro", "fused/dvc.yaml"], cwd=workspace.root, env=workspace.environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    memory: dict[int, int] = {}
    tail: list[str] = []
    print(f"{'round':>6}{'reward':>8}{'entropy':>9}{'seconds':>9}{'stage MiB':>11}{'workers MiB':>13}", flush=True)
    for line in process.stdout:
        tail = [*tail[-30:], line]
        if match := _ROUND.match(line):
            number = int(match[1])
            now = resident(psutil.Process(process.pid))
            memory[number] = now["stage"]
            if number in (1, EARLY) or number % 25 == 0:
                sizes = f"{now['stage'] / 2**20:>11,.0f}{now['workers'] / 2**20:>13,.0f}"
                print(f"{number:>6}{match[2]:>8}{match[3]:>9}{match[4]:>9}{sizes}", flush=True)
    if process.wait():
        raise SystemExit("".join(tail))
    return memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--folder", type=Path, default=Path(".assay/rounds"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params |= {"iterations": [{"k": 0, "next": 1}], "last_policy": 1, "seed": arguments.seed}
    params["fused"] = {**params.get("fused", {}), "rounds": arguments.rounds}
    workspace = Workspace(folder) if (folder / "dvc.yaml").is_file() else copy_project(folder, params)
    began = time.monotonic()
    memory = follow(workspace)
    print(f"{(time.monotonic() - began) / 60:.1f} minutes; report: {folder / 'data/fused/evaluate/report.html'}")
    for row in read_table("evaluations", folder / "data/fused/evaluate").to_pylist():
        if (row["environment"], row["split"]) == ("all", "eval") and row["metric"] in ("pass@1", "pass@8", "pass@1_gain"):
            print(f"policy {row['iteration']}: {row['metric']} {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]")
    if EARLY in memory and arguments.rounds in memory:
        ratio = memory[arguments.rounds] / memory[EARLY]
        print(f"resident memory of the stage, round {arguments.rounds} over round {EARLY}: {ratio:.3f} (aim: at most {ALLOWED})")
        raise SystemExit(int(ratio > ALLOWED))


if __name__ == "__main__":
    main()
