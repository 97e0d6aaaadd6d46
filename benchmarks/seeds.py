"""The default pipeline at several seeds: does the last policy beat policy 0 on held-out tasks, with disjoint 95 % intervals?

Each seed runs in a copy of the project, in a folder that is kept: a second call goes on where the first was stopped.

    python -m benchmarks.seeds --seeds 0 1 2 3 --folder /tmp/assay-seeds
"""

import argparse
import time
from pathlib import Path

import yaml

from assay.trajectories import read_table
from benchmarks.workspace import ROOT, Workspace, copy_project


def pass_at_1(workspace: Workspace, iteration: int) -> tuple[float, float, float]:
    """pass@1 of a policy on all held-out tasks, with its interval."""
    for row in read_table("evaluations", workspace.root / "data/evaluate").to_pylist():
        if (row["iteration"], row["environment"], row["split"], row["metric"]) == (iteration, "all", "eval", "pass@1"):
            return row["value"], row["low"], row["high"]
    raise LookupError(f"{workspace.root}: no pass@1 of policy {iteration}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--folder", type=Path, default=Path(".assay/seeds"))
    parser.add_argument("--scale", default=None, help="another scale than params.yaml names")
    arguments = parser.parse_args()
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    if arguments.scale:
        params["scale"] = arguments.scale
    last = params["last_policy"]
    print(f"{'seed':>4}{'policy 0':>26}{f'policy {last}':>26}  disjoint  minutes", flush=True)
    for seed in arguments.seeds:
        folder = arguments.folder / f"seed-{seed}"
        workspace = (
            Workspace(folder.resolve()) if (folder / "dvc.yaml").is_file() else copy_project(folder.resolve(), {**params, "seed": seed})
        )
        start = time.monotonic()
        workspace.run("dvc", "repro", timeout=7200)
        first, final = pass_at_1(workspace, 0), pass_at_1(workspace, last)
        shown = [f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in (first, final)]
        disjoint = "yes" if final[1] > first[2] else "NO"
        print(f"{seed:>4}{shown[0]:>26}{shown[1]:>26}{disjoint:>10}{(time.monotonic() - start) / 60:>9.1f}", flush=True)


if __name__ == "__main__":
    main()
