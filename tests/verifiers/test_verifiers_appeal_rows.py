"""Estimates from appeals: rows, averages that go from iteration to iteration, and warnings."""

import json

import pytest

from assay.environments import Task
from assay.params.noise import AppealsParams, JudgeRates
from assay.trajectories import schema, to_table
from assay.verifiers import NoiseState, estimate_appeals
from assay.verifiers.noise_state import Average
from assay.verifiers.observation import Asked

TASK = Task.create("sums", "train", "1 + 1 = ?", "2", "string_match")
TASKS = {TASK.task_id: TASK}
KEY = ("sums", "string_match")
ASKED = Asked("numeric", {KEY: 12}, {KEY: 0})


def tables(*rows):
    """(count, rule accepts, oracle, appealed, audited, upheld) each."""
    verdicts, names, number = [], [], 0
    for count, accepts, truth, appealed, audited, upheld in rows:
        for _ in range(count):
            name = f"t{number}"
            number += 1
            names.append(name)
            rule = dict.fromkeys(schema("verdicts").names) | {
                "trajectory_id": name, "iteration": 3, "round": 0, "verifier": "string_match", "verifier_version": "1", "role": "rule",
                "verdict": "correct" if accepts else "wrong", "reason": "", "appealed": appealed, "audited": audited, "upheld": upheld,
                "flipped": False, "observed_reward": float(accepts),
            }  # fmt: skip
            verdicts.append(rule)
            if truth is not None:
                says = {"role": "oracle", "verifier": "oracle:x", "verdict": "correct" if truth else "wrong", "observed_reward": None}
                verdicts.append(rule | says)
    trajectories = {"trajectory_id": names, "task_id": [TASK.task_id] * number, "kind": ["solution"] * number}
    import pyarrow as pa

    return to_table("verdicts", verdicts), pa.table(trajectories)


def estimated(*rows, state=None, asked=ASKED, **options):
    verdicts, trajectories = tables(*rows)
    params = AppealsParams(**{"enabled": True, "probability": 0.1, **options})
    table, after = estimate_appeals(verdicts, TASKS, trajectories, params, state or NoiseState(), asked)
    assert table.schema == schema("noise_estimates")
    (row,) = table.to_pylist()
    return row, after


def batch(upheld=9, refused=81, rest=810, accepted=100):
    """900 rule negatives of which 90 are appealed, as in A6, test 12; the oracle knows 90 right ones among them."""
    right = upheld * 9
    return (
        (accepted, True, True, False, False, None), (upheld, False, True, True, False, True), (refused, False, False, True, False, False),
        (right, False, True, False, False, None), (rest - right, False, False, False, False, None),
    )  # fmt: skip


def test_the_papers_worked_example():
    """A6, test 12."""
    row, after = estimated(*batch())
    assert (row["against"], row["rule_positives"], row["rule_negatives"], row["examined_negatives"]) == ("judge", 100, 900, 90)
    assert (row["upheld_negatives"], row["false_negatives"]) == (9, pytest.approx(90))
    assert row["false_negative_rate"] == pytest.approx(0.4736842, abs=1e-7)
    assert row["true_false_negative_rate"] == 90 / 190
    assert row["false_negative_low"] < 90 / 190 < row["false_negative_high"]
    assert after.averages[KEY].false_negative == row["smoothed_rate"] == row["false_negative_rate"]  # nothing to smooth it with yet
    assert row["carried_rate"] is None
    assert (row["judge"], row["judge_calls"], row["judge_tokens"], row["enough"], row["warning"]) == ("numeric", 12, 0, True, None)
    assert (row["false_positive_rate"], row["false_positive_source"]) == (0.0, "assumed")


def test_the_average_goes_from_iteration_to_iteration_bit_by_bit(tmp_path):
    """A6, tests 12 and 17."""
    state = NoiseState({KEY: Average(false_negative=0.5)})
    row, after = estimated(*batch(), state=state)
    assert row["smoothed_rate"] == pytest.approx(0.4973684, abs=1e-7)
    assert row["carried_rate"] == 0.5
    file = tmp_path / "noise/state.json"
    after.write(file)
    assert NoiseState.read(file) == after
    direct, _ = estimated(*batch(upheld=12), state=after)
    resumed, _ = estimated(*batch(upheld=12), state=NoiseState.read(file))
    assert direct == resumed
    file.write_text("[{}]")
    with pytest.raises(ValueError, match=r"state\.json: not a state of noise estimates"):
        NoiseState.read(file)
    assert json.loads(NoiseState().to_json()) == []


def test_a_start_of_the_average_can_be_given():
    row, _ = estimated(*batch(), initial_false_negative_rate=0.2)
    assert row["carried_rate"] == 0.2
    assert row["smoothed_rate"] == pytest.approx(0.9 * 0.2 + 0.1 * 0.4736842, abs=1e-6)


def test_too_little_evidence_moves_no_average():
    state = NoiseState({KEY: Average(false_negative=0.3)})
    for rows in (
        ((100, True, True, False, False, None), (5, False, False, True, False, True), (500, False, False, False, False, None)),  # 5 judged
        ((2, True, True, False, False, None), (40, False, False, True, False, False)),  # 2 right
        ((100, True, True, False, False, None), (60, False, True, True, False, None)),  # a judge that decides nothing
    ):
        row, after = estimated(*rows, state=state)
        assert (row["enough"], row["smoothed_rate"], after.averages[KEY].false_negative) == (False, 0.3, 0.3)
        assert "the average of 0.300 stands" in row["warning"]
    assert "numeric decided only 0 of 60 answers that were put before it" in row["warning"]
    # Few negatives, all of them judged: nothing is missing.
    row, _ = estimated((100, True, True, False, False, None), (5, False, True, True, False, True), state=state, probability=1.0)
    assert row["enough"]
    assert row["false_negative_rate"] == pytest.approx(5 / 105, abs=1e-6)
    assert row["false_negative_low"] <= 5 / 105 <= row["false_negative_high"]
    assert row["false_negative_high"] - row["false_negative_low"] < 1e-6


def test_audits_give_the_false_positive_rate():
    rows = (
        (60, True, True, False, True, True), (20, True, False, False, True, False), (300, False, False, False, False, None),
        (40, False, False, True, False, False),
    )  # fmt: skip
    row, after = estimated(*rows, audit_probability=1.0)
    assert (row["examined_positives"], row["refused_positives"], row["false_positive_source"]) == (80, 20, "audit")
    assert row["false_positive_rate"] == pytest.approx(20 / 360, rel=1e-4)
    assert row["true_false_positive_rate"] == pytest.approx(20 / 360)
    assert row["false_positive_low"] <= 20 / 360 <= row["false_positive_high"]
    assert after.averages[KEY].false_positive == row["smoothed_false_positive_rate"] == row["false_positive_rate"]


def test_errors_of_the_judge_are_taken_out_of_the_estimate():
    """A6, test 12: 50 false negatives, 800 true ones, a judge of rates 0.9 and 0.05."""
    rows = (
        (150, True, True, False, False, None), (45, False, True, True, False, True), (5, False, True, True, False, False),
        (40, False, False, True, False, True), (760, False, False, True, False, False),
    )  # fmt: skip
    trusting, _ = estimated(*rows, probability=1.0)
    assert trusting["false_negative_rate"] == pytest.approx(85 / 235, abs=1e-5)  # .361702
    knowing, _ = estimated(*rows, probability=1.0, judge_rates=JudgeRates(true_positive=0.9, false_positive=0.05))
    assert knowing["false_negative_rate"] == pytest.approx(0.25, abs=1e-4)
    measured, after = estimated(*rows, probability=1.0, judge_rates="measured")
    assert (measured["judge_true_positive_rate"], measured["judge_false_positive_rate"]) == (0.9, 0.05)
    assert measured["false_negative_rate"] == pytest.approx(0.25, abs=1e-4)
    average = after.averages[KEY]
    assert (average.appealed, average.audited) == ((45, 50, 40, 800), (0, 0, 0, 0))


def test_the_judges_errors_on_audited_answers_are_not_those_on_appealed_ones():
    """An answer that the rule has accepted is easy to accept: audits must not make the judge look better on appeals."""
    rows = ((400, True, True, False, True, True), (20, False, True, True, False, True), (20, False, True, True, False, False),
            (400, False, False, True, False, False))  # fmt: skip
    row, after = estimated(*rows, probability=1.0, audit_probability=1.0, judge_rates="measured")
    assert after.averages[KEY].appealed == (20, 40, 0, 400) and after.averages[KEY].audited == (400, 400, 0, 0)
    assert row["judge_true_positive_rate"] == 0.5
    assert row["false_negative_rate"] == pytest.approx(40 / 440, rel=1e-3) == pytest.approx(row["true_false_negative_rate"], rel=1e-3)


def test_a_false_positive_rate_needs_to_know_how_many_answers_are_wrong():
    state = NoiseState({KEY: Average(false_negative=0.1, false_positive=0.05)})
    # One appeal, upheld: were all of the rejected right, every wrong answer would be an accepted one.
    rows = ((270, True, None, False, False, None), (27, True, None, False, True, True), (3, True, None, False, True, False),
            (1, False, None, True, False, True), (9, False, None, False, False, None))  # fmt: skip
    row, after = estimated(*rows, state=state, audit_probability=0.1)
    assert (row["enough"], row["enough_audited"]) == (False, False)
    assert after.averages[KEY].false_positive == row["smoothed_false_positive_rate"] == 0.05
    # Nothing wrong at all: there is no rate, and none that is assumed goes into the average.
    rows = ((270, True, None, False, False, None), (30, True, None, False, True, True))
    row, after = estimated(*rows, state=state, audit_probability=0.1, assumed_false_positive_rate=0.4)
    assert (row["false_positive_rate"], row["false_positive_source"], row["enough_audited"]) == (None, "audit", False)
    assert after.averages[KEY].false_positive == 0.05
    # Audits that the draw has not come to: assumed, and said so.
    row, _ = estimated(*batch(), audit_probability=0.1, assumed_false_positive_rate=0.1)
    assert (row["false_positive_rate"], row["false_positive_source"]) == (0.1, "assumed")


def test_a_judge_that_does_not_tell_right_from_wrong_is_no_evidence():
    rows = ((100, True, True, False, False, None), (30, False, True, True, False, False), (30, False, False, True, False, True))
    row, after = estimated(*rows, state=NoiseState({KEY: Average(false_negative=0.3)}), probability=1.0, judge_rates="measured")
    assert (row["false_negative_rate"], row["enough"], row["smoothed_rate"], row["judge_abstentions"]) == (None, False, 0.3, 60)
    assert after.averages[KEY].appealed == (0, 30, 30, 30)


def test_a_judge_that_errs_moves_averages_of_counts(tmp_path):
    """A judge who upholds 0.05 of wrong answers has upheld fewer than that of these: less than none was missed, which bounded at 0 in each
    batch would never make up for the batches in which he upheld more."""
    rates = JudgeRates(true_positive=0.95, false_positive=0.05)
    few, many = (
        ((98, True, True, False, False, None), (upheld, False, False, True, False, True), (900 - upheld, False, False, True, False, False))
        for upheld in (40, 52)
    )
    row, after = estimated(*few, probability=1.0, judge_rates=rates)
    assert after.averages[KEY].negative == pytest.approx((-5 / 0.9, 98)) and row["smoothed_rate"] == pytest.approx(0, abs=1e-6)
    file = tmp_path / "state.json"
    after.write(file)
    assert NoiseState.read(file) == after
    row, after = estimated(*many, probability=1.0, judge_rates=rates, state=NoiseState.read(file), decay=0.5)
    assert row["false_negative_rate"] == pytest.approx(7 / 0.9 / (7 / 0.9 + 98), abs=1e-3)
    assert row["smoothed_rate"] == after.averages[KEY].false_negative == pytest.approx((1 / 0.9) / (1 / 0.9 + 98), abs=1e-5)
    # A rate that is carried stands for as many answers as the batch has.
    row, _ = estimated(*many, probability=1.0, judge_rates=rates, state=NoiseState({KEY: Average(false_negative=0.2)}))
    assert row["smoothed_rate"] == pytest.approx(0.9 * 0.2 + 0.1 * 7 / 0.9 / (7 / 0.9 + 98), abs=1e-5)


def test_an_auditor_that_errs_moves_averages_of_counts():
    """500 right and 20 wrong answers accepted, 480 wrong ones rejected; the auditor refuses 0.1 of right and 0.9 of wrong ones."""
    rows = (
        (450, True, True, False, True, True), (50, True, True, False, True, False), (18, True, False, False, True, False),
        (2, True, False, False, True, True), (48, False, False, True, False, True), (432, False, False, True, False, False),
    )  # fmt: skip
    rates = JudgeRates(true_positive=0.9, false_positive=0.1)
    row, after = estimated(*rows, probability=1.0, audit_probability=1.0, judge_rates=rates)
    assert after.averages[KEY].positive == pytest.approx((20, 480)) and after.averages[KEY].negative == pytest.approx((0, 500))
    assert row["smoothed_false_positive_rate"] == pytest.approx(20 / 500)


def test_the_state_of_a_judge_without_errors_holds_rates_alone():
    _, after = estimated(*batch())
    (row,) = json.loads(after.to_json())
    assert set(row) == {"environment", "verifier", "false_negative", "false_positive", "deviation", "appealed", "audited"}


def test_recovered_appeals_leave_less_noise():
    """A2: (1 - q) times the rate."""
    row, _ = estimated(*batch(), recover=True)
    assert row["residual_false_negative_rate"] == pytest.approx(0.9 * row["smoothed_rate"])
    assert row["residual_false_positive_rate"] == 0.0
    row, _ = estimated(*batch())
    assert row["residual_false_negative_rate"] is None
    row, _ = estimated(*batch(), recover=True, audit_probability=0.5)  # no audit came: unknown stays unknown
    assert (row["smoothed_false_positive_rate"], row["residual_false_positive_rate"]) == (None, None)


def test_drift_and_a_rule_that_says_little_are_warned_of():
    row, _ = estimated(*batch(), state=NoiseState({KEY: Average(false_negative=0.05)}))
    assert "the false-negative rate is 0.474 [" in row["warning"]
    assert "away from the average of 0.050" in row["warning"]
    row, _ = estimated(*batch(), assumed_false_positive_rate=0.4, determinant_limit=0.3)
    assert "1 - false-positive - false-negative rate is -0.400" in row["warning"]


def test_chance_between_batches_of_one_rate_is_no_drift():
    """At q = 1 the interval of a batch is a point."""
    state = NoiseState({KEY: Average(false_negative=30 / 130)})
    rows = ((100, True, True, False, False, None), (34, False, True, True, False, True), (200, False, False, True, False, False))
    row, _ = estimated(*rows, state=state, probability=1.0)
    assert row["false_negative_high"] - row["false_negative_low"] < 1e-6
    assert row["warning"] is None
    row, _ = estimated((100, True, True, False, False, None), (80, False, True, True, False, True), state=state, probability=1.0)
    assert "away from the average of 0.231" in row["warning"]


def test_without_appeals_only_the_deviation_is_averaged():
    verdicts, trajectories = tables(*batch())
    table, after = estimate_appeals(verdicts, TASKS, trajectories, AppealsParams(), NoiseState(), None)
    (row,) = table.to_pylist()
    assert (row["against"], row["smoothed_rate"], row["judge"]) == ("oracle", None, None)
    assert row["smoothed_deviation"] == pytest.approx((0.1 * 0.9) ** 0.5)
    assert after.averages == {KEY: Average(deviation=row["smoothed_deviation"])}
    (row,) = estimate_appeals(verdicts, TASKS, trajectories, AppealsParams(), after, None)[0].to_pylist()
    assert row["carried_deviation"] == after.averages[KEY].deviation
