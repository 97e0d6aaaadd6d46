"""Noise, appeals and audits between what the rule says and what training sees."""

import numpy as np
import pyarrow as pa
import pytest

from assay.environments import Task
from assay.params.noise import AppealsParams, FormatNoise, IndependentNoise
from assay.params.verification import VerificationParams
from assay.trajectories import schema, to_table
from assay.verifiers import Channel, observe, verify_trajectories
from assay.verifiers.channel import draws_of
from assay.verifiers.judges import Cost
from assay.verifiers.verdicts import abstain, correct, wrong

HALF = Task.create("halves", "train", "1/4 + 1/4 = ?", "1/2", "string_match", {"oracle": "rational"})
WHOLE = Task.create("wholes", "train", "1 + 1 = ?", "2", "string_match", {"oracle": "rational"})
TASKS = {task.task_id: task for task in (HALF, WHOLE)}


def trajectories(*said, kind="solution", iteration=0):
    """(task, text) each."""
    blank = dict.fromkeys(schema("trajectories").names)
    rows = [
        blank | {
            "trajectory_id": f"t{number}", "iteration": iteration, "round": 0, "policy": "0", "task_id": task.task_id, "group_id": "g",
            "sample_index": number, "kind": kind, "prompt_ids": [1], "completion_ids": [2], "loss_mask": [True],
            "sampled_logprobs": [-1.0], "finish_reason": "stop", "text": text,
            "sampling": {"temperature": 1.0, "top_p": 1.0, "max_tokens": 4, "seed": 1, "engine": "x", "engine_version": "1"},
        }
        for number, (task, text) in enumerate(said)
    ]  # fmt: skip
    return to_table("trajectories", rows)


class Scripted:
    """A judge that accepts what its list says, and remembers what it was asked."""

    name, version = "scripted", "1"

    def __init__(self, accepts):
        self.accepts, self.asked, self.cost = accepts, [], Cost(0, 0)

    def decide(self, cases):
        self.asked += cases
        self.cost = Cost(len(cases), 10 * len(cases))
        return [{True: correct(), False: wrong(), None: abstain("judge_unreachable")}[self.accepts(case)] for case in cases]

    def close(self):
        pass


def observed(rows, judge=None, seed=0, **options):
    params = VerificationParams(reference="none", **options)
    table, asked = observe(verify_trajectories(TASKS, rows, params, 1), TASKS, rows, params, seed, judge)
    assert table.schema == schema("verdicts")
    says = [row for row in table.to_pylist() if row["role"] == "rule"]
    return says, [row for row in table.to_pylist() if row["role"] == "judge"], asked


def test_without_noise_and_appeals_the_verdicts_are_untouched():
    rows = trajectories((HALF, "1/2"), (HALF, "0.5"), (WHOLE, "3"))
    params = VerificationParams(reference="none")
    plain = verify_trajectories(TASKS, rows, params, 1)
    table, asked = observe(plain, TASKS, rows, params, 0)
    assert table.equals(plain)
    assert asked is None


def test_flips_come_at_their_rates_and_not_at_rate_0():
    """A6, test 11."""
    draws = np.asarray([row / 1e5 for row in range(100_000)])
    right = np.arange(100_000) % 2 == 0
    flipped = Channel(0.1, 0.2).flipped(right, draws)
    for rate, of in ((0.2, right), (0.1, ~right)):
        assert abs(flipped[of].mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / of.sum())
    assert not Channel(0.0, 0.0).flipped(right, np.zeros(100_000)).any()
    with pytest.raises(ValueError, match="no correction exists"):
        Channel(0.5, 0.5)


def test_a_channel_has_probabilities_whose_sum_leaves_signal_in_every_row():
    rows = np.asarray([0.1, 0.7])
    for rates, words in (
        ((-0.5, 0.2), "false_positive_rate is -0.5, expected"), ((np.nan, 0.2), "false_positive_rate is nan, expected"),
        ((0.1, np.inf), "false_negative_rate is inf, expected"), ((0.1, np.asarray([0.2, np.nan])), "false_negative_rate is nan"),
        ((0.0, 1.0), "false_negative_rate is 1, expected"), ((0.3, rows), r"are 0\.3 and 0\.7, whose sum"),
        ((rows, rows[::-1] + 0.25), r"are 0\.1 and 0\.95, whose sum"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            Channel(*rates)
    # A rate of one row may be high where the other's is low.
    assert Channel(rows, np.asarray([0.8, 0.2])).determinant == pytest.approx([0.1, 0.1])
    assert Channel(0.2, np.empty(0)).determinant.size == 0


def test_independent_draws_are_uniform_and_shared_by_runs_that_differ_in_the_method():
    many = trajectories(*[(HALF, "1/2"), (WHOLE, "2")] * 4000)
    _, draws = draws_of(IndependentNoise(), 7, many, ["x"] * 8000, TASKS)
    assert abs(draws.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 8000)
    assert len(set(draws)) > 7990
    _, others = draws_of(IndependentNoise(false_positive_rate=0.3), 7, many, ["y"] * 8000, TASKS)
    assert (draws == others).all()
    _, reseeded = draws_of(IndependentNoise(), 8, many, ["x"] * 8000, TASKS)
    assert abs(np.corrcoef(draws, reseeded)[0, 1]) < 0.05
    _, later = draws_of(IndependentNoise(), 7, trajectories(*[(HALF, "1/2")] * 8, iteration=1), ["x"] * 8, TASKS)
    assert not set(later) & set(draws)


def test_a_flipped_row_keeps_the_rules_verdict_and_gets_the_other_reward():
    rows = trajectories(*[(WHOLE, "2"), (WHOLE, "3")] * 300)
    noise = IndependentNoise(false_positive_rate=0.3, false_negative_rate=0.4)
    says, _, _ = observed(rows, noise=noise)
    for right, rate in (("correct", 0.4), ("wrong", 0.3)):
        of = [row for row in says if row["verdict"] == right]
        assert len(of) == 300
        assert abs(np.mean([row["flipped"] for row in of]) - rate) < 4 * np.sqrt(rate * (1 - rate) / 300)
        for row in of:
            assert row["flipped"] == (row["noise_draw"] < rate)
            assert row["observed_reward"] == float((right == "correct") != row["flipped"])


def test_noise_by_format_judges_an_answer_the_same_way_every_time():
    noise = FormatNoise(false_positive_rate=0.0, low_false_negative_rate=0.05, high_false_negative_rate=0.45)
    tasks = [Task.create("many", "train", f"{n} = ?", str(n), "numeric") for n in range(2000)]
    TASKS.update({task.task_id: task for task in tasks})
    rows = trajectories(*[(task, task.gold) for task in tasks], *[(task, f"{task.gold}.0") for task in tasks])
    says, _, _ = observed(rows, noise=noise, rule="numeric")
    again, _, _ = observed(rows, noise=noise, rule="numeric", seed=99)
    assert [row["flipped"] for row in says] == [row["flipped"] for row in again]
    for part, rate in ((says[:2000], 0.05), (says[2000:], 0.45)):
        assert abs(np.mean([row["flipped"] for row in part]) - rate) < 4 * np.sqrt(rate * (1 - rate) / 2000)


def test_only_samples_that_train_are_noisy_or_appealed():
    rows = trajectories(*[(WHOLE, "3")] * 50, kind="evaluation")
    judge = Scripted(lambda case: True)
    noise = IndependentNoise(false_positive_rate=0.9, false_negative_rate=0.05)
    says, judged, asked = observed(rows, judge, noise=noise, appeals=AppealsParams(enabled=True, probability=1.0, recover=True))
    assert not any(row["flipped"] or row["appealed"] for row in says)
    assert {row["observed_reward"] for row in says} == {0.0}
    assert (judged, asked, judge.asked) == ([], None, [])


def test_continuations_are_as_noisy_as_solutions_by_draws_of_their_own_and_never_appealed():
    solutions, rows = trajectories(*[(WHOLE, "3")] * 400), trajectories(*[(WHOLE, "3")] * 400, kind="continuation")
    parents = rows.set_column(rows.schema.get_field_index("parent_id"), rows.schema.field("parent_id"), pa.array(["s"] * 200 + ["u"] * 200))
    noise, judge = IndependentNoise(false_positive_rate=0.5, false_negative_rate=0.05), Scripted(lambda case: True)
    says, judged, _ = observed(parents, judge, noise=noise, appeals=AppealsParams(enabled=True, probability=1.0, recover=True))
    assert abs(np.mean([row["flipped"] for row in says]) - 0.5) < 0.1 and judged == []
    assert all(row["observed_reward"] == float(row["flipped"]) for row in says)
    of_solutions, _, _ = observed(solutions, noise=noise)
    draws = [[row["noise_draw"] for row in part] for part in (says[:200], says[200:], of_solutions[:200])]
    assert all(abs(np.corrcoef(one, other)[0, 1]) < 0.25 for one, other in ((draws[0], draws[1]), (draws[0], draws[2])))


APPEALS = AppealsParams(enabled=True, probability=1.0)


def test_an_upheld_appeal_is_stored_and_rewarded_only_where_it_is_recovered():
    rows = trajectories((HALF, "1/2"), (HALF, "0.5"), (HALF, "3/4"), (HALF, ""))
    for recover in (False, True):
        judge = Scripted(lambda case: case.answer == "0.5")
        says, judged, asked = observed(rows, judge, appeals=APPEALS.model_copy(update={"recover": recover}))
        assert [row["appealed"] for row in says] == [False, True, True, True]
        assert [row["upheld"] for row in says] == [None, True, False, False]
        assert [row["observed_reward"] for row in says] == [1.0, float(recover), 0.0, 0.0]
        assert [(row["trajectory_id"], row["verifier"], row["verdict"]) for row in judged] == [
            ("t1", "scripted", "correct"), ("t2", "scripted", "wrong"), ("t3", "scripted", "wrong"),
        ]  # fmt: skip
        assert (asked.calls, asked.tokens) == ({("halves", "string_match"): 3}, {("halves", "string_match"): 30})
        assert [case.truth for case in judge.asked] == [True, False, False]
        assert {(case.question, case.gold) for case in judge.asked} == {("1/4 + 1/4 = ?", "1/2")}


def test_an_answer_that_is_too_long_is_not_put_before_the_judge_by_its_beginning():
    judge = Scripted(lambda case: True)
    rows = trajectories((HALF, "2/4" + " " * 50 + "or 7"), (HALF, "0.5"))
    says, of_judge, asked = observed(rows, judge, appeals=APPEALS.model_copy(update={"recover": True}), max_answer_characters=20)
    assert [(row["reason"], row["upheld"], row["observed_reward"]) for row in says] == [("too_long", False, 0.0), ("different", True, 1.0)]
    assert [(row["verdict"], row["reason"]) for row in of_judge] == [("wrong", "too_long"), ("correct", "equal")]
    assert [case.answer for case in judge.asked] == ["0.5"] and sum(asked.calls.values()) == 1


def test_audits_look_at_what_the_rule_accepts():
    rows = trajectories((HALF, "1/2"), (HALF, "0.5"))
    judge = Scripted(lambda case: False)
    says, judged, _ = observed(rows, judge, appeals=AppealsParams(enabled=True, probability=1e-9, audit_probability=1.0, recover=True))
    assert [(row["appealed"], row["audited"], row["upheld"]) for row in says] == [(False, True, False), (False, False, None)]
    assert [row["observed_reward"] for row in says] == [1.0, 0.0]  # an audit measures, it takes no reward away
    assert [row["trajectory_id"] for row in judged] == ["t0"]


def test_a_larger_probability_adds_appeals_and_takes_none_away():
    rows = trajectories(*[(WHOLE, "3")] * 2000)
    before: set[str] = set()
    for q in (0.05, 0.3, 1.0):
        says, _, _ = observed(rows, Scripted(lambda case: False), appeals=AppealsParams(enabled=True, probability=q))
        now = {row["trajectory_id"] for row in says if row["appealed"]}
        assert before <= now
        assert abs(len(now) - 2000 * q) <= 4 * np.sqrt(2000 * q * (1 - q))
        assert all(row["appealed"] == (row["appeal_draw"] < q) for row in says)
        before = now
    assert len(before) == 2000


def test_a_judge_that_abstains_changes_no_reward():
    rows = trajectories((HALF, "0.5"), (HALF, "0.50"))
    says, judged, _ = observed(rows, Scripted(lambda case: None), appeals=APPEALS.model_copy(update={"recover": True}))
    assert [(row["appealed"], row["upheld"], row["observed_reward"]) for row in says] == [(True, None, 0.0)] * 2
    assert [(row["verdict"], row["reason"], row["score"]) for row in judged] == [("abstain", "judge_unreachable", None)] * 2


def test_rows_on_which_the_rule_abstains_are_neither_flipped_nor_appealed():
    strange = Task.create("halves", "train", "x = ?", "zzz", "numeric")
    TASKS[strange.task_id] = strange
    rows = trajectories((strange, "1"), (WHOLE, "3"))
    judge = Scripted(lambda case: True)
    says, _, _ = observed(rows, judge, noise=IndependentNoise(false_positive_rate=0.0, false_negative_rate=0.99), appeals=APPEALS)
    assert says[0]["verdict"] == "abstain"
    assert (says[0]["flipped"], says[0]["noise_draw"], says[0]["appealed"], says[0]["observed_reward"]) == (False, None, False, None)
    assert says[1]["appealed"]
