"""The estimate from appeals in the default pipeline: does its interval hold the true false-negative rate of each iteration?

    python -m benchmarks.appeals_pipeline --seeds 0 1 2 3 4 --folder /tmp/assay-appeals

Rational arithmetic, judged by string match, with the preset `appeals_forward`: the rule rejects right answers that are written
otherwise, the judge (math-verify) sees a tenth of them, the oracle knows the truth. Each seed runs in a copy of the project that is
kept; a second call with the same code goes on. Writes docs/claims/noise_pipeline.md; ends with 1 where fewer than 9 of 10 intervals hold.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from assay.trajectories import read_table
from benchmarks.seeds import pass_at_1, workspace_of
from benchmarks.workspace import ROOT, Workspace

TABLE = ROOT / "docs/claims/noise_pipeline.md"
ENVIRONMENT, WANTED = "rational", 0.9


def estimates(workspace: Workspace, iterations: int) -> list[dict[str, Any]]:
    """Rows of noise_estimates of the environment whose oracle knows the truth."""
    folders = [workspace.root / "data/verify" / str(k) for k in range(iterations)]
    return [row for row in read_table("noise_estimates", *folders).to_pylist() if row["environment"] == ENVIRONMENT]


def holds(row: dict[str, Any]) -> bool:
    return bool(row["false_negative_low"] <= row["true_false_negative_rate"] <= row["false_negative_high"])


def cell(row: dict[str, Any]) -> str:
    low, high = row["false_negative_low"], row["false_negative_high"]
    truth = f"{row['true_false_negative_rate']:.3f}{'' if holds(row) else ' (missed)'}"
    return f"{row['false_negative_rate']:.3f} [{low:.3f}, {high:.3f}], {truth}"


def table(found: dict[int, tuple[list[dict[str, Any]], float, float]]) -> str:
    """Markdown: a line for each seed."""
    rows = [row for of_seed, _, _ in found.values() for row in of_seed]
    iterations = max(len(of_seed) for of_seed, _, _ in found.values())
    held = sum(map(holds, rows))
    judged = sum(row["examined_negatives"] for row in rows) / len(rows)
    lines = [
        f"Default pipeline, preset appeals_forward, {ENVIRONMENT}: estimate [95 % interval], truth. {held} of {len(rows)} intervals hold",
        f"the true rate of their iteration; {judged:.0f} answers judged in each, on average.",
        "",
        f"| seed | {' | '.join(f'iteration {k}' for k in range(iterations))} | pass@1, policy 0 | last policy |",
        f"|---:|{'---|' * iterations}---:|---:|",
    ]
    for seed, (of_seed, first, last) in sorted(found.items()):
        lines.append(f"| {seed} | {' | '.join(map(cell, of_seed))} | {first:.3f} | {last:.3f} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--folder", type=Path, default=ROOT / ".assay/appeals")
    arguments = parser.parse_args()
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"method": "appeals_forward"}
    found = {}
    for seed in arguments.seeds:
        workspace, _ = workspace_of((arguments.folder / f"seed-{seed}").resolve(), {**params, "seed": seed})
        workspace.run("dvc", "repro", timeout=7200)
        last = params["last_policy"]
        found[seed] = (estimates(workspace, last), pass_at_1(workspace, 0)[0], pass_at_1(workspace, last)[0])
        TABLE.parent.mkdir(parents=True, exist_ok=True)
        TABLE.write_text(table(found), encoding="utf-8")
        print(table(found), flush=True)
    rows = [row for of_seed, _, _ in found.values() for row in of_seed]
    return 0 if sum(map(holds, rows)) >= WANTED * len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
