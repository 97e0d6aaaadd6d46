"""Claims of VSRM, measured with a small language model that overthinks: do rewards of single steps make its answers shorter at equal
accuracy, and does the passing back of later changes matter?

    python -m benchmarks.claims_stepwise --seeds 0 1 2     # fused; minutes an arm and seed
    python -m benchmarks.claims_stepwise --tables          # only write the table of what there is

Judged by rules fixed before: the policy after the last round on held-out tasks, 8 samples each. What a re-check does is read by the
environment's oracle, which knows nothing of continuations.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arms import Metrics, curves, metrics, place_of, sample, train_arm, value
from benchmarks.study import Results, Study, Value, claims, load, table

TASKS_PER_ROUND, GROUP, ROUNDS, PENALTY = 64, 4, 40, 0.5
ARMS: dict[str, dict[str, Any]] = {
    "VSRM": {"method": "vsrm"},
    "outcome": {"method": "outcome"},
    "outcome + length penalty": {"method": "outcome", "rewards": {"length_penalty": PENALTY}},
    "VSRM, no propagation": {"method": "vsrm", "stepwise": {"gamma": 0.0}},
    "VSRM + length penalty": {"method": "vsrm", "rewards": {"length_penalty": PENALTY}},
    "VSRM, at the start": {"method": "vsrm", "stepwise": {"place": "start"}},
    "VSRM-PPO": {"method": "vsrm_ppo"},
    "outcome, PPO": {"method": "vsrm_ppo", "stepwise": {"continuations": 0}},
}
NAMES = (*ARMS, "policy 0")
EFFECTS = ("helpful", "ineffective", "harmful")


def parameters(arm: str, seed: int, rounds: int) -> dict[str, Any]:
    options = ARMS.get(arm, ARMS["outcome"])
    return {
        "method": options["method"], "scale": "tiny", "environment": "overthinking", "seed": seed,
        "iterations": [{"k": 0, "next": 1}], "last_policy": 1,
        "sampling": {"group_size": GROUP},
        "stepwise": options.get("stepwise", {}), "rewards": options.get("rewards", {}),
        "training": {"learning_rate": 1.0e-3, "grpo": {"report_to": "none"}},
        "fused": {"rounds": rounds, "tasks_per_round": TASKS_PER_ROUND, "steps_per_round": 1},
    }  # fmt: skip


ORACLE = {
    "helpful re-checks": "rechecks_helpful", "harmful re-checks": "rechecks_harmful", "re-checks": "rechecks",
    "complete": "think_block_share", "overthinking": "overthinking_rate",
}  # fmt: skip
"""Name in the results -> metric of `evaluations`."""


def measured(params: Any, model: Path, tasks: Path, out: Path) -> Metrics:
    """Those of evaluation, what the oracle reads of the traces among them."""
    found = metrics(sample(params, model, tasks, out), params)
    for own in found.values():
        own |= {name: own.get(metric) for name, metric in ORACLE.items()}
    return found


def run_arm(arm: str, seed: int, rounds: int, workspace: Path) -> dict[str, Any]:
    from assay.trajectories import read_table

    root, model, tasks = place_of(arm, workspace)
    began = time.perf_counter()
    params = load(parameters(arm, seed, rounds), root)
    if arm == "policy 0":
        return {"arm": arm, "seed": seed, "rounds": rounds, "measured": measured(params, model / "policy", tasks, root / "samples")}
    seconds: list[dict[str, float]] = []
    policy = train_arm(params, root, model, tasks, lambda report: seconds.append(dict(report.seconds)))
    found = measured(params, policy, tasks, root / "samples")
    steps = read_table("steps", root / "tables").to_pandas()
    traces = {
        effect: [float(np.mean(own["effect"] == effect)) for _, own in steps.groupby("round")] for effect in EFFECTS
    } if len(steps) else {}  # fmt: skip
    trained = curves(root / "tables")
    shutil.rmtree(root)
    parts = {part: float(np.mean([round_.get(part, 0.0) for round_ in seconds[1:]])) for part in seconds[-1]}
    return {
        "arm": arm, "seed": seed, "rounds": rounds, "measured": found, "steps": traces, "parts": parts,
        "curves": trained, "seconds": time.perf_counter() - began,
    }  # fmt: skip


def further(row: dict[str, Any]) -> float:
    """Share of a round's time that is spent on continuations."""
    parts = row.get("parts")
    return parts.get("sample further", 0.0) / sum(parts.values()) if parts else float("nan")


def over_rounds(name: str) -> Value:
    """Mean over all rounds of what the trained solutions show: how early it changes."""

    def of(row: dict[str, Any]) -> float:
        return float(np.mean(row["curves"][name])) if "curves" in row else float("nan")

    return of


def tables(found: Results, rounds: int) -> dict[str, str]:
    first, length, idle = value("pass@1"), value("length_mean"), value("overthinking")
    head = (
        f"{rounds} rounds of {TASKS_PER_ROUND} tasks x {GROUP} solutions, REINFORCE++ where nothing is said, one optimizer step a round; "
        f"seeds {', '.join(map(str, sorted({seed for _, seed in found})))}; the length penalty takes {PENALTY} at max_tokens. Held-out "
        "tasks, 8 samples each. Means with 95 % t intervals over seeds; differences (Δ) are paired by seed. "
        "`python -m benchmarks.claims_stepwise`.\n"
    )
    listed = claims(found, [
        ("VSRM is shorter than outcome alone (tokens)", "VSRM", "outcome", length, -1),
        ("VSRM is as accurate as outcome alone (pass@1)", "VSRM", "outcome", first, 0),
        ("VSRM becomes short earlier (tokens, mean of rounds)", "VSRM", "outcome", over_rounds("tokens"), -1),
        ("VSRM becomes accurate no later (share right, mean of rounds)", "VSRM", "outcome", over_rounds("right"), 0),
        ("VSRM-PPO is shorter than PPO on outcomes (tokens)", "VSRM-PPO", "outcome, PPO", length, -1),
        ("without propagation VSRM is less accurate", "VSRM, no propagation", "VSRM", first, -1),
        ("a smaller share of re-checks is idle or harmful under VSRM", "VSRM", "outcome", idle, -1),
        ("a length penalty on top brings no accuracy", "VSRM + length penalty", "VSRM", first, 0),
        ("pass@8 is kept", "VSRM", "outcome", value("pass@8"), 0),
    ])  # fmt: skip
    columns = {
        "pass@1": first, "Δ pass@1": first, "tokens": length, "Δ tokens": length, "pass@8": value("pass@8"),
        "re-checks": value("re-checks"), "of them idle or harmful": idle, "think block": value("complete"),
        "share of time in continuations": further,
    }  # fmt: skip
    early = {
        "tokens, mean of rounds": over_rounds("tokens"), "Δ tokens": over_rounds("tokens"), "share right, mean of rounds":
        over_rounds("right"), "Δ share right": over_rounds("right"),
    }  # fmt: skip
    out = {
        "pass@1, ood": value("pass@1", "ood"), "tokens, ood": value("length_mean", "ood"), "re-checks, ood": value("re-checks", "ood"),
        "helpful re-checks": value("helpful re-checks"), "harmful re-checks": value("harmful re-checks"),
    }  # fmt: skip
    parts = [table(found, NAMES, part, "outcome") for part in (columns, early, out)]
    text = [head, *listed, "Δ: minus outcome.", *(line for part in parts for line in ("", *part))]
    return {"stepwise": "\n".join(text) + "\n"}


def shown(row: dict[str, Any]) -> str:
    parts = json.dumps({name: round(seconds, 2) for name, seconds in row.get("parts", {}).items()})
    return f"pass@1 {value('pass@1')(row):.3f}  tokens {value('length_mean')(row):.1f}  {row.get('seconds', 0):.0f} s {parts}"


STUDY = Study("claims_stepwise", NAMES, ROUNDS, parameters, run_arm, tables, shown)

if __name__ == "__main__":
    STUDY.main(__doc__)
