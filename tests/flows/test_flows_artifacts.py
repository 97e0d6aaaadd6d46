"""Tables of the artifacts, from rows as the record has them."""

from pathlib import Path

import pytest

from assay.trajectories import ShardError, schema, write_shard
from flows.artifacts import evaluation_table, interval, noise_table, noise_text, read_rows, stage_warnings


def row(
    iteration: int, metric: str, value: float | None, environment: str = "all", split: str = "eval", n: int = 512
) -> dict:
    low, high = (None, None) if value is None else (value - 0.03, value + 0.03)
    return {
        "iteration": iteration,
        "environment": environment,
        "split": split,
        "metric": metric,
        "value": value,
        "low": low,
        "high": high,
        "n": n,
    }


def test_evaluation_table_has_a_line_per_policy_with_intervals() -> None:
    rows = [row(k, f"pass@{size}", 0.4 + 0.1 * k + 0.01 * size) for k in (1, 0) for size in (8, 1, 4)]
    rows += [row(0, "pass@1_gain", 0.2), row(0, "entropy", 0.5)]
    assert evaluation_table(rows) == (
        "**all environments, eval**\n\n"
        "| policy | pass@1 | pass@8 | tasks |\n"
        "| ---: | --- | --- | ---: |\n"
        "| 0 | 0.410 (0.380 to 0.440) | 0.480 (0.450 to 0.510) | 512 |\n"
        "| 1 | 0.510 (0.480 to 0.540) | 0.580 (0.550 to 0.610) | 512 |"
    )


def test_held_out_tasks_of_all_environments_come_first_and_a_single_one_is_not_repeated() -> None:
    parts = [("math", "eval"), ("all", "ood"), ("sql", "eval"), ("all", "eval")]
    rows = [row(0, "pass@1", 0.5, environment, split) for environment, split in parts]
    titles = [line for line in evaluation_table(rows).splitlines() if line.startswith("**")]
    assert titles == ["**all environments, eval**", "**all environments, ood**", "**math, eval**", "**sql, eval**"]
    one = evaluation_table([row(0, "pass@1", 0.5, environment) for environment in ("all", "math")])
    assert "math" not in one and "all environments" in one


def test_missing_values_are_dashes_and_no_rows_no_table() -> None:
    table = evaluation_table([row(0, "pass@1", 0.5), row(1, "pass@1", None), row(1, "pass@2", 0.7)])
    assert table.splitlines()[-2:] == [
        "| 0 | 0.500 (0.470 to 0.530) | – | 512 |",
        "| 1 | – | 0.700 (0.670 to 0.730) | 512 |",
    ]
    assert evaluation_table([]) == "" == evaluation_table([row(0, "entropy", 1.0)])
    assert interval({"value": float("nan"), "low": None, "high": None}) == "–"
    assert interval({"value": 0.25, "low": None, "high": None}) == "0.250"


def noise_row(iteration: int, **values: float | str | bool | None) -> dict:
    counts = {name: 10 for name in ("n", "rule_positives", "rule_negatives", "examined_negatives")}
    named = {
        "iteration": iteration,
        "round": 0,
        "environment": "rational",
        "verifier": "string_match",
        "against": "reference",
    }
    return dict.fromkeys(schema("noise_estimates").names) | named | counts | {"false_negatives": 1.0} | values


def test_noise_table_shows_estimate_and_truth() -> None:
    rows = [
        noise_row(1),
        noise_row(
            0, false_negative_rate=0.2, false_negative_low=0.1, false_negative_high=0.3, true_false_negative_rate=0.25
        ),
    ]
    assert noise_table(rows).splitlines() == [
        "| iteration | environment | verifier | against | false negatives | true | false positives | true | n |",
        "| ---: | --- | --- | --- | --- | ---: | --- | ---: | ---: |",
        "| 0 | rational | string_match | reference | 0.200 (0.100 to 0.300) | 0.250 | – | – | 10 |",
        "| 1 | rational | string_match | reference | – | – | – | – | 10 |",
    ]


def appeal_row(iteration: int, round_: int, truth: float | None, **values: float | str | None) -> dict:
    """0.3 (0.2 to 0.4) by a judge."""
    estimate = {"false_negative_rate": 0.3, "false_negative_low": 0.2, "false_negative_high": 0.4, "true_false_negative_rate": truth}
    appeal = {"judge": "judge|1", "smoothed_rate": 0.28, "false_positive_rate": 0.02, "false_positive_source": "assumed"}
    cost = {"judge_calls": 5, "judge_tokens": 70, "judge_abstentions": 0}
    return noise_row(iteration, round=round_, against="judge", **estimate, **appeal, **cost) | values


def test_of_appeals_the_smoothed_rate_the_judge_and_coverage_are_shown_and_of_rounds_the_last() -> None:
    rows = [appeal_row(0, 1, 0.25), appeal_row(0, 0, 0.5), appeal_row(1, 0, None)]
    assert noise_table(rows).splitlines() == [
        "| iteration | last round | environment | verifier | against | false negatives | smoothed | true | covered "
        "| false positives | true | n |",
        "| ---: | ---: | --- | --- | --- | --- | ---: | ---: | ---: | --- | ---: | ---: |",
        "| 0 | 1 | rational | string_match | judge judge\\|1 | 0.300 (0.200 to 0.400) | 0.280 | 0.250 | 1 of 2 | 0.020, assumed | – | 10 |",
        "| 1 | 0 | rational | string_match | judge judge\\|1 | 0.300 (0.200 to 0.400) | 0.280 | – | – | 0.020, assumed | – | 10 |",
    ]  # fmt: skip


def test_warnings_stand_first_once_for_each_iteration_environment_and_verifier() -> None:
    odd = [appeal_row(0, r, 0.25, warning=f"drift\n in <round> {r}") for r in range(3)]
    lines = noise_text([appeal_row(1, 0, 0.25), *odd]).splitlines()
    assert lines[:5] == [
        "**Warnings**",
        "",
        "* iteration 0, string_match on rational: drift in &lt;round> 2 (round 2, and 2 earlier rounds)",
        "",
        "How often the verifiers are wrong, with intervals.",
    ]
    assert "The interval covers the true false-negative rate in 4 of 4 estimates." in lines
    assert noise_text([noise_row(0)]).splitlines()[0] == "How often the verifiers are wrong, with intervals."
    assert noise_text([noise_row(0)]).endswith("| 10 |")


def test_only_stages_that_verify_have_warnings(tmp_path: Path) -> None:
    for folder in ("data/verify/0", "data/verify/1", "data/fused/train/0"):
        rows = [appeal_row(int(folder[-1]), 0, None, warning=None if folder.endswith("1") else f"by {folder}")]
        write_shard(tmp_path / folder / "noise_estimates.parquet", "noise_estimates", rows)
    said = {stage: stage_warnings(tmp_path, stage) for stage in ("generate", "verify@0", "verify@1", "verify@7", "rollout@0", "train@0")}
    assert said.pop("verify@0") == ["iteration 0, string_match on rational: by data/verify/0"]
    assert set(map(tuple, said.values())) == {()}
    assert stage_warnings(tmp_path, "fused/dvc.yaml:train@0") == ["iteration 0, string_match on rational: by data/fused/train/0"]


def test_rows_are_read_from_the_folders_named_and_a_corrupted_shard_is_said(tmp_path: Path) -> None:
    for k in (0, 1, 7):
        write_shard(tmp_path / str(k) / "noise_estimates.parquet", "noise_estimates", [noise_row(k)])
    assert [r["iteration"] for r in read_rows("noise_estimates", tmp_path / "0", tmp_path / "1")] == [0, 1]
    assert read_rows("noise_estimates", tmp_path / "2") == []
    (tmp_path / "1/noise_estimates.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ShardError, match=r"noise_estimates\.parquet: corrupted"):
        read_rows("noise_estimates", tmp_path)
