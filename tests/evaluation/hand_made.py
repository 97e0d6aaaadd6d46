"""Tables written by hand: each sample is given by its task and by what each role says of it."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from assay.trajectories import to_table

VERDICT = {"+": "correct", "-": "wrong", "?": "abstain", "n": "abstain"}


def tasks_table(tasks: Mapping[str, tuple[str, str]]) -> pa.Table:
    """Task id -> (environment, split)."""
    rows = [
        {"task_id": name, "environment": environment, "split": split, "prompt": [{"role": "user", "content": name}]}
        | {"gold": "1", "verifier": "string_match", "meta": "{}", "difficulty": None}
        for name, (environment, split) in tasks.items()
    ]
    return to_table("tasks", rows)


def sample_tables(samples: Sequence[tuple[int, str, dict[str, str]]], **changes) -> tuple[pa.Table, pa.Table]:
    """Trajectories and verdicts of (iteration, task, {role: "+", "-", "?" abstain or "n" not applicable})."""
    trajectories, verdicts = [], []
    for index, (iteration, task, roles) in enumerate(samples):
        keys = {"trajectory_id": f"t{index}", "iteration": iteration, "round": 0}
        sampling = {
            "temperature": 1.0,
            "top_p": 1.0,
            "max_tokens": 4,
            "seed": 0,
            "engine": "vllm",
            "engine_version": "0",
        }
        row = {
            **keys,
            "policy": str(iteration),
            "task_id": task,
            "group_id": task,
            "sample_index": index,
            "kind": "evaluation",
            "parent_id": None,
            "prompt_ids": [1],
            "completion_ids": [5, 6, 0],
            "loss_mask": [True, True, True],
            "sampled_logprobs": [-0.5, -1.0, -1.5],
            "finish_reason": "stop",
            "text": "1",
            "sampling": sampling,
        }
        trajectories.append(row | changes)
        for role, sign in roles.items():
            reason = "not_applicable" if sign == "n" else "timeout" if sign == "?" else "equal"
            score = {"+": 1.0, "-": 0.0}.get(sign)
            verdicts.append(
                {
                    **keys,
                    "verifier": role,
                    "verifier_version": "1",
                    "role": role,
                    "verdict": VERDICT[sign],
                    "reason": reason,
                }
                | {"score": score, "answer": "1", "answer_format": "integer", "components": None, "appealed": False}
                | {"upheld": None, "flipped": False, "observed_reward": score if role == "rule" else None}
            )
    return to_table("trajectories", trajectories), to_table("verdicts", verdicts)


def values(evaluations: pa.Table, **where) -> dict[str, tuple[float | None, int]]:
    """Metric -> (value, n) of the rows that match."""
    rows = [row for row in evaluations.to_pylist() if all(row[key] == value for key, value in where.items())]
    return {row["metric"]: (row["value"], row["n"]) for row in rows}
