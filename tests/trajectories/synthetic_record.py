"""A small run, invented but consistent: what the stages would write. Used by the tests of this room."""

import json
import random
from math import log
from pathlib import Path
from statistics import pvariance

from derived_rows import derived, token_streams

from assay.trajectories import content_hash, write_shard

ENVIRONMENTS = ("rational", "chain_sum")
GROUP = 4
SPLITS = {"train": 6, "eval": 5, "ood": 3}
APPEAL, AUDIT = 0.5, 0.3
"""Probabilities that a rejected answer is appealed, and an accepted one audited."""
FLIP = {True: 0.25, False: 0.1}
"""Rates of injected noise, by whether the rule accepts."""
DETERMINANT = 0.65
PLAUSIBLE, RARE = 0.4, 0.6
"""Probabilities above which a token is in the proxy's support, and below which it is rare."""
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 16, "engine": "vllm", "engine_version": "0.32.0"}


def tasks(seed: int = 0) -> list[dict]:
    draw = random.Random(f"tasks {seed}")
    rows = []
    for environment in ENVIRONMENTS:
        for split, number in SPLITS.items():
            for index in range(number):
                question = f"{environment} {split} {index}: {draw.randint(1, 99)} / {draw.randint(2, 9)} = ?"
                gold = f"{draw.randint(1, 9)}/{draw.randint(2, 9)}"
                rows.append({
                    "task_id": content_hash(environment, question, gold), "environment": environment, "split": split,
                    "prompt": [{"role": "user", "content": question}], "gold": gold, "verifier": "string_match",
                    "meta": json.dumps({"oracle": "fraction"} if environment == "rational" else {}),
                    "difficulty": float(index),
                })  # fmt: skip
    return rows


def trajectories(task_rows: list[dict], k: int, kinds: tuple[str, ...], seed: int = 0) -> list[dict]:
    rows = []
    for task in task_rows:
        kind = "solution" if task["split"] == "train" else "evaluation"
        if kind not in kinds:
            continue
        for index in range(GROUP):
            draw = random.Random(f"{seed} {k} {task['task_id']} {index}")
            ids = [draw.randrange(5, 500) for _ in range(draw.randint(2, 15))] + [2]
            # Later policies are better, but one task that was solved is lost again, and the hardest is never solved.
            chance = 0.3 + 0.25 * k if task["difficulty"] else 0.9 - 0.4 * k
            chance = 0.0 if task["difficulty"] == SPLITS[task["split"]] - 1 else chance
            answer = task["gold"] if draw.random() < chance else f"{draw.randint(10, 99)}"
            if answer == task["gold"] and draw.random() < 0.4:
                over, under = task["gold"].split("/")
                answer = f"{2 * int(over)}/{2 * int(under)}"
            rows.append({
                "trajectory_id": content_hash(k, kind, task["task_id"], index, seed, *ids),
                "iteration": k, "round": 0, "policy": str(k), "task_id": task["task_id"],
                "group_id": content_hash(k, kind, task["task_id"]), "sample_index": index, "kind": kind, "parent_id": None,
                "prompt_ids": [1, 3, 4], "completion_ids": ids, "loss_mask": [True] * len(ids),
                "sampled_logprobs": [-draw.random() for _ in ids],
                "finish_reason": "length" if draw.random() < 0.1 else "stop", "text": answer,
                "sampling": SAMPLING | {"seed": draw.randrange(2**31)},
            })  # fmt: skip
    return rows


def verdicts(task_rows: list[dict], rows: list[dict], version: str = "1") -> list[dict]:
    by_id = {task["task_id"]: task for task in task_rows}
    found = []
    for row in rows:
        draw = random.Random(f"verdict {row['trajectory_id']}")
        gold = by_id[row["task_id"]]["gold"]
        equal = value(row["text"]) == value(gold)
        exact = row["text"] == gold if version == "1" else equal
        roles = {"rule": ("string_match", exact), "reference": ("math_verify", equal)}
        if by_id[row["task_id"]]["environment"] == "rational":
            roles["oracle"] = ("fraction", equal)
        crashed = draw.random() < 0.05
        seen = _observed(row, exact, equal) if row["kind"] == "solution" and not crashed else {}
        if seen.get("appealed") or seen.get("audited"):
            roles["judge"] = ("tiny-judge", equal)
        for role, (verifier, right) in roles.items():
            abstains = (crashed and role == "rule") or (role == "judge" and seen["upheld"] is None)
            verdict = "abstain" if abstains else "correct" if right else "wrong"
            score = None if abstains else float(right)
            found.append({
                "trajectory_id": row["trajectory_id"], "iteration": row["iteration"], "round": 0, "verifier": verifier,
                "verifier_version": version, "role": role, "verdict": verdict,
                "reason": draw.choice(["timeout", "memory"]) if abstains else "equal" if right else "different",
                "score": score, "answer": row["text"], "answer_format": "fraction" if "/" in row["text"] else "integer",
                "components": None, "appealed": False, "audited": False, "upheld": None, "flipped": False,
                "observed_reward": score if role == "rule" else None, **(seen if role == "rule" else {}),
            })  # fmt: skip
    return found


def _observed(row: dict, exact: bool, equal: bool) -> dict:
    """What noise, appeals and audits make of a verdict; the judge is never wrong, but silent now and then."""
    draw = random.Random(f"noise {row['trajectory_id']}")
    noise, appeal, silent = draw.random(), draw.random(), draw.random() < 0.1
    flipped = noise < FLIP[exact]
    passed = exact != flipped
    appealed, audited = not passed and appeal < APPEAL, passed and appeal < AUDIT
    return {
        "appealed": appealed, "audited": audited, "flipped": flipped,
        "upheld": None if silent or not (appealed or audited) else equal,
        "noise_draw": noise, "appeal_draw": appeal, "observed_reward": float(passed),
    }  # fmt: skip


def value(text: str) -> float:
    over, _, under = text.partition("/")
    return float(over) / float(under or 1)


def batch(rows: list[dict], verdict_rows: list[dict], steps: int = 2, step_rows: list[dict] | None = None) -> list[dict]:
    """step_rows: table `steps`; with it, rows have rewards, values and returns of tokens."""
    rewards = {row["trajectory_id"]: row["observed_reward"] for row in verdict_rows if row["role"] == "rule"}
    groups: dict[str, list[dict]] = {}
    for row in rows:
        if row["kind"] in ("solution", "critique"):
            groups.setdefault(row["group_id"], []).append(row)
    found = []
    by_trace: dict[str, list[dict]] = {}
    for step in step_rows or ():
        by_trace.setdefault(step["trajectory_id"], []).append(step)
    for number, (group, members) in enumerate(groups.items()):
        known = [rewards[m["trajectory_id"]] for m in members if rewards[m["trajectory_id"]] is not None]
        mean = sum(known) / max(len(known), 1)
        flat = len(set(known)) < 2
        for member in members:
            reward = rewards[member["trajectory_id"]]
            reason = "abstained" if reward is None else "zero_variance" if flat else None
            kept = reason is None
            streams = ("prompt_ids", "completion_ids", "loss_mask", "sampled_logprobs")
            found.append({
                "trajectory_id": member["trajectory_id"], "iteration": member["iteration"], "round": 0, "group_id": group,
                "kept": kept, "drop_reason": reason, "reward": reward,
                "advantage": None if reward is None else (reward - mean) / DETERMINANT,
                "control_advantage": None if reward is None else reward - mean,
                "step": number % steps if kept else None, **{name: member[name] if kept else [] for name in streams},
                "reference_logprobs": None, "token_advantages": None, "rehearsal": False,
                **(token_streams(member, reward, by_trace.get(member["trajectory_id"], [])) if kept and step_rows is not None else {}),
            })  # fmt: skip
    return found


def rehearsed(batch_rows: list[dict]) -> list[dict]:
    """One stored answer, rehearsed twice: neither offered nor rewarded."""
    first = next(row for row in batch_rows if row["kept"])
    return [first | {"rehearsal": True, "reward": None, "advantage": None, "control_advantage": None}] * 2


def token_statistics(batch_rows: list[dict]) -> list[dict]:
    found = []
    for row in batch_rows:
        if row["kept"]:
            draw = random.Random(f"tokens {row['trajectory_id']}")
            shifted = [value + draw.gauss(0, 1e-3) for value in row["sampled_logprobs"]]
            entropies = [draw.random() / (1 + position) for position in range(len(shifted))]
            keys = ("trajectory_id", "iteration", "round")
            kept = [value > log(PLAUSIBLE) for value in shifted]
            rare = [value < log(RARE) and row["advantage"] < 0 for value in shifted]
            found.append({
                **{key: row[key] for key in keys}, "logprobs": shifted, "entropies": entropies, "kept": kept,
                "protected": [a and b for a, b in zip(kept, rare, strict=True)], "selected": [value >= 0.2 for value in entropies],
            })  # fmt: skip
    return found


def splits(task_rows: list[dict]) -> list[dict]:
    """Train tasks by 8 presamples: from 6 right ones a further one decides."""
    found = []
    for task in task_rows:
        if task["split"] == "train":
            draw = random.Random(f"presample {task['task_id']}")
            solved = sum(draw.random() < 0.8 for _ in range(8))
            recheck = draw.random() < 0.8 if solved >= 6 else None
            keys = {"task_id": task["task_id"], "environment": task["environment"]}
            found.append({**keys, "samples": 8, "solved": solved, "recheck": recheck, "subset": "near_perfect" if recheck else "explore"})
    return found


def updates(batch_rows: list[dict], k: int, steps: int = 2) -> list[dict]:
    draw = random.Random(f"updates {k}")
    numbers = (
        "learning_rate", "loss", "policy_loss", "divergence", "entropy", "clip_low_share", "clip_high_share", "gradient_norm",
        "mismatch_mean", "mismatch_max", "advantage_mean", "advantage_std",
    )  # fmt: skip
    found = []
    for step in range(steps):
        used = [row for row in batch_rows if row["step"] == step]
        differences = [abs(row["advantage"] - row["control_advantage"]) for row in used for _ in row["completion_ids"]]
        found.append({
            "iteration": k, "round": 0, "step": step, "global_step": k * steps + step, "rows": len(used),
            "tokens": sum(len(row["completion_ids"]) for row in used), **{name: draw.random() / 10 for name in numbers},
            "audit_mean_difference": sum(differences) / len(differences) if differences else None,
            "audit_max_difference": max(differences, default=None), "audit_cosine": 1.0 if differences else None,
            **_explored(used), **_critic(used),
        })  # fmt: skip
    return found


def _critic(used: list[dict]) -> dict:
    """Of the rows that have values and returns."""
    pairs = [pair for row in used if row.get("token_values") for pair in zip(row["token_values"], row["token_returns"], strict=True)]
    if not pairs:
        return {}
    errors = [returned - value for value, returned in pairs]
    returns = [returned for _, returned in pairs]
    return {
        "value_loss": sum(error**2 for error in errors) / len(errors) / 2, "value_clip_share": 0.0, "critic_gradient_norm": 1.0,
        "value_mean": sum(value for value, _ in pairs) / len(pairs), "return_mean": sum(returns) / len(returns),
        "explained_variance": 1 - pvariance(errors) / pvariance(returns),
    }  # fmt: skip


def _explored(used: list[dict]) -> dict:
    """Sums and counts of Lp-Reg, of the 80/20 rule and of a rehearsal, as far as the tokens of the step have them."""
    tokens = [(row, *pair) for row, own in zip(used, token_statistics(used), strict=True)
              for pair in zip(own["logprobs"], own["protected"], own["selected"], own["entropies"], strict=True)]  # fmt: skip
    chosen = [entropy for *_, selected, entropy in tokens if selected]
    held = sum(protected for _, _, protected, *_ in tokens)
    return {
        "low_probability_threshold": RARE, "protected_count": held, "protected_sum": 0.1 * held,
        "candidate_count": sum(logprob < log(RARE) and row["advantage"] < 0 for row, logprob, *_ in tokens),
        "policy_sum": 0.3 * len(chosen), "policy_count": len(chosen), "policy_token_sum": 0.3 * len(chosen),
        "selected_tokens": len(chosen), "entropy_threshold": 0.2,
        "selected_share": len(chosen) / len(tokens) if tokens else None,
        "selected_entropy": sum(chosen) / len(chosen) if chosen else None,
        "rehearsal_tokens": 50.0, "rehearsal_sum": 5.0, "rehearsal_rows": 10.0, "rehearsal_row_sum": 1.5, "rehearsal_beyond": 0.0,
    }  # fmt: skip


def noise_estimates(task_rows: list[dict], rows: list[dict], verdict_rows: list[dict], k: int) -> list[dict]:
    """From appeals: each that the judge upholds counts 1 / APPEAL times."""
    by_id = {task["task_id"]: task["environment"] for task in task_rows}
    own = {row["trajectory_id"]: by_id[row["task_id"]] for row in rows if row["kind"] == "solution"}
    right = {row["trajectory_id"]: row["verdict"] == "correct" for row in verdict_rows if row["role"] == "reference"}
    found = []
    for environment in ENVIRONMENTS:
        decided = [
            row for row in verdict_rows
            if row["role"] == "rule" and row["verdict"] != "abstain" and own.get(row["trajectory_id"]) == environment
        ]  # fmt: skip
        positives = [row for row in decided if row["observed_reward"] == 1]
        negatives = [row for row in decided if row["observed_reward"] == 0]
        asked = [row for row in decided if (row["appealed"] or row["audited"])]
        examined = [row["upheld"] for row in negatives if row["appealed"] and row["upheld"] is not None]
        looked = [row["upheld"] for row in positives if row["audited"] and row["upheld"] is not None]
        estimate = examined.count(True) / APPEAL
        missed, good = sum(right[row["trajectory_id"]] for row in negatives), sum(right[row["trajectory_id"]] for row in decided)
        rate = estimate / (estimate + len(positives)) if estimate + len(positives) else None
        refused = looked.count(False) / len(looked) if looked else 0.0
        known = environment == "rational"
        found.append({
            "iteration": k, "round": 0, "environment": environment, "verifier": "string_match", "against": "judge",
            "n": len(examined) + len(looked), "rule_positives": len(positives), "rule_negatives": len(negatives),
            "examined_negatives": len(examined), "upheld_negatives": examined.count(True), "false_negatives": estimate,
            "false_negative_rate": rate, "false_negative_low": None if rate is None else max(rate - 0.2, 0.0),
            "false_negative_high": None if rate is None else min(rate + 0.2, 1.0),
            "smoothed_rate": 0.3 if rate is None else 0.9 * 0.3 + 0.1 * rate, "carried_rate": 0.3,
            "false_positive_rate": refused, "false_positive_source": "audit", "smoothed_false_positive_rate": refused,
            "appeal_probability": APPEAL, "examined_positives": len(looked), "refused_positives": looked.count(False),
            "judge": "tiny-judge", "judge_calls": len(asked), "judge_tokens": 50 * len(asked),
            "judge_abstentions": len(asked) - len(examined) - len(looked), "enough": True,
            "warning": "away from the average" if known and k else None,
            "true_false_negative_rate": missed / good if known and good else None,
        })  # fmt: skip
    return found


def evaluations(task_rows: list[dict], sampled: dict[int, list[dict]], judged: dict[int, list[dict]]) -> list[dict]:
    by_id = {task["task_id"]: task for task in task_rows}
    found = []
    for k, rows in sampled.items():
        right = {row["trajectory_id"]: row["verdict"] == "correct" for row in judged[k] if row["role"] == "reference"}
        rule = {row["trajectory_id"]: row["verdict"] == "correct" for row in judged[k] if row["role"] == "rule"}
        for environment in ENVIRONMENTS:
            for split in ("eval", "ood"):
                own = [r for r in rows if r["kind"] == "evaluation" and by_id[r["task_id"]]["split"] == split]
                own = [row for row in own if by_id[row["task_id"]]["environment"] == environment]
                for metric, verdict in (("pass@1", right), ("accuracy_rule", rule)):
                    value = sum(verdict[row["trajectory_id"]] for row in own) / len(own)
                    found.append({
                        "iteration": k, "environment": environment, "split": split, "metric": metric, "value": value,
                        "low": max(value - 0.1, 0.0), "high": min(value + 0.1, 1.0), "n": SPLITS[split],
                    })  # fmt: skip
    return found


def write_run(folder: Path, iterations: int, *, verifier_version: str = "1", seed: int = 0, reasoning: bool = False) -> None:
    """Everything that the stages would write, below `folder`: tasks/, rollout/K/, verify/K/, ..., models/K/. reasoning: with critiques,
    steps and their continuations, and a critic."""
    task_rows = tasks(seed)
    write_shard(folder / "tasks" / "tasks.parquet", "tasks", task_rows)
    write_shard(folder / "tasks" / "splits.parquet", "splits", splits(task_rows))
    sampled: dict[int, list[dict]] = {}
    judged: dict[int, list[dict]] = {}
    for k in range(iterations + 1):
        last = k == iterations
        rows = sampled[k] = trajectories(task_rows, k, ("evaluation",) if last else ("solution", "evaluation"), seed)
        found = judged[k] = verdicts(task_rows, rows, verifier_version)
        more, said, states, steps = derived(task_rows, rows, found, verifier_version) if reasoning else ([], [], [], [])
        model = folder / "models" / str(k) / "policy"
        model.mkdir(parents=True, exist_ok=True)
        (model / "model.safetensors").write_text(f"weights {seed} {k} {verifier_version if k else ''}")
        if last:
            write_shard(folder / "finish" / "trajectories-0000.parquet", "trajectories", rows + more)
            write_shard(folder / "finish" / "verdicts.parquet", "verdicts", found + said)
            continue
        half = len(rows) // 2
        for number, part in enumerate((rows[:half], rows[half:] + more)):
            write_shard(folder / "rollout" / str(k) / f"trajectories-{number:04d}.parquet", "trajectories", part)
        write_shard(folder / "verify" / str(k) / "verdicts.parquet", "verdicts", found + said)
        if reasoning:
            write_shard(folder / "rollout" / str(k) / "states.parquet", "states", states)
            write_shard(folder / "verify" / str(k) / "steps.parquet", "steps", steps)
        noise = noise_estimates(task_rows, rows, found, k)
        write_shard(folder / "verify" / str(k) / "noise_estimates.parquet", "noise_estimates", noise)
        offered = batch(rows + more, found + said, step_rows=steps if reasoning else None)
        write_shard(folder / "filter" / str(k) / "batches.parquet", "batches", offered + rehearsed(offered))
        write_shard(folder / "update" / str(k) / "updates.parquet", "updates", updates(offered, k))
        tokens = token_statistics(offered)
        write_shard(folder / "update" / str(k) / "token_statistics.parquet", "token_statistics", tokens)
    shown = evaluations(task_rows, sampled, judged)
    write_shard(folder / "evaluate" / "evaluations.parquet", "evaluations", shown)
