"""What a person sees of a fused round."""

import pytest

from assay.rounds.round_report import RoundReport, live_watch, pooled_false_negative_rate
from assay.trajectories import schema, to_table


def estimate(environment, **values):
    row = dict.fromkeys(schema("noise_estimates").names)
    counts = {"iteration": 0, "round": 0, "n": 0, "rule_positives": 0, "rule_negatives": 0, "examined_negatives": 0, "false_negatives": 0.0}
    return row | counts | {"environment": environment, "verifier": "v", "against": "oracle"} | values


def test_the_rate_over_environments_weighs_them_by_their_right_answers():
    rows = [
        estimate("a", false_negatives=30.0, false_negative_rate=0.3),  # 100 right answers
        estimate("b", rule_positives=50, false_negative_rate=0.0, false_positive_rate=0.0),  # 50
        estimate("c"),  # nothing right
    ]
    assert pooled_false_negative_rate(to_table("noise_estimates", rows)) == pytest.approx(30 / 150)
    assert pooled_false_negative_rate(to_table("noise_estimates", rows[2:])) is None


def test_a_round_is_one_line_with_its_seconds_by_part():
    report = RoundReport(0, 6, 20, 0.5, 0.75, None, 0.4, None, 300, {"sample": 0.5, "update": 1.0, "swap": 0.001})
    assert str(report) == (
        "round 7 of 20: reward 0.500, kept 75%, false negatives –, entropy 0.400, 600 tokens/s, 1.50 s (sample 0.50, update 1.00)"
    )
    assert report.metrics()["seconds/update"] == 1.0 and "divergence" not in report.metrics()


def test_a_round_that_is_played_again_is_logged_once(tmp_path):
    def report(number, reward):
        return RoundReport(0, number, 4, reward, 1.0, None, 0.4, None, 300, {"sample": 0.5})

    watch = live_watch(tmp_path, 0, lambda line: None)
    for number in range(3):
        watch(report(number, 0.25))
    watch = live_watch(tmp_path, 1, lambda line: None)
    for number in range(1, 4):
        watch(report(number, 0.75))
    rows = (tmp_path / "plots/metrics/reward.tsv").read_text().splitlines()
    assert rows == ["step\treward", "0\t0.25", "1\t0.75", "2\t0.75", "3\t0.75"]
