"""Arms of a study over seeds: each (arm, seed) is run once, in a process of its own, and kept as a file; tables are written after each.

All arms of a seed start from the same policy 0 and meet the same tasks. What a study measures and how its tables read is its own module's.
What was measured is committed with the tables (docs/claims/results), so a study goes on from any clone; policies and tasks are not.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from assay.trajectories import content_hash
from benchmarks.arms import slug
from benchmarks.claims_noise import interval
from benchmarks.workspace import ROOT, Workspace, copy_project

CLAIMS = ROOT / "docs/claims"
Results = dict[tuple[str, int], dict[str, Any]]
"""By (arm, seed)."""
EQUAL = 0.03
"""Differences within this are none."""
READING = (
    "Seen: *as claimed* where the paired 95 % t interval lies on the claimed side of 0, *the opposite* where it lies on the other, else "
    f"*equal* where it lies within {EQUAL} of 0, else *undecided*. Where equality is claimed: *as claimed* within {EQUAL}, else *not "
    "equal* where it leaves 0, else *undecided*. No correction for the number of claims."
)
Value = Callable[[dict[str, Any]], float]


@dataclass(frozen=True)
class Study:
    name: str
    """Of its folder, and of its workers' module: benchmarks.NAME."""
    arms: tuple[str, ...]
    rounds: int
    parameters: Callable[[str, int, int], dict[str, Any]]
    """(arm, seed, rounds): params.yaml."""
    run: Callable[[str, int, int, Path], dict[str, Any]]
    """(arm, seed, rounds, the seed's workspace): what was measured."""
    tables: Callable[[Results, int], Mapping[str, str]]
    """File name in docs/claims -> Markdown."""
    line: Callable[[dict[str, Any]], str]
    """What people read while it runs."""

    def prepare(self, folder: Path, seed: int) -> Workspace:
        """Tasks and policy 0 of a seed; kept, made once."""
        target = (folder / f"{self.name}-seed-{seed}").resolve()
        if not (target / "models/0/policy").is_dir():
            shutil.rmtree(target, ignore_errors=True)
            workspace = copy_project(target, self.parameters(self.arms[0], seed, 1))
            workspace.run("dvc", "repro", "warm_start", timeout=3600)
        return Workspace(target)

    def file(self, results: Path, arm: str, seed: int, rounds: int) -> Path:
        """Named by all parameters of the arm, its preset's included: other ones are another result."""
        values = self.parameters(arm, seed, rounds)
        presets = [
            yaml.safe_load((ROOT / f"conf/{kind}/{values[kind]}.yaml").read_text(encoding="utf-8")) for kind in ("method", "environment")
        ]
        return results / self.name / f"{seed}-{slug(arm)}-{content_hash(yaml.safe_dump([values, *presets]), length=8)}.json"

    def results(self, results: Path, rounds: int) -> Results:
        found: Results = {}
        for file in sorted((results / self.name).glob("*.json")):
            row = json.loads(file.read_text())
            if row["rounds"] == rounds and row["arm"] in self.arms and self.file(results, row["arm"], row["seed"], rounds) == file:
                found[row["arm"], row["seed"]] = row
        return found

    def write(self, results: Path, rounds: int) -> Mapping[str, str]:
        texts = self.tables(self.results(results, rounds), rounds)
        for name, text in texts.items():
            (results.parent / f"{name}.md").write_text(text, encoding="utf-8")
        return texts

    def main(self, description: str | None) -> None:
        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
        parser.add_argument("--arms", nargs="+", choices=self.arms, default=list(self.arms))
        parser.add_argument("--rounds", type=int, default=self.rounds)
        parser.add_argument("--folder", type=Path, default=ROOT / ".assay/claims", help="for tasks and policies")
        parser.add_argument("--results", type=Path, default=CLAIMS / "results", help="a file for each arm and seed; tables lie beside it")
        parser.add_argument("--tables", action="store_true")
        parser.add_argument("--worker", choices=self.arms, help=argparse.SUPPRESS)
        parser.add_argument("--workspace", type=Path, help=argparse.SUPPRESS)
        arguments = parser.parse_args()
        folder, results, rounds = arguments.folder.resolve(), arguments.results.resolve(), arguments.rounds
        if arguments.worker:
            file = self.file(results, arguments.worker, arguments.seeds[0], rounds)
            found = self.run(arguments.worker, arguments.seeds[0], rounds, arguments.workspace)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.with_suffix(".partial").write_text(json.dumps(found) + "\n")
            file.with_suffix(".partial").replace(file)
            return
        for seed in [] if arguments.tables else arguments.seeds:
            for arm in arguments.arms:
                file = self.file(results, arm, seed, rounds)
                if not file.is_file():
                    workspace = self.prepare(folder, seed)
                    command = [
                        sys.executable, "-m", f"benchmarks.{self.name}", "--worker", arm, "--seeds", str(seed), "--rounds", str(rounds),
                        "--folder", str(folder), "--results", str(results), "--workspace", str(workspace.root),
                    ]  # fmt: skip
                    subprocess.run(command, cwd=ROOT, env=workspace.environment(), check=True, stdout=subprocess.DEVNULL)
                print(f"seed {seed}  {arm:<28} {self.line(json.loads(file.read_text()))}", flush=True)
                self.write(results, rounds)
        print("\n".join(self.write(results, rounds).values()))


def load(parameters: Mapping[str, Any], root: Path) -> Any:
    """Resolved parameters, by way of a params.yaml in `root`, which is emptied."""
    from assay.params import load_params

    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    (root / "params.yaml").write_text(yaml.safe_dump(dict(parameters), sort_keys=False))
    (root / "conf").symlink_to(ROOT / "conf")
    return load_params(root)


def over_seeds(found: Results, arm: str, of: Value, minus: str | None = None) -> str:
    """Mean with a t interval over the seeds that have the arm (and the other one, whose value is subtracted)."""
    values = paired(found, arm, of, minus)
    return interval(values, signed=minus is not None) if values else "–"


def paired(found: Results, arm: str, of: Value, minus: str | None = None) -> list[float]:
    values = []
    for (name, seed), row in sorted(found.items()):
        if name == arm and (minus is None or (minus, seed) in found):
            value = of(row) - (0.0 if minus is None else of(found[minus, seed]))
            if np.isfinite(value):
                values.append(value)
    return values


def table(found: Results, arms: Sequence[str], columns: Mapping[str, Value], against: str) -> list[str]:
    """Markdown. columns: head -> value, those whose head begins with Δ minus the arm `against`."""
    lines = [f"| arm | seeds | {' | '.join(columns)} |", "|---|---:|" + "---|" * len(columns)]
    for arm in arms:
        count = sum(name == arm for name, _ in found)
        if count:
            cells = [
                "–" if head.startswith("Δ") and arm == against else over_seeds(found, arm, of, against if head.startswith("Δ") else None)
                for head, of in columns.items()
            ]
            lines.append(f"| {arm} | {count} | {' | '.join(cells)} |")
    return lines


def claims(found: Results, listed: Sequence[tuple[str, str, str | None, Value, int]]) -> list[str]:
    """A table of directional claims: the text, arm, the arm that it is compared with (None: with 0), what is compared, and its sign
    (1: higher, -1: lower, 0: equal). Seen where the interval of the paired difference lies on its side of 0, or within EQUAL of it
    where equality is claimed. Fewer than three seeds decide nothing. READING, above the table, tells its readers."""
    from scipy.stats import t

    lines = ["| claim | difference | seen |", "|---|---|---|"]
    for text, arm, other, of, sign in listed:
        values = paired(found, arm, of, other)
        if len(values) < 3:
            continue
        mean, half = np.mean(values), float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
        side = 0 if abs(mean) <= half else int(np.sign(mean))
        equal = abs(mean) + half <= EQUAL
        if sign == 0:
            seen = "as claimed" if equal else "undecided" if side == 0 else "not equal"
        else:
            seen = "as claimed" if side == sign else "the opposite" if side else "equal" if equal else "undecided"
        lines.append(f"| {text} | {interval(values, signed=True)} | {seen} |")
    return [READING, "", *lines, ""] if len(lines) > 2 else ["Three seeds decide about claims; there are fewer yet.", ""]
