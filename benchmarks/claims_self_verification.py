"""Claims of RISE, measured with small language models: does a policy that is trained to judge its own solutions judge them well, and at
what cost to solving?

    python -m benchmarks.claims_self_verification --seeds 0 1 2     # fused; some two minutes an arm and seed
    python -m benchmarks.claims_self_verification --tables          # only write the table of what there is

Judged by rules fixed before: the policy after the last round, 8 samples of each held-out task with one critique each, the oracle's
verdict as the truth. Balanced accuracy decides about judging: accuracy alone is high for a critic that calls everything wrong. Since a
policy that solves nearly everything has few wrong solutions of its own, every policy also judges the same ones: those of policy 0.
"""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arms import Sampled, judged_by, keep_model, metrics, place_of, sample, train_arm, value
from benchmarks.study import Results, Study, claims, load, table

TASKS_PER_ROUND, ROUNDS = 128, 40
JUDGING = {"demonstrations": 0.4, "demonstrated_accuracy": 0.9, "demonstrated_working": True, "max_tokens": 56, "max_prompt_tokens": 160}
"""Policy 0 works the question out before it judges, and judges better than chance, as the paper's policies did: see `warm_start` below."""
SOLVING = {"self_verification": {"share": 0.0, "evaluation": 1}}
"""Everything as in RISE, without critiques in training: the papers' Zero-RL."""
ARMS: dict[str, dict[str, Any]] = {
    "RISE": {},
    "Zero-RL": SOLVING,
    "Zero-RL, compute-matched": SOLVING | {"tasks": 144},
    "RISE, 50 %": {"self_verification": {"share": 0.5}},
    "RISE, offline": {"offline": True},
    "RISE, stratified": {"self_verification": {"selection": "stratified"}},
    "RISE, REINFORCE++": {"method": "rise_reinforce"},
    "RISE, GRPO": {"method": "rise_grpo"},
}
NAMES = (*ARMS, "policy 0")


def parameters(arm: str, seed: int, rounds: int) -> dict[str, Any]:
    options = ARMS.get(arm, SOLVING)
    return {
        "method": options.get("method", "rise"), "scale": "tiny", "environment": "overthinking", "seed": seed,
        "environments": {"chain": {"mistakes": 0.45, "redundancy": 0.0}},
        # Comparing two answers is learned long after calculating: between 2,000 and 4,000 steps, at nearly the same pass@1.
        "warm_start": {"target": 0.99, "max_steps": 4000, "check_every": 500},
        "iterations": [{"k": 0, "next": 1}], "last_policy": 1,
        "self_verification": JUDGING | options.get("self_verification", {}),
        "verification": {"rule": "numeric", "reference": "none"},
        "policy": {"shape": {"max_positions": 224}, "max_prompt_tokens": 60},
        "training": {"learning_rate": 1.0e-3, "grpo": {"report_to": "none"}},
        "fused": {"rounds": rounds, "tasks_per_round": options.get("tasks", TASKS_PER_ROUND), "steps_per_round": 1},
    }  # fmt: skip


def offline_solutions(seed: int, rounds: int, workspace: Path) -> Path:
    """Solutions of the last Zero-RL policy to train tasks, verified: the material of the offline arm. Made once."""
    folder, model = workspace / "offline", workspace / "zero-rl/policy"
    if (folder / "verdicts.parquet").is_file():
        return folder
    if not model.is_dir():
        raise SystemExit("the arm RISE, offline needs the last policy of the arm Zero-RL of its seed: run that first")
    params = load(parameters("Zero-RL", seed, rounds) | {"sampling": {"tasks_per_iteration": 2048}}, workspace / "offline-params")
    sample(params, model, workspace / "data/tasks/tasks.parquet", folder, "solution")
    return folder


def first_samples(seed: int, rounds: int, workspace: Path, arm: str) -> Sampled:
    """Of policy 0, with its own critiques, on held-out tasks: what every policy judges. The same each time, as seeds are hashes; in a
    folder of the arm's, as arms of a seed may run beside each other."""
    root, model, tasks = place_of(arm, workspace)
    root = root / "first"
    return sample(load(parameters("policy 0", seed, rounds), root), model / "policy", tasks, root / "samples")


def run_arm(arm: str, seed: int, rounds: int, workspace: Path) -> dict[str, Any]:
    from assay.trajectories import read_table

    root, model, tasks = place_of(arm, workspace)
    began = time.perf_counter()
    params = load(parameters(arm, seed, rounds), root)
    own: dict[str, Any] = {"arm": arm, "seed": seed, "rounds": rounds}
    first = first_samples(seed, rounds, workspace, arm)
    if arm == "policy 0":
        found = metrics(first, params)
        return own | {"measured": found, "judged": found}
    offline = offline_solutions(seed, rounds, workspace) if ARMS[arm].get("offline") else None
    policy = train_arm(params, root, model, tasks, offline=offline)
    found = metrics(sample(params, policy, tasks, root / "samples"), params)
    judged = judged_by(params, policy, first)
    if arm == "Zero-RL":
        keep_model(root, workspace / "zero-rl")
    batches = read_table("batches", root / "tables").select(["trajectory_id", "round", "reward"]).to_pandas()
    kinds = read_table("trajectories", root / "tables").select(["trajectory_id", "kind"]).to_pandas()
    rewards = batches.merge(kinds, on="trajectory_id").groupby(["kind", "round"])["reward"].mean()
    shutil.rmtree(root)
    return own | {
        "measured": found, "judged": judged, "seconds": time.perf_counter() - began,
        "rewards": {kind: [float(value) for value in rewards[kind]] for kind in rewards.index.levels[0]},
    }  # fmt: skip


def faster(row: dict[str, Any]) -> float:
    """Gain of the critiques' mean reward, last five rounds over first five, minus that of the solutions'."""
    gains = {kind: float(np.mean(rewards[-5:]) - np.mean(rewards[:5])) for kind, rewards in row.get("rewards", {}).items()}
    return gains["critique"] - gains["solution"] if "critique" in gains else float("nan")


def tables(found: Results, rounds: int) -> dict[str, str]:
    balanced, first = value("verification_balanced_accuracy"), value("pass@1")
    same = value("verification_balanced_accuracy", part="judged")
    head = (
        f"{rounds} rounds of {TASKS_PER_ROUND} tasks x 8 solutions, PPO where nothing is said, one optimizer step a round, learning "
        f"rate 0.001; seeds {', '.join(map(str, sorted({seed for _, seed in found})))}. Held-out tasks, 8 samples and a critique of each "
        "(own: of the arm's own samples; same: of policy 0's, which are the same for all arms of a seed); the truth is the oracle's. "
        "Means with 95 % t intervals over seeds; differences (Δ) are paired by seed. "
        "`python -m benchmarks.claims_self_verification`.\n"
    )
    listed = claims(found, [
        ("RISE judges its own solutions better than Zero-RL (balanced accuracy)", "RISE", "Zero-RL", balanced, 1),
        ("RISE judges the same solutions better than Zero-RL", "RISE", "Zero-RL", same, 1),
        ("RISE judges the same solutions better than policy 0", "RISE", "policy 0", same, 1),
        ("RISE solves as well as Zero-RL (pass@1)", "RISE", "Zero-RL", first, 0),
        ("RISE solves as well as Zero-RL with the same number of trajectories", "RISE", "Zero-RL, compute-matched", first, 0),
        ("online critiques judge the last policy better than offline ones", "RISE", "RISE, offline", balanced, 1),
        ("online critiques judge the same solutions better than offline ones", "RISE", "RISE, offline", same, 1),
        ("online and offline solve alike", "RISE", "RISE, offline", first, 0),
        ("the reward of critiques rises faster than that of solutions", "RISE", None, faster, 1),
        ("more critiques, better judging", "RISE, 50 %", "RISE", balanced, 1),
        ("stratified selection judges better than uniform", "RISE, stratified", "RISE", balanced, 1),
    ])  # fmt: skip
    columns = {
        "pass@1": first, "Δ pass@1": first, "balanced, own": balanced, "Δ": balanced, "binary": value("verification_accuracy"),
        "exact": value("verification_exact_accuracy"), "majority class": value("verification_majority_accuracy"),
        "Matthews": value("verification_matthews"), "unscored": value("verification_unscored_share"),
    }  # fmt: skip
    others = {
        "balanced, same": same, "Δ": same, "true positives": value("verification_true_positive_rate", part="judged"),
        "false positives": value("verification_false_positive_rate", part="judged"),
        "Matthews": value("verification_matthews", part="judged"), "unscored": value("verification_unscored_share", part="judged"),
        "policy 0's weighted@8": value("vote_weighted@8", part="judged"), "its maj@8": value("vote_majority@8", part="judged"),
    }  # fmt: skip
    votes = {
        "maj@8": value("vote_majority@8"), "weighted@8": value("vote_weighted@8"), "weighted@8, constant":
        value("vote_weighted_constant@8"),
        "pass@1, ood": value("pass@1", "ood"), "balanced, ood": value("verification_balanced_accuracy", "ood"),
        "critiques' gain in reward minus solutions'": faster,
    }  # fmt: skip
    parts = [line for each in (columns, others, votes) for line in ("", *table(found, NAMES, each, "Zero-RL"))]
    text = [head, *listed, "Δ: minus Zero-RL, of the column before.", *parts]
    return {"self_verification": "\n".join(text) + "\n"}


def shown(row: dict[str, Any]) -> str:
    balanced = value("verification_balanced_accuracy")(row)
    return f"pass@1 {value('pass@1')(row):.3f}  balanced {balanced:.3f}  {row.get('seconds', 0):.0f} s"


STUDY = Study("claims_self_verification", NAMES, ROUNDS, parameters, run_arm, tables, shown)

if __name__ == "__main__":
    STUDY.main(__doc__)
