"""The default pipeline at several seeds: does the last policy beat policy 0 on held-out tasks, with disjoint 95 % intervals?

Each seed runs in a copy of the project, in a folder that is kept: a second call with the same code and parameters goes on
where the first was stopped; with other code it starts that seed anew. Ends with 1 where a seed's intervals are not disjoint.

    python -m benchmarks.seeds --seeds 0 1 2 3 --folder /tmp/assay-seeds
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from assay.trajectories import content_hash, file_digest, read_table
from benchmarks.workspace import ROOT, Workspace, copy_project

CODE = ("assay", "stages", "conf", "dvc.yaml", "pyproject.toml", "requirements")
"""What a run comes from, beside its parameters: a change to docs or tests is no reason to start anew."""


def code_digest(root: Path, params: dict[str, Any]) -> str:
    """Of the files that a copy of the project would run with, named as git sees them, and of its parameters."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z", "--", *CODE]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    names = sorted({name for name in listed.split("\0") if name and (root / name).is_file()})
    return content_hash(yaml.safe_dump(params), *(part for name in names for part in (name, file_digest(root / name))))


def workspace_of(folder: Path, params: dict[str, Any], root: Path = ROOT) -> tuple[Workspace, bool]:
    """The copy in `folder`, and whether an earlier call made it. One of other code or parameters is deleted."""
    digest, mark = code_digest(root, params), folder.with_name(f"{folder.name}.digest")
    if folder.exists():
        if mark.is_file() and mark.read_text() == digest:
            return Workspace(folder), True
        print(f"{folder}: made by other code or parameters; deleted and copied anew", flush=True)
        mark.unlink(missing_ok=True)
        shutil.rmtree(folder)
    workspace = copy_project(folder, params)
    mark.write_text(digest)  # last: a copy that was interrupted has none
    return workspace, False


def pass_at_1(workspace: Workspace, iteration: int) -> tuple[float, float, float]:
    """pass@1 of a policy on all held-out tasks, with its interval."""
    for row in read_table("evaluations", workspace.root / "data/evaluate").to_pylist():
        if (row["iteration"], row["environment"], row["split"], row["metric"]) == (iteration, "all", "eval", "pass@1"):
            return row["value"], row["low"], row["high"]
    raise LookupError(f"{workspace.root}: no pass@1 of policy {iteration}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--folder", type=Path, default=Path(".assay/seeds"))
    parser.add_argument("--scale", default=None, help="another scale than params.yaml names")
    arguments = parser.parse_args()
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    if arguments.scale:
        params["scale"] = arguments.scale
    last, failed = params["last_policy"], 0
    print(f"{'seed':>4}{'policy 0':>26}{f'policy {last}':>26}  disjoint  minutes of this call", flush=True)
    for seed in arguments.seeds:
        folder = (arguments.folder / f"seed-{seed}").resolve()
        workspace, resumed = workspace_of(folder, {**params, "seed": seed})
        start = time.monotonic()
        workspace.run("dvc", "repro", timeout=7200)
        minutes = (time.monotonic() - start) / 60
        first, final = pass_at_1(workspace, 0), pass_at_1(workspace, last)
        shown = [f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in (first, final)]
        disjoint = final[1] > first[2]
        failed += not disjoint
        note = ", after those of an earlier one" if resumed else ""
        print(f"{seed:>4}{shown[0]:>26}{shown[1]:>26}{'yes' if disjoint else 'NO':>10}{minutes:>9.1f}{note}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
