"""Arms of benchmarks/claims_exploration.py: which preset, what is changed in it, and one run of it."""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.workspace import ROOT

TASKS_PER_ROUND = 128
SAMPLES = 64
"""Of each held-out task after the last round: pass@k for k up to this."""
LEARNING_RATE = 1.0e-3
"""Three times the default: in so few rounds exploration would not be lost otherwise."""
OFF = 8
"""Optimizer steps a round of the off-policy arms, on different rows."""

PLAIN = {"method": "clip_higher", "training": {"loss": {"clip_high": 0.2}}}
"""GRPO with a mean over tokens, as both papers' baselines have it."""
ARMS: dict[str, dict[str, Any]] = {
    "GRPO": PLAIN,
    "GRPO + entropy bonus": {"method": "entropy_bonus"},
    "Lp-Reg": {"method": "lp_reg"},
    "Lp-Reg, full KL": {"method": "lp_reg", "training": {"lp_reg": {"form": "forward_kl", "ceiling": 1.0e9}}},
    "Lp-Reg, no filter": {"method": "lp_reg", "training": {"lp_reg": {"keep_dropped": True}}},
    "Lp-Reg, high entropy": {"method": "lp_reg", "training": {"lp_reg": {"selector": "high_entropy"}}},
    "GRPO, off-policy": PLAIN | {"steps": OFF},
    "Clip-higher, off-policy": {"method": "clip_higher", "steps": OFF},
    "KL-Cov, off-policy": {"method": "kl_cov", "steps": OFF},
    "GSPO, off-policy": {"method": "gspo", "steps": OFF},
    "Lp-Reg, off-policy": {"method": "lp_reg", "steps": OFF},
    "DAPO": {"method": "dapo"},
    "top 20 % entropy": {"method": "top_entropy"},
    "bottom 80 % entropy": {"method": "bottom_entropy"},
    "GRPO, exploration tasks": {"method": "explore_only"},
    "DPH-F": {"method": "dph_forward"},
    "DPH-JS": {"method": "dph_js"},
    "DPH-alpha": {"method": "dph_alpha"},
    "replay (NLL)": {"method": "dph_replay"},
    "reverse KL, k3": {"method": "reverse_kl_k3"},
    "reverse KL, k2": {"method": "reverse_kl"},
}


def parameters(arm: str, seed: int, rounds: int) -> dict[str, Any]:
    """params.yaml of one arm; `base` is policy 0. The exact rule: what is measured here is exploration, not noise."""
    options = ARMS["GRPO" if arm == "base" else arm]
    training = {"learning_rate": LEARNING_RATE, "grpo": {"report_to": "none"}} | options.get("training", {})
    return {
        "method": options["method"], "scale": "tiny", "environment": "arithmetic", "seed": seed,
        "iterations": [{"k": 0, "next": 1}], "last_policy": 1,
        "verification": {"rule": "numeric", "reference": "none"},
        "training": training,
        "evaluation": {"samples": SAMPLES, "pass_at": [1, 2, 4, 8, 16, 32, 64]},
        "fused": {"rounds": rounds, "tasks_per_round": TASKS_PER_ROUND, "steps_per_round": options.get("steps", 1)},
    }  # fmt: skip


def load(arm: str, seed: int, rounds: int, root: Path) -> Any:
    """Resolved parameters of an arm, by way of a params.yaml in `root`, which is emptied."""
    from assay.params import load_params

    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    (root / "params.yaml").write_text(yaml.safe_dump(parameters(arm, seed, rounds), sort_keys=False))
    (root / "conf").symlink_to(ROOT / "conf")
    return load_params(root)


def right_answers(params: Any, model: Path, tasks: Path, out: Path) -> dict[str, dict[str, int]]:
    """Split -> task -> how many of SAMPLES answers are right."""
    from assay.environments import tasks_from_table
    from assay.params import load_execution
    from assay.rounds import open_bench, open_sampler, plan_samples, sample_into, verify
    from assay.trajectories import read_table
    from assay.verifiers import NoiseState

    plan, execution = plan_samples(tasks / "tasks.parquet", params, 0, ("evaluation",)), load_execution()
    with open_sampler(params, model, execution, plan) as sampler:
        sample_into(sampler, plan, params, out)
    rows = read_table("trajectories", out)
    known = tasks_from_table(read_table("tasks", tasks / "tasks.parquet"))
    with open_bench(known, params, execution, appeals=False) as bench:
        verdicts = verify(known, rows, params, execution, bench, NoiseState()).verdicts
    right = {
        name for name, role, verdict in zip(*(verdicts[c].to_pylist() for c in ("trajectory_id", "role", "verdict")), strict=True)
        if role == "rule" and verdict == "correct"
    }  # fmt: skip
    found: dict[str, dict[str, int]] = {}
    for name, task in zip(rows["trajectory_id"].to_pylist(), rows["task_id"].to_pylist(), strict=True):
        counts = found.setdefault(known[task].split, {})
        counts[task] = counts.get(task, 0) + (name in right)
    return found


def run_arm(arm: str, seed: int, rounds: int, workspace: Path) -> dict[str, Any]:
    """Train one arm and count right answers of its last policy. In a process of its own; arm `base` only counts."""
    from assay.params import load_execution
    from assay.rounds import presample
    from assay.rounds.train import Places, train
    from assay.trajectories import read_table

    name = "".join(letter if letter.isalnum() else "-" for letter in arm)
    root, model, tasks = workspace / "arms" / name, workspace / "models/0", workspace / "data/tasks"
    began = time.perf_counter()
    if arm == "base":
        params = load(arm, seed, rounds, root)
        found = {"arm": arm, "seed": seed, "rounds": rounds, "right": right_answers(params, model / "policy", tasks, root / "samples")}
        shutil.rmtree(root)
        return found
    params = load(arm, seed, rounds, root)
    execution = load_execution(root)
    stored = None
    if params.presample.enabled:
        stored = workspace / "presample"
        if not stored.is_dir():
            presample(params, tasks / "tasks.parquet", model / "policy", stored, workspace / "presample-scratch", execution, root / "gates")
    places = Places(
        tasks / "tasks.parquet", model, model / "policy", root / "tables", root / "model", root / "scratch", None, presample=stored
    )  # fmt: skip
    rewards: list[float] = []
    train(params, 0, places, execution, lambda report: rewards.append(report.reward))
    right = right_answers(params, root / "model/policy", tasks, root / "samples")
    updates = read_table("updates", root / "tables").to_pylist()
    lengths = read_table("trajectories", root / "tables")
    shutil.rmtree(root)

    def by_round(column: str) -> list[float | None]:
        of_round: dict[int, list[float]] = {}
        for row in updates:
            if row[column] is not None:
                of_round.setdefault(row["round"], []).append(row[column])
        return [float(np.mean(of_round[number])) if number in of_round else None for number in range(rounds)]

    tokens = np.array([len(ids) for ids in lengths["completion_ids"].to_pylist()], dtype=float)
    late = np.array(lengths["round"].to_pylist()) >= rounds - 5
    names = (
        "entropy", "gradient_norm", "clip_low_share", "clip_high_share", "low_probability_threshold", "candidate_count", "protected_count",
        "selected_share", "selected_entropy",
    )  # fmt: skip
    return {
        "arm": arm, "seed": seed, "rounds": rounds, "right": right, "reward": rewards, "length": float(tokens[late].mean()),
        "traces": {column: by_round(column) for column in names}, "seconds": time.perf_counter() - began,
    }  # fmt: skip
