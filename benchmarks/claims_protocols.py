"""Claims of Thoth, measured with a small language model: do its three stages each help, which parts of SCORE matter, and does SCORE say
what the executor says?

    python -m benchmarks.claims_protocols --seeds 0 1 2     # fused; minutes an arm and seed
    python -m benchmarks.claims_protocols --tables          # only write the table of what there is

Judged by rules fixed before: the policy after the last round on held-out tasks, 8 samples each, always by the full SCORE, the paper's
metrics and the executor, whatever the arm was rewarded with. Supervised phases have a fixed number of steps, so that arms differ in what
their names say alone.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arms import Metrics, metrics, place_of, sample, train_arm, value
from benchmarks.study import Results, Study, claims, load, table

TASKS_PER_ROUND, GROUP, ROUNDS = 64, 8, 30
LEARNING_RATE = 4.0e-4
"""At 1e-3, and with a third of the answers a round, SCORE rises too, but fewer protocols reach their goal."""
READ, IMITATE = 60, 90
"""Steps of pre-training and of the supervised phase, 64 rows each: sampling then succeeds in about a fifth of the tasks."""
SCALE = "tiny"
SIZES = {"train": 4096, "eval": 256, "ood": 64, "demonstrations": 20_000, "texts": 10_000}
FULL = "PT + SFT + RL (SCORE)"
ARMS: dict[str, dict[str, Any]] = {
    FULL: {},
    "without f (number of steps)": {"protocol": {"step_scale": False}},
    "without g (length)": {"protocol": {"length_penalty": False}},
    "without order": {"protocol": {"order": "off"}},
    "without position decay": {"protocol": {"position_decay": False}},
    "without f, g and order": {"protocol": {"step_scale": False, "length_penalty": False, "order": "off"}},
    "without KL": {"training": {"divergence": {"coefficient": 0.0}}},
    "lexical reward": {"protocol": {"reward": "lexical"}},
    "SFT + RL": {"read": False},
}
UNTRAINED = {"PT": True, "SFT": False, "PT + SFT": True}
"""Arms without reinforcement, and whether they have read."""
NAMES = (*ARMS, *UNTRAINED)
STAGES = ("PT", "SFT", "PT + SFT", "SFT + RL", FULL)


def parameters(arm: str, seed: int, rounds: int) -> dict[str, Any]:
    options = ARMS.get(arm, {})
    supervised = {"batch_size": 64, "learning_rate": 6.0e-3, "warmup_steps": 20}
    reading = supervised | {"max_steps": READ, "report_every": 20}
    return {
        "method": "score", "scale": SCALE, "environment": "protocols", "seed": seed,
        "iterations": [{"k": 0, "next": 1}], "last_policy": 1, "tasks": SIZES,
        "warm_start": supervised | {"target": 0.99, "max_steps": IMITATE, "check_every": IMITATE, "pretraining": reading},
        "sampling": {"group_size": GROUP},
        "verification": {"protocol": options.get("protocol", {})},
        "training": {"learning_rate": LEARNING_RATE, "grpo": {"report_to": "none"}} | options.get("training", {}),
        "evaluation": {"sampled_trajectories": 0},
        "fused": {"rounds": rounds, "tasks_per_round": TASKS_PER_ROUND, "steps_per_round": 1},
    }  # fmt: skip


def measured(params: Any, model: Path, tasks: Path, out: Path) -> Metrics:
    """Those of evaluation, and correlations of both rewards with reaching the goal, over samples."""
    from assay.evaluation.protocols import ORACLE, RULE, components

    sampled = sample(params, model, tasks, out)
    found, verdicts, split_of = metrics(sampled, params), sampled.verdicts, sampled.splits()
    said, done = components(verdicts, "rule", RULE), components(verdicts, "oracle", ORACLE)
    for split in found:
        own = [name for name in said if name in done and split_of[name] == split]
        reached = [float(not done[name]["why"]) for name in own]
        for metric, key in (("SCORE and executor", "total"), ("lexical and executor", "lexical")):
            values = [said[name][key] for name in own]
            flat = len(set(values)) < 2 or len(set(reached)) < 2
            found[split][metric] = None if flat else float(np.corrcoef(values, reached)[0, 1])
    return found


def first_policy_of(arm: str, seed: int, workspace: Path) -> Path:
    """The folder that a policy and its noise state are taken from: what the seed's pipeline made, or the same without pre-training."""
    from assay.rounds import first_policy

    if UNTRAINED.get(arm, ARMS.get(arm, {}).get("read", True)):
        return workspace / "data/pretrained" if arm == "PT" else workspace / "models/0"
    target = workspace / "unread"
    if not (target / "policy").is_dir():
        params = load(parameters(arm, seed, 1), workspace / "arms/unread")
        scratch = workspace / "unread-scratch"
        scratch.mkdir(exist_ok=True)
        first_policy(params, workspace / "data/tasks", target, scratch)
        shutil.rmtree(scratch)
    return target


def run_arm(arm: str, seed: int, rounds: int, workspace: Path) -> dict[str, Any]:
    root, _, tasks = place_of(arm, workspace)
    began = time.perf_counter()
    model = first_policy_of(arm, seed, workspace)
    judge = load(parameters(FULL, seed, rounds), workspace / "arms/judge")
    params = load(parameters(arm, seed, rounds), root)
    if arm in UNTRAINED:
        found, rewards = measured(judge, model / "policy", tasks, root / "samples"), []
    else:
        rewards = []
        policy = train_arm(params, root, model, tasks, lambda report: rewards.append(report.reward))
        found = measured(judge, policy, tasks, root / "samples")
    shutil.rmtree(root)
    return {
        "arm": arm, "seed": seed, "rounds": rounds, "measured": found, "reward": rewards, "seconds": time.perf_counter() - began,
    }  # fmt: skip


def tables(found: Results, rounds: int) -> dict[str, str]:
    average, reached, score = value("protocol_average"), value("pass@1"), value("score")
    seeds = ", ".join(map(str, sorted({seed for _, seed in found})))

    def gap(row: dict[str, Any]) -> float:
        return value("SCORE and executor")(row) - value("lexical and executor")(row)

    head = (
        f"{READ} steps of pre-training (PT), {IMITATE} of imitation (SFT), {rounds} rounds of {TASKS_PER_ROUND} tasks x {GROUP} answers "
        f"under GRPO (RL), learning rate {LEARNING_RATE:g}; seeds {seeds}. Held-out tasks, 8 samples each, measured with the full SCORE "
        "(2.5 at most) whatever the reward was. Means with 95 % t intervals over seeds; differences (Δ) are paired by "
        "seed. `python -m benchmarks.claims_protocols`.\n"
    )
    listed = claims(found, [
        ("PT, SFT and RL beat PT and SFT (average of metrics)", FULL, "PT + SFT", average, 1),
        ("PT, SFT and RL beat SFT and RL", FULL, "SFT + RL", average, 1),
        ("PT and SFT beat SFT alone", "PT + SFT", "SFT", average, 1),
        ("without f the number of steps is worse (Step-M)", "without f (number of steps)", FULL, value("protocol_step_match"), -1),
        ("without f the order is worse (Order-S)", "without f (number of steps)", FULL, value("protocol_order_strict"), -1),
        ("without order Order-LCS falls", "without order", FULL, value("protocol_order_lcs"), -1),
        ("without order Order-S falls", "without order", FULL, value("protocol_order_strict"), -1),
        ("position decay helps a little (average)", "without position decay", FULL, average, -1),
        ("without KL the average is lower", "without KL", FULL, average, -1),
        *((f"SCORE says more of reaching the goal than the lexical reward ({arm})", arm, None, gap, 1) for arm in (FULL, "PT + SFT")),
        ("the lexical reward brings higher BLEU", "lexical reward", FULL, value("protocol_bleu"), 1),
        ("the lexical reward brings fewer protocols that reach their goal", "lexical reward", FULL, reached, -1),
    ])  # fmt: skip
    main = {
        "SCORE": score, "Δ SCORE": score, "every step possible": value("executable_share"), "goal reached": reached,
        "Δ goal reached": reached, "average of metrics": average, "Δ average": average,
    }  # fmt: skip
    metrics = {
        head: value(f"protocol_{name}") for head, name in (
            ("Step-M", "step_match"), ("Order-S", "order_strict"), ("Order-LCS", "order_lcs"), ("Order-Tau", "order_tau"),
            ("Semantic-A", "semantic"), ("BLEU-AVG", "bleu"), ("ROUGE-L", "rouge"), ("token-F1", "tokens"),
        )
    }  # fmt: skip
    agreement = {
        "SCORE with executor": value("SCORE and executor"), "lexical with executor": value("lexical and executor"),
        "SCORE, ood": value("SCORE and executor", "ood"), "lexical, ood": value("lexical and executor", "ood"),
        "goal reached, ood": value("pass@1", "ood"), "SCORE itself, ood": value("score", "ood"),
    }  # fmt: skip
    rewards = [name for name in ARMS if name != "SFT + RL"]
    text = [
        head, *listed, "Nothing is claimed of g: no answer here has the 30 words a step beyond which it acts.", "",
        f"Stages; Δ: minus {FULL}.", "", *table(found, STAGES, main, FULL), "", "Rewards.", "",
        *table(found, rewards, main, FULL), "", "The paper's metrics.", "", *table(found, NAMES, metrics, FULL), "",
        "Correlation, over samples, of a reward with reaching the goal.", "", *table(found, NAMES, agreement, FULL),
    ]  # fmt: skip
    return {"protocols": "\n".join(text) + "\n"}


def shown(row: dict[str, Any]) -> str:
    numbers = {name: round(value(name)(row), 3) for name in ("score", "pass@1", "executable_share", "protocol_average")}
    return f"{json.dumps(numbers)} {row['seconds']:.0f} s"


STUDY = Study("claims_protocols", NAMES, ROUNDS, parameters, run_arm, tables, shown)

if __name__ == "__main__":
    STUDY.main(__doc__)
