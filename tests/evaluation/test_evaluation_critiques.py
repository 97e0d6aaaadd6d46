"""Metrics of self-verification from stored critiques: what is counted, against which truth, and what a vote makes of it."""

import json

import pytest
from hand_made import tasks_table, values

from assay.evaluation import evaluate
from assay.evaluation.critiques import critique_metrics, judged_samples
from assay.params.sampling import EvaluationParams
from assay.params.self_verification import SelfVerification
from assay.trajectories import schema, to_table
from assay.verifiers.answer_classes import answer_class

LEVELS = (1.0, -0.5, -1.0)


def record(samples, verifier="v", text=""):
    """samples: (task, answer, rule right, oracle right or None, what critiques say). Levels as RISE has them."""
    rows, said = [], []
    empty_row, empty_verdict = dict.fromkeys(schema("trajectories").names), dict.fromkeys(schema("verdicts").names)

    def trajectory(name, task, kind, parent, index):
        rows.append(empty_row | {
            "trajectory_id": name, "iteration": 1, "round": 0, "policy": "1", "task_id": task, "group_id": task, "sample_index": index,
            "kind": kind, "parent_id": parent, "prompt_ids": [1], "completion_ids": [2], "loss_mask": [True], "sampled_logprobs": [-1.0],
            "finish_reason": "stop", "text": text, "sampling": {
                "temperature": 1.0, "top_p": 1.0, "max_tokens": 9, "seed": 0, "engine": "e", "engine_version": "0"},
        })  # fmt: skip

    def verdict(name, role, right, answer=None, components=None):
        said.append(empty_verdict | {
            "trajectory_id": name, "iteration": 1, "round": 0, "verifier": verifier, "verifier_version": "1", "role": role,
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


def metrics(samples, **options):
    judged = judged_samples(*record(samples, **options), SelfVerification())
    return {name: estimate for name, estimate in critique_metrics(judged, LEVELS, 0.95)}


def test_a_critic_that_calls_everything_wrong_is_no_judge():
    """B6.12 of the methods: 20 % are right, binary accuracy is 80 %, balanced accuracy 50 %."""
    found = metrics([(f"t{n}", str(n), n < 2, None, [-0.5]) for n in range(10)])
    assert found["verification_accuracy"].value == pytest.approx(0.8) == found["verification_majority_accuracy"].value
    assert found["verification_balanced_accuracy"].value == pytest.approx(0.5)
    assert found["verification_exact_accuracy"].value == pytest.approx(0.8) == found["verification_majority_exact_accuracy"].value
    assert found["verification_negative_precision"].value == pytest.approx(0.8) and found["verification_precision"].n == 0
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


def test_equal_numbers_are_one_answer_where_the_rule_compares_numbers():
    samples = [("t", "8", False, None, [-0.5])] * 2 + [("t", answer, True, None, [-0.5]) for answer in ("7", "7.0", "14/2")]
    assert metrics(samples)["vote_majority@5"].value == 0.0  # a verifier of whose answers nothing is known
    for verifier in ("numeric", "math_verify"):
        assert metrics(samples, verifier=verifier)["vote_majority@5"].value == 1.0
    strings = [answer_class("string_match", answer) for answer in ("7", "7.0", "a  b", "a b")]
    assert strings == ["7", "7.0", "a b", "a b"]
    assert answer_class("numeric", "75%") == answer_class("numeric", r"\frac{3}{4}") == "3/4"
    assert answer_class("math_verify", "x+1") == "x+1" != answer_class("math_verify", "1+x")


def test_a_sample_that_was_not_judged_votes_as_one_that_no_critique_calls_right():
    """Three votes for A, none of them judged; two for B, one called right: as B1.6 with s = 0."""
    samples = [("t", "A", False, None, [])] * 3 + [("t", "B", True, None, [1.0]), ("t", "B", True, None, [-0.5])]
    found = metrics(samples)
    assert found["vote_majority@5"].value == 0.0 and found["vote_weighted_constant@5"].value == 0.0  # 3 x 2 against 2 x 3: a tie
    assert found["verification_unjudged_share"].value == pytest.approx(0.6)
    assert found["verification_accuracy"].n == 1 and found["verification_accuracy"].value == 0.5
    more = metrics([("t", "A", False, None, [])] * 2 + samples[3:])
    assert more["vote_weighted@4"].value == 1.0


def test_rates_as_a_judge_are_of_critiques_with_a_score():
    """A judge abstains without one; recall counts it as not called right."""
    right = [("a", "1", True, None, [1.0, None, None]), ("b", "1", True, None, [-0.5])]
    found = metrics([*right, ("c", "2", False, None, [1.0, -0.5, -0.5, None])])
    assert found["verification_recall"].value == pytest.approx(1 / 4)
    assert found["verification_true_positive_rate"].value == pytest.approx(1 / 2)
    assert found["verification_specificity"].value == pytest.approx(3 / 4)
    rate = found["verification_false_positive_rate"]
    assert rate.value == pytest.approx(1 / 3) and rate.low < 1 / 3 < rate.high
    silent = metrics([("a", "1", True, None, [None]), ("b", "2", False, None, [None])])
    assert silent["verification_true_positive_rate"].n == silent["verification_false_positive_rate"].n == 0


def test_words_of_checking_are_counted_where_samples_are_judged():
    tasks = tasks_table({"a": ("sums", "eval"), "b": ("sums", "eval")})
    samples = [("a", "1", True, None, [1.0]), ("b", "2", False, None, [-0.5])]
    options = EvaluationParams(samples=1, pass_at=(1,))
    found = values(evaluate(tasks, *record(samples, text="Wait, I verify it. However ..."), options), environment="all", split="eval")
    assert [found[name][0] for name in ("verification_frequency", "self_verified_accuracy", "reflection_rate")] == [1.0, 0.5, 2.0]
    plain = values(evaluate(tasks, *record(samples, text="It is 4"), options), environment="all", split="eval")
    assert plain["verification_frequency"][0] == 0.0 and plain["self_verified_accuracy"] == (None, 0)
    silent = [(*sample[:4], []) for sample in samples]
    assert "reflection_rate" not in values(evaluate(tasks, *record(silent), options), environment="all", split="eval")


def test_nothing_judged_is_nothing():
    assert metrics([("a", "1", True, None, [])]) == {}
