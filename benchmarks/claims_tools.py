"""Claims of FTRL, measured with a small language model: does training on automatically built tool environments raise Solve-F1 in every
scenario, under GRPO and under REINFORCE++, and do the reward's variants trade precision against recall as the paper says?

    python -m benchmarks.claims_tools --seeds 0 1 2     # fused; minutes an arm and seed
    python -m benchmarks.claims_tools --tables          # only write the table of what there is

Judged by rules fixed before: the policy after the last round on held-out tasks, whole episodes, always by Solve-P, -R and -F1 whatever
the reward was. Strict P (0 where no call was made) decides about precision: by the paper's code a policy that calls nothing has P = 1.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks.arms import metrics, place_of, sample, train_arm, value
from benchmarks.study import Results, Study, claims, load, table

TASKS_PER_ROUND, GROUP, ROUNDS = 24, 8, 30
LEARNING_RATE = 5.0e-4
ARMS: dict[str, dict[str, Any]] = {
    "GRPO": {},
    "REINFORCE++": {"method": "ftrl_reinforce"},
    "Solve-P as reward": {"variant": "precision"},
    "Solve-R as reward": {"variant": "recall"},
    "Solve-P x Solve-R": {"variant": "precision_times_recall"},
}
NAMES = (*ARMS, "policy 0")
SCENARIOS = ("single_hop", "parallel_single_hop", "multi_hop")


def parameters(arm: str, seed: int, rounds: int) -> dict[str, Any]:
    options = ARMS.get(arm, {})
    return {
        "method": options.get("method", "ftrl"), "scale": "tiny", "environment": "tools", "seed": seed,
        "iterations": [{"k": 0, "next": 1}], "last_policy": 1,
        "sampling": {"group_size": GROUP},
        "training": {"learning_rate": LEARNING_RATE, "grpo": {"report_to": "none"}},
        "verification": {"tool_use": {"variant": options.get("variant", "f1")}},
        "fused": {"rounds": rounds, "tasks_per_round": TASKS_PER_ROUND, "steps_per_round": 1},
    }  # fmt: skip


def run_arm(arm: str, seed: int, rounds: int, workspace: Path) -> dict[str, Any]:
    root, model, tasks = place_of(arm, workspace)
    began = time.perf_counter()
    params = load(parameters(arm, seed, rounds), root)
    rewards: list[float] = []
    policy = model / "policy" if arm == "policy 0" else train_arm(
        params, root, model, tasks, lambda report: rewards.append(report.reward))  # fmt: skip
    found = metrics(sample(params, policy, tasks, root / "samples"), params)
    shutil.rmtree(root)
    return {
        "arm": arm, "seed": seed, "rounds": rounds, "measured": found, "reward": rewards, "seconds": time.perf_counter() - began,
    }  # fmt: skip


def tables(found: Results, rounds: int) -> dict[str, str]:
    f1, precision, recall = value("solve_f1"), value("solve_p_strict"), value("solve_r")
    calls, answered = value("solve_calls"), value("pass@1")
    seeds = ", ".join(map(str, sorted({seed for _, seed in found})))
    head = (
        f"{rounds} rounds of {TASKS_PER_ROUND} episodes, {GROUP} turns from each state that they reach, one optimizer step a round, "
        f"learning rate {LEARNING_RATE:g}; seeds {seeds}. Held-out tasks, whole episodes. Means with 95 % t intervals over seeds; "
        "differences (Δ) are paired by seed. `python -m benchmarks.claims_tools`.\n"
    )
    listed = claims(found, [
        ("GRPO raises Solve-F1 over policy 0", "GRPO", "policy 0", f1, 1),
        ("REINFORCE++ raises Solve-F1 over policy 0", "REINFORCE++", "policy 0", f1, 1),
        *(
            (f"{arm} raises Solve-F1 in {name.replace('_', ' ')}", arm, "policy 0", value(f"solve_f1:{name}"), 1)
            for arm in ("GRPO", "REINFORCE++") for name in SCENARIOS
        ),
        ("GRPO raises Solve-F1 out of distribution", "GRPO", "policy 0", value("solve_f1", "ood"), 1),
        ("Solve-P as reward: precision above the F1 reward's", "Solve-P as reward", "GRPO", precision, 1),
        ("Solve-R as reward: recall above the F1 reward's", "Solve-R as reward", "GRPO", recall, 1),
        ("Solve-P as reward: recall below the F1 reward's", "Solve-P as reward", "GRPO", recall, -1),
        ("Solve-R as reward: precision below the F1 reward's", "Solve-R as reward", "GRPO", precision, -1),
        ("Solve-R as reward: more calls than under the F1 reward", "Solve-R as reward", "GRPO", calls, 1),
        ("Solve-P as reward: Solve-F1 below the F1 reward's", "Solve-P as reward", "GRPO", f1, -1),
        ("Solve-R as reward: Solve-F1 below the F1 reward's", "Solve-R as reward", "GRPO", f1, -1),
        ("the product: Solve-F1 below the F1 reward's", "Solve-P x Solve-R", "GRPO", f1, -1),
    ])  # fmt: skip
    main = {
        "Solve-F1": f1, "Δ Solve-F1": f1, "Solve-P": value("solve_p"), "strict P": precision, "Solve-R": recall, "answered": answered,
        "Δ answered": answered, "calls": calls, "turns": value("solve_turns"), "cut": value("truncated_share"),
    }  # fmt: skip
    scenarios = {name.replace("_", " "): value(f"solve_f1:{name}") for name in SCENARIOS}
    out = {
        "Solve-F1": value("solve_f1", "ood"), "Δ Solve-F1": value("solve_f1", "ood"), "strict P": value("solve_p_strict", "ood"),
        "Solve-R": value("solve_r", "ood"), "answered": value("pass@1", "ood"),
    }  # fmt: skip
    text = [
        head, *listed, "Δ: minus policy 0. cut: share of episodes that end since a turn was cut at sampling.max_tokens, after which none "
        "can follow; a reward for many calls in one turn leads there.", "",
        *table(found, NAMES, main, "policy 0"), "", "Solve-F1 by scenario.", "", *table(found, NAMES, scenarios, "policy 0"), "",
        "Out of distribution: relations and tool names that no training task has, and more distractors.", "",
        *table(found, NAMES, out, "policy 0"),
    ]  # fmt: skip
    return {"tools": "\n".join(text) + "\n"}


def shown(row: dict[str, Any]) -> str:
    numbers = {name: round(value(name)(row), 3) for name in ("solve_f1", "solve_p_strict", "solve_r", "pass@1", "solve_calls")}
    return f"{json.dumps(numbers)} {row['seconds']:.0f} s"


STUDY = Study("claims_tools", NAMES, ROUNDS, parameters, run_arm, tables, shown)

if __name__ == "__main__":
    STUDY.main(__doc__)
