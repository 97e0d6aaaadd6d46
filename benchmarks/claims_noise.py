"""Claims about noisy verifiers, measured: what corrections and appeals bring, beside matched controls.

    python -m benchmarks.claims_noise exact                      # bandit and tabular task, the whole grid of 1 - fpr - fnr; minutes
    python -m benchmarks.claims_noise language --seeds 0 1 2 3 4 # small language models, one rate, fused; about a minute an arm

Both write their table to docs/claims/. `language` is resumable: each (arm, seed) is a file in --folder, made once, and the table is
written again after each. All arms start from the same policy 0 of their seed, meet the same tasks and the same noise draws, and are
judged by the same rule, fixed before: the policy after the last round, pass@1 on held-out tasks by the oracle. Differences are
paired by seed.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from assay.trajectories import content_hash
from benchmarks.noise_bandit import format_rows, run_bandit, run_tabular
from benchmarks.workspace import ROOT, Workspace, copy_project

CLAIMS = ROOT / "docs/claims"
NOISE = {"type": "independent", "false_positive_rate": 0.1, "false_negative_rate": 0.2}  # the paper's synthetic setting
JUDGE = {"type": "simulated", "true_positive_rate": 0.95, "false_positive_rate": 0.05}
RATES = {"true_positive": 0.95, "false_positive": 0.05}
ARMS: dict[str, dict[str, Any]] = {
    "oracle": {"noise": None, "advantage": {"type": "group_zscore"}},
    "noise, z-score": {"advantage": {"type": "group_zscore"}},
    "noise, leave-one-out": {"advantage": {"type": "leave_one_out"}},
    "noise, direct": {"advantage": {"type": "direct"}},
    "backward": {"advantage": {"type": "backward", "false_positive_rate": 0.1, "false_negative_rate": 0.2}},
    "forward": {"advantage": {"type": "forward", "false_negative_rate": 0.2}},
    "appeals": {"advantage": {"type": "group_zscore"}, "appeals": {"probability": 1.0, "recover": True}},
    "appeals + forward": {"advantage": {"type": "forward"}, "appeals": {"probability": 0.1, "recover": True}},
}
"""Rates are given to backward and forward, as in the paper's synthetic study, and estimated in the last arm."""
TASKS_PER_ROUND = 128


def parameters(arm: str, seed: int, rounds: int) -> dict[str, Any]:
    """params.yaml of one arm. The rule is exact, so that the injected noise is all there is."""
    options = ARMS[arm]
    appeals = {"enabled": True, "judge": JUDGE, "judge_rates": RATES, "assumed_false_positive_rate": 0.1} | options.get("appeals", {})
    return {
        "method": "grpo", "scale": "tiny", "environment": "arithmetic", "seed": seed,
        "iterations": [{"k": 0, "next": 1}], "last_policy": 1,
        "verification": {
            "rule": "numeric", "reference": "none",
            **({"noise": NOISE} if options.get("noise", NOISE) else {}),
            **({"appeals": appeals} if "appeals" in options else {}),
        },
        "training": {
            "advantage": options["advantage"],
            "loss": {"clip_low": 0.2, "clip_high": 0.2, "aggregation": "sequence_mean"},
            "divergence": {"coefficient": 0.001, "estimator": "k3"},
            "grpo": {"report_to": "none"},
        },
        "filter": {"denominator": "all"},
        "fused": {"rounds": rounds, "tasks_per_round": TASKS_PER_ROUND, "steps_per_round": 1},
    }  # fmt: skip


def prepare(folder: Path, seed: int) -> Workspace:
    """Tasks and policy 0 of a seed; kept, made once."""
    target = (folder / f"seed-{seed}").resolve()
    if not (target / "models/0/policy").is_dir():
        shutil.rmtree(target, ignore_errors=True)
        workspace = copy_project(target, parameters("oracle", seed, 1))
        workspace.run("dvc", "repro", "warm_start", timeout=3600)
    return Workspace(target)


def run_arm(arm: str, seed: int, rounds: int, workspace: Path) -> dict[str, Any]:
    """Train one arm and measure its last policy. In a process of its own."""
    from assay.params import load_execution, load_params
    from assay.rounds.train import Places, train
    from assay.trajectories import read_table
    from benchmarks.fused_vs_trl import run_evaluation

    root = workspace / "arms" / arm.replace(" ", "-").replace(",", "").replace("+", "and")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    (root / "params.yaml").write_text(yaml.safe_dump(parameters(arm, seed, rounds), sort_keys=False))
    (root / "conf").symlink_to(ROOT / "conf")
    params = load_params(root)
    model, tasks = workspace / "models/0", workspace / "data/tasks"
    places = Places(tasks / "tasks.parquet", model, model / "policy", root / "tables", root / "model", root / "scratch", None)
    began = time.perf_counter()
    rewards: list[float] = []
    train(params, 0, places, load_execution(root), lambda report: rewards.append(report.reward))
    score = run_evaluation(params, root / "model/policy", tasks, root)
    estimates = read_table("noise_estimates", root / "tables").to_pylist()
    updates = read_table("updates", root / "tables").to_pylist()
    shutil.rmtree(root)
    rows = [row for row in estimates if row["environment"] == "rational" and row["false_negative_low"] is not None]
    covered = [row["false_negative_low"] <= row["true_false_negative_rate"] <= row["false_negative_high"] for row in rows]
    return {
        "arm": arm, "seed": seed, "rounds": rounds, "pass@1": score["value"], "low": score["low"], "high": score["high"],
        "observed_reward": float(np.mean(rewards[-5:])),
        "fnr_last": None if not rows else rows[-1]["smoothed_rate"],
        "coverage": None if not rows or "appeals" not in arm else float(np.mean(covered)),
        "audit_cosine": _mean([row["audit_cosine"] for row in updates]),
        "audit_difference": _mean([row["audit_mean_difference"] for row in updates]),
        "gradient_norm": _mean([row["gradient_norm"] for row in updates]), "entropy": updates[-1]["entropy"],
        "divergence": updates[-1]["divergence"], "seconds": time.perf_counter() - began,
    }  # fmt: skip


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


MATCHED = {
    "backward": "noise, leave-one-out", "forward": "noise, direct", "appeals": "noise, z-score", "appeals + forward": "noise, direct",
}  # fmt: skip

UNMATCHED = {"appeals + forward": "not matched: also recovers"}
"""Differences from a control that lacks more than the correction."""


def language_table(results: list[dict[str, Any]], rounds: int) -> str:
    """Markdown: mean over seeds with a t interval, and the paired difference from oracle and from the matched control."""
    by = {(row["arm"], row["seed"]): row for row in results}
    seeds = sorted({seed for _, seed in by})
    lines = [
        f"Rounds: {rounds}, {TASKS_PER_ROUND} tasks x 8 completions each, one optimizer step a round; seeds: {', '.join(map(str, seeds))}.",
        "Noise: false-positive rate 0.1, false-negative rate 0.2, independent. pass@1 by the oracle, last policy, 95 % t intervals.",
        "",
        "| arm | seeds | pass@1 | minus oracle | minus matched control | audit: cosine, mean difference | coverage of the interval |",
        "|---|---:|---|---|---|---|---|",
    ]
    for arm in ARMS:
        own = [by[arm, seed]["pass@1"] for seed in seeds if (arm, seed) in by]
        if not own:
            continue
        first = [by[arm, seed] for seed in seeds if (arm, seed) in by]
        audits = [_mean([row[name] for row in first]) for name in ("audit_cosine", "audit_difference")]
        audit = "–" if audits[0] is None else ", ".join(f"{value:.3f}" for value in audits)
        coverage = _mean([row["coverage"] for row in first])
        control = paired(by, seeds, arm, MATCHED[arm]) if arm in MATCHED else "–"
        cells = [
            arm, str(len(own)), interval(own), "–" if arm == "oracle" else paired(by, seeds, arm, "oracle"),
            control + (f" ({UNMATCHED[arm]})" if arm in UNMATCHED else ""), audit, "–" if coverage is None else f"{coverage:.0%}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def interval(values: list[float], signed: bool = False) -> str:
    """Mean with its 95 % t interval over seeds."""
    from scipy.stats import t

    mean, count = float(np.mean(values)), len(values)
    shown = f"{mean:+.3f}" if signed else f"{mean:.3f}"
    if count < 2:
        return shown
    half = float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return f"{shown} [{mean - half:+.3f}, {mean + half:+.3f}]" if signed else f"{shown} [{mean - half:.3f}, {mean + half:.3f}]"


def paired(by: dict[tuple[str, int], dict[str, Any]], seeds: list[int], arm: str, other: str) -> str:
    """Mean difference from another arm over the seeds that both have."""
    both = [by[arm, seed]["pass@1"] - by[other, seed]["pass@1"] for seed in seeds if (arm, seed) in by and (other, seed) in by]
    return interval(both, signed=True) if both else "–"


def language(arguments: argparse.Namespace) -> None:
    folder = arguments.folder
    for seed in arguments.seeds:
        for arm in arguments.arms:
            file = result_file(folder, arm, seed, arguments.rounds)
            if not file.is_file():
                workspace = prepare(folder, seed)
                command = [
                    sys.executable, "-m", "benchmarks.claims_noise", "worker", "--arm", arm, "--seed", str(seed), "--rounds",
                    str(arguments.rounds), "--workspace", str(workspace.root), "--result", str(file),
                ]  # fmt: skip
                subprocess.run(command, cwd=ROOT, env=workspace.environment(), check=True, stdout=subprocess.DEVNULL)
            found = json.loads(file.read_text())
            print(f"seed {seed}  {arm:<22} pass@1 {found['pass@1']:.3f}  {found['seconds']:.0f} s", flush=True)
            CLAIMS.mkdir(parents=True, exist_ok=True)
            (CLAIMS / "noise_language.md").write_text(language_table(results(folder, arguments.rounds), arguments.rounds), encoding="utf-8")
    print(language_table(results(folder, arguments.rounds), arguments.rounds))


def result_file(folder: Path, arm: str, seed: int, rounds: int) -> Path:
    """Named by all parameters of the arm: other ones are another result."""
    return folder / "results" / f"{seed}-{arm}-{content_hash(yaml.safe_dump(parameters(arm, seed, rounds)), length=8)}.json"


def results(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """All results in the folder that were made with today's parameters, of this call or an earlier one."""
    found = [json.loads(file.read_text()) for file in sorted((folder / "results").glob("*.json"))]
    return [row for row in found if row["rounds"] == rounds and result_file(folder, row["arm"], row["seed"], rounds).is_file()]


def worker(arguments: argparse.Namespace) -> None:
    result = run_arm(arguments.arm, arguments.seed, arguments.rounds, arguments.workspace)
    arguments.result.parent.mkdir(parents=True, exist_ok=True)
    partial = arguments.result.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1))
    partial.replace(arguments.result)


def exact(arguments: argparse.Namespace) -> None:
    CLAIMS.mkdir(parents=True, exist_ok=True)
    for name, run in (("bandit", run_bandit), ("tabular", run_tabular)):
        table = format_rows(run())
        (CLAIMS / f"noise_{name}.md").write_text(table.rstrip("\n") + "\n", encoding="utf-8")
        print(f"{name}\n{table}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    parts.add_parser("exact").set_defaults(run=exact)
    models = parts.add_parser("language")
    models.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    models.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=list(ARMS))
    models.add_argument("--rounds", type=int, default=40)
    models.add_argument("--folder", type=Path, default=ROOT / ".assay/claims")
    models.set_defaults(run=language)
    one = parts.add_parser("worker")
    one.add_argument("--arm", choices=tuple(ARMS), required=True)
    one.add_argument("--seed", type=int, required=True)
    one.add_argument("--rounds", type=int, required=True)
    one.add_argument("--workspace", type=Path, required=True)
    one.add_argument("--result", type=Path, required=True)
    one.set_defaults(run=worker)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
