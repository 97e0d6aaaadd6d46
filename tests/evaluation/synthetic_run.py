"""A small made-up run: every table that evaluate reads, with the verifier noise and the gains of a real one."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from reasoning import critic_columns, judged, stepped, thinking

from assay.evaluation import RunRecord
from assay.trajectories import TABLES, content_hash, read_table, schema, write_shard

END = 0


class ByteRenderer:
    """Token ids are bytes, 0 ends a completion: the smallest renderer with the two methods that the report uses."""

    def text(self, ids) -> str:
        return bytes(i for i in ids if i != END).decode("utf-8", errors="replace")

    def rendered(self, messages) -> str:
        return "".join(f"<|{m['role']}|>{m['content']}<|end|>" for m in messages) + "<|assistant|>"


@dataclass(frozen=True)
class Shape:
    """How large a synthetic run is, and what is odd about it."""

    iterations: int = 3
    eval_tasks: int = 40
    ood_tasks: int = 12
    samples: int = 8
    solve: tuple[float, ...] = (0.35, 0.45, 0.55, 0.6)
    oracle: bool = True
    seed: int = 0
    appeals: bool = False
    """Rule negatives are put before a judge, accepted answers audited; advantages are corrected."""
    rounds: int = 1
    """Noise estimates of an iteration, where there are appeals."""
    hostile: str | None = None
    """Text that replaces the first completion of every policy."""
    reasoning: bool = False
    """Solutions think in steps that are rewarded, evaluation samples are judged by their policy, and there is a critic."""


def make_tasks(shape: Shape, random: np.random.Generator) -> list[dict]:
    rows = []
    for split, count in (("eval", shape.eval_tasks), ("ood", shape.ood_tasks), ("train", shape.eval_tasks)):
        for index in range(count):
            environment = "chain_sum" if index % 4 == 3 else "rational"
            terms = 3 if split == "ood" else 2
            denominators = random.integers(2, 11, terms) if environment == "rational" else np.ones(terms, int)
            values = [Fraction(int(random.integers(1, 10)), int(d)) for d in denominators]
            prompt = [{"role": "user", "content": f"Compute {' + '.join(map(str, values))} ({split} {index})"}]
            gold = str(sum(values))
            rows.append(
                {
                    "task_id": content_hash(environment, prompt[0]["content"], gold),
                    "environment": environment,
                    "split": split,
                    "prompt": prompt,
                    "gold": gold,
                    "verifier": "string_match" if environment == "rational" else "reasoning_gym",
                    "meta": "{}",
                    "difficulty": float(max(v.denominator for v in values)),
                }
            )
    return rows


def completion(task: dict, right: bool, random: np.random.Generator) -> str:
    """An answer: right ones are sometimes written in another form, wrong ones are near misses."""
    gold = Fraction(task["gold"])
    if not right:
        return f"#### {gold + Fraction(1, int(random.integers(2, 9)))}"
    if task["environment"] == "rational" and random.random() < 0.3:
        return f"#### {2 * gold.numerator}/{2 * gold.denominator}"
    return f"#### {gold}"


def verdicts_of(trajectory: dict, task: dict, right: bool, shape: Shape, random: np.random.Generator) -> list[dict]:
    answer = trajectory["text"].rpartition("#### ")[2]
    base = {
        "components": None,
        "appealed": False,
        "upheld": None,
        "flipped": False,
        "answer": answer,
        "answer_format": "fraction" if "/" in answer else "integer",
    }
    keys = {name: trajectory[name] for name in ("trajectory_id", "iteration", "round")}
    timeout = random.random() < 0.01

    def row(role: str, verifier: str, accepted: bool | None, reason: str) -> dict:
        verdict = "abstain" if accepted is None else "correct" if accepted else "wrong"
        score = None if accepted is None else float(accepted)
        return (
            keys
            | base
            | {
                "role": role,
                "verifier": verifier,
                "verifier_version": "1",
                "verdict": verdict,
                "reason": reason,
                "score": score,
                "observed_reward": score if role == "rule" else None,
            }
        )

    same = answer == task["gold"]
    appeal = {}
    if shape.appeals and not timeout and trajectory["kind"] == "solution":
        drawn = int(content_hash("appeal", trajectory["trajectory_id"])[:8], 16) / 16**8
        asked = drawn < 0.3
        appeal = {
            "appealed": asked and not same, "audited": asked and same, "upheld": right if asked else None, "appeal_draw": drawn,
        }  # fmt: skip
    found = [
        row("rule", task["verifier"], None, "timeout")
        if timeout
        else row("rule", task["verifier"], same, "equal" if same else "different") | appeal
    ]
    found.append(row("reference", "math_verify", right, "equal" if right else "different"))
    if shape.oracle and task["environment"] == "rational":
        found.append(row("oracle", "fraction", right, "equal" if right else "different"))
    return found


def sampled(
    task: dict, iteration: int, index: int, kind: str, right: bool, shape: Shape, random: np.random.Generator
) -> dict:
    text = completion(task, right, random)
    truncated = random.random() < 0.04
    if shape.hostile is not None and index == 0 and kind == "evaluation":
        text = shape.hostile
    if shape.reasoning and text != shape.hostile:
        text = thinking(text, iteration, random, shape.hostile or "")
    ids = list(text.encode()) + ([] if truncated else [END])
    return {
        "trajectory_id": content_hash(iteration, kind, task["task_id"], index),
        "iteration": iteration,
        "round": 0,
        "policy": str(iteration),
        "task_id": task["task_id"],
        "group_id": content_hash(iteration, kind, task["task_id"]),
        "sample_index": index,
        "kind": kind,
        "parent_id": None,
        "prompt_ids": list(task["prompt"][0]["content"].encode()),
        "completion_ids": ids,
        "loss_mask": [True] * len(ids),
        "sampled_logprobs": (-random.exponential(0.9 / (iteration + 2), len(ids))).tolist(),
        "finish_reason": "length" if truncated else "stop",
        "text": text,
        "sampling": {
            "temperature": 1.0,
            "top_p": 1.0,
            "max_tokens": 16,
            "seed": 1,
            "engine": "vllm",
            "engine_version": "0.32.0",
        },
    }


def iteration_tables(
    tasks: list[dict], k: int, kinds: tuple[str, ...], shape: Shape, random: np.random.Generator
) -> tuple[list[dict], list[dict]]:
    trajectories, verdicts = [], []
    for task in tasks:
        kind = "solution" if task["split"] == "train" else "evaluation"
        if kind not in kinds:
            continue
        ease = float(np.clip(random.beta(2, 2) * 2 * shape.solve[k], 0, 1)) if shape.solve[k] else 0.0
        for index in range(shape.samples):
            right = bool(random.random() < ease)
            row = sampled(task, k, index, kind, right, shape, random)
            trajectories.append(row)
            verdicts += verdicts_of(row, task, right and row["text"] != shape.hostile, shape, random)
    return trajectories, verdicts


def batch_rows(trajectories: list[dict], verdicts: list[dict]) -> list[dict]:
    reward = {v["trajectory_id"]: v["observed_reward"] for v in verdicts if v["role"] == "rule"}
    rows = []
    for position, t in enumerate(row for row in trajectories if row["kind"] == "solution"):
        r = reward[t["trajectory_id"]]
        reason = "abstained" if r is None else "zero_variance" if position % 5 == 0 else None
        empty = {name: [] for name in ("prompt_ids", "completion_ids", "loss_mask", "sampled_logprobs")}
        rows.append(
            {
                "trajectory_id": t["trajectory_id"],
                "iteration": t["iteration"],
                "round": 0,
                "group_id": t["group_id"],
                "kept": reason is None,
                "drop_reason": reason,
                "reward": r,
                "advantage": None if r is None else r - 0.4,
                "step": None if reason else position % 4,
                "rehearsal": False,
                "reference_logprobs": None,
                "token_advantages": None,
                **empty,
            }
        )
    return rows


def update_rows(k: int, shape: Shape, random: np.random.Generator) -> list[dict]:
    return [
        {
            "audit_mean_difference": 0.4 + 0.01 * s if shape.appeals else None,
            "audit_max_difference": 0.8 if shape.appeals else None,
            "audit_cosine": 0.9 - 0.01 * k if shape.appeals else None,
            "iteration": k,
            "round": 0,
            "step": s,
            "global_step": 4 * k + s,
            "rows": 64,
            "tokens": 640,
            "learning_rate": 2e-4,
            "loss": 0.02 - 0.001 * s,
            "policy_loss": 0.02 - 0.001 * s,
            "divergence": 0.001 * (4 * k + s),
            "entropy": 0.9 - 0.04 * (4 * k + s),
            "clip_low_share": 0.01,
            "clip_high_share": 0.02 * float(random.random()),
            "gradient_norm": 0.4 + 0.2 * float(random.random()),
            "mismatch_mean": 2e-7,
            "mismatch_max": 3e-6,
            "advantage_mean": 0.0,
            "advantage_std": 0.9,
            **(critic_columns(4 * k + s) if shape.reasoning else {}),
        }
        for s in range(4)
    ]


def appeal_rows(k: int, shape: Shape) -> list[dict]:
    """Estimates as appeals give them: q = 0.3 of the rejected and of the accepted, before a judge that is never wrong. chain_sum
    has neither oracle nor audit, and its rate drifts at the end."""
    found, smoothed = [], {"rational": 0.3, "chain_sum": 0.1}
    for round_ in range(shape.rounds):
        random = np.random.default_rng([shape.seed, k, round_])
        for environment, verifier, rate in (("rational", "string_match", 0.3 + 0.04 * k), ("chain_sum", "reasoning_gym", 0.1)):
            audited = environment == "rational"
            right, wrong = 120, 130
            missed, accepted = int(random.binomial(right, rate)), int(random.binomial(wrong, 0.06 if audited else 0.0))
            negatives, positives = missed + wrong - accepted, right - missed + accepted
            upheld = int(random.hypergeometric(missed, negatives - missed, examined := round(0.3 * negatives)))
            refused = int(random.hypergeometric(accepted, positives - accepted, looked := round(0.3 * positives)))
            estimates = {}
            for kind, part, among in (("false_negative", upheld / 0.3, right), ("false_positive", refused / 0.3, wrong)):
                share, half = part / among, 1.96 * float(np.sqrt(max(part, 1) * 0.7 / 0.3)) / among
                estimates |= {f"{kind}_rate": share, f"{kind}_low": max(share - half, 0.0), f"{kind}_high": min(share + half, 1.0)}
            if not audited:
                estimates |= {"false_positive_rate": 0.0, "false_positive_low": None, "false_positive_high": None}
            carried = smoothed[environment]
            smoothed[environment] = 0.9 * carried + 0.1 * estimates["false_negative_rate"]
            drifts = not audited and (k, round_) == (shape.iterations - 1, shape.rounds - 1)
            row = dict.fromkeys(schema("noise_estimates").names) | estimates
            found.append(row | {
                "iteration": k, "round": round_, "environment": environment, "verifier": verifier, "against": "judge",
                "n": examined + looked if audited else examined, "rule_positives": positives, "rule_negatives": negatives,
                "examined_negatives": examined, "upheld_negatives": upheld, "false_negatives": upheld / 0.3,
                "smoothed_rate": smoothed[environment], "carried_rate": carried, "appeal_probability": 0.3,
                "false_positive_source": "audit" if audited else "assumed",
                "smoothed_false_positive_rate": 0.06 if audited else 0.0,
                "examined_positives": looked if audited else 0, "refused_positives": refused if audited else 0,
                "judge": "math_verify", "judge_calls": examined, "judge_tokens": 100 * examined, "judge_abstentions": 2,
                "enough": True, "warning": "the false-negative rate is <far> away from the average" if drifts else None,
                "true_false_negative_rate": missed / right if shape.oracle and audited else None,
                "true_false_positive_rate": accepted / wrong if shape.oracle and audited else None,
            })  # fmt: skip
    return found


def noise_rows(k: int, shape: Shape) -> list[dict]:
    if shape.appeals:
        return appeal_rows(k, shape)
    rate = 0.3 - 0.02 * k
    row = dict.fromkeys(schema("noise_estimates").names)
    row |= {
        "iteration": k,
        "round": 0,
        "environment": "rational",
        "verifier": "string_match",
        "against": "reference",
        "n": 240,
        "rule_positives": 80,
        "rule_negatives": 160,
        "examined_negatives": 160,
        "false_negatives": 34.0,
        "false_negative_rate": rate,
        "false_negative_low": rate - 0.05,
        "false_negative_high": rate + 0.06,
        "false_positive_rate": 0.0,
        "false_positive_low": 0.0,
        "false_positive_high": 0.02,
        "true_false_negative_rate": rate + 0.01 if shape.oracle else None,
    }
    return [row]


def reasoned(trajectories: list[dict], verdicts: list[dict], k: int, shape: Shape, folder: Path) -> tuple[list[dict], list[dict]]:
    """Critiques and continuations with their verdicts, where the shape has them; their tables are written."""
    if not shape.reasoning:
        return [], []
    random = np.random.default_rng([shape.seed, k, 6])
    critiques = judged([row for row in trajectories if row["kind"] == "evaluation"], verdicts, k, random)
    made, said, states, steps = stepped([row for row in trajectories if row["kind"] == "solution"], random)
    if k < shape.iterations:
        write_shard(folder / "rollout" / str(k) / "states.parquet", "states", states)
        write_shard(folder / "verify" / str(k) / "steps.parquet", "steps", steps)
    return critiques[0] + made, critiques[1] + said


def write_run(folder: Path, shape: Shape) -> None:
    """Write the shards of a run below `folder`, as its stages lay them out."""
    random = np.random.default_rng(shape.seed)
    tasks = make_tasks(shape, random)
    write_shard(folder / "tasks" / "tasks.parquet", "tasks", tasks)
    for k in range(shape.iterations):
        trajectories, verdicts = iteration_tables(tasks, k, ("solution", "evaluation"), shape, random)
        derived = reasoned(trajectories, verdicts, k, shape, folder)
        write_shard(folder / "rollout" / str(k) / "trajectories-0000.parquet", "trajectories", trajectories + derived[0])
        write_shard(folder / "verify" / str(k) / "verdicts.parquet", "verdicts", verdicts + derived[1])
        write_shard(folder / "verify" / str(k) / "noise_estimates.parquet", "noise_estimates", noise_rows(k, shape))
        batch = batch_rows(trajectories, verdicts)
        write_shard(folder / "filter" / str(k) / "batches.parquet", "batches", batch)
        write_shard(folder / "update" / str(k) / "updates.parquet", "updates", update_rows(k, shape, random))
        statistics = [
            {
                "trajectory_id": t["trajectory_id"],
                "iteration": k,
                "round": 0,
                "logprobs": t["sampled_logprobs"],
                "entropies": [0.8 - 0.1 * k] * len(t["completion_ids"]),
            }
            for t in trajectories
            if t["kind"] == "solution"
        ]
        write_shard(folder / "update" / str(k) / "token_statistics.parquet", "token_statistics", statistics)
    trajectories, verdicts = iteration_tables(tasks, shape.iterations, ("evaluation",), shape, random)
    more = reasoned(trajectories, verdicts, shape.iterations, shape, folder)
    trajectories, verdicts = trajectories + more[0], verdicts + more[1]
    write_shard(folder / "finish" / "trajectories-0000.parquet", "trajectories", trajectories)
    write_shard(folder / "finish" / "verdicts.parquet", "verdicts", verdicts)


def make_run(folder: Path, shape: Shape | None = None) -> RunRecord:
    """The run, read back from its shards."""
    shape = shape or Shape()
    write_run(folder, shape)
    absent = ("splits", "turns", "tool_calls", *(() if shape.reasoning else ("states", "steps")))
    names = [name for name in TABLES if name in RunRecord.__dataclass_fields__ and name not in absent]
    return RunRecord(**{name: read_table(name, folder) for name in names})
