"""Metrics of self-verification from stored critiques: what is counted, against which truth, and what a vote makes of it."""

import json

import pytest

from assay.evaluation.critiques import critique_metrics, judged_samples
from assay.trajectories import schema, to_table

LEVELS = (1.0, -0.5, -1.0)


def record(samples):
    """samples: (task, answer, rule right, oracle right or None, what critiques say). Levels as RISE has them."""
    rows, said = [], []
    empty_row, empty_verdict = dict.fromkeys(schema("trajectories").names), dict.fromkeys(schema("verdicts").names)

    def trajectory(name, task, kind, parent, index):
        rows.append(empty_row | {
            "trajectory_id": name, "iteration": 1, "round": 0, "policy": "1", "task_id": task, "group_id": task, "sample_index": index,
            "kind": kind, "parent_id": parent, "prompt_ids": [1], "completion_ids": [2], "loss_mask": [True], "sampled_logprobs": [-1.0],
            "finish_reason": "stop", "text": "", "sampling": {
                "temperature": 1.0, "top_p": 1.0, "max_tokens": 9, "seed": 0, "engine": "e", "engine_version": "0"},
        })  # fmt: skip

    def verdict(name, role, right, answer=None, components=None):
        said.append(empty_verdict | {
            "trajectory_id": name, "iteration": 1, "round": 0, "verifier": "v", "verifier_version": "1", "role": role,
            "verdict": "correct" if right else "wrong", "reason": "equal", "answer": answer, "appealed": False, "flipped": False,
            "components": components,
        })  # fmt: skip

    for index, (task, answer, rule, oracle, says) in enumerate(samples):
        name = f"s{index}"
        trajectory(name, task, "evaluation", None, index)
        verdict(name, "rule", rule, answer)
        for number, level in enumerate(says):
            critique = f"{name}-c{number}"
            trajectory(critique, task, "evaluation_critique", name, number)
            for role, truth in (("rule", rule), ("oracle", oracle)):
                if truth is not None:
                    target = 1.0 if truth else -0.5
                    parts = {"target": target, "observed": float(rule), "says": level, "says_right": level == 1.0}
                    verdict(critique, role, level == target, None, json.dumps(parts))
    return to_table("trajectories", rows), to_table("verdicts", said)


def metrics(samples):
    return {name: estimate for name, estimate in critique_metrics(judged_samples(*record(samples)), LEVELS, 0.95)}


def test_a_critic_that_calls_everything_wrong_is_no_judge():
    """B6.12 of the methods: 20 % are right, binary accuracy is 80 %, balanced accuracy 50 %."""
    found = metrics([(f"t{n}", str(n), n < 2, None, [-0.5]) for n in range(10)])
    assert found["verification_accuracy"].value == pytest.approx(0.8) == found["verification_majority_accuracy"].value
    assert found["verification_balanced_accuracy"].value == pytest.approx(0.5)
    assert found["verification_recall"].value == 0 and found["verification_specificity"].value == 1
    assert found["verification_matthews"].value == 0 and found["verification_accuracy"].n == 10
    assert found["verification_accuracy"].low < 0.8 < found["verification_accuracy"].high


def test_the_oracle_is_the_truth_where_there_is_one():
    found = metrics([("a", "1", False, True, [1.0]), ("b", "2", True, False, [-0.5]), ("c", "3", False, None, [-0.5])])
    assert found["verification_accuracy"].value == 1.0 and found["verification_exact_accuracy"].value == 1.0


def test_silence_is_no_score_and_calls_nothing_right():
    found = metrics([("a", "1", True, None, [None]), ("b", "2", False, None, [None])])
    assert found["verification_unscored_share"].value == 1.0 and found["verification_accuracy"].value == 0.5
    assert found["verification_exact_accuracy"].value == 0.0


def test_votes_of_both_readings():
    """B1.6 of the methods: A with three votes, one of them called right, B with two, both called right."""
    says = [1.0, -0.5, -0.5]
    samples = [("t", "A", False, None, [said]) for said in says] + [("t", "B", True, None, [1.0])] * 2
    found = metrics(samples)
    assert found["vote_majority@5"].value == 0.0
    assert found["vote_weighted@5"].value == 1.0
    assert found["vote_weighted_constant@5"].value == 0.0


def test_nothing_judged_is_nothing():
    assert metrics([("a", "1", True, None, [])]) == {}
