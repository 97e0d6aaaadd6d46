"""Metrics on tables whose answers are known by hand."""

import json

import pytest
from hand_made import sample_tables, tasks_table, values
from synthetic_run import Shape, make_run

from assay.evaluation import EvaluationError, evaluate
from assay.evaluation.definitions import meaning
from assay.params.sampling import EvaluationParams

TASKS = {"a": ("sums", "eval"), "b": ("sums", "eval"), "c": ("words", "eval"), "d": ("sums", "ood")}
PARAMS = EvaluationParams(samples=2, pass_at=(1, 2))


def run(samples, tasks=TASKS, params=PARAMS, **changes):
    return evaluate(tasks_table(tasks), *sample_tables(samples, **changes), params)


def of(task, *signs, iteration=0, role="rule"):
    return [(iteration, task, {role: sign} if role == "rule" else {"rule": "-", role: sign}) for sign in signs]


def test_pass_at_k_per_environment_split_and_pooled_by_task():
    table = run(of("a", "+", "-") + of("b", "+", "+") + of("c", "-", "-") + of("d", "+", "-"))
    assert values(table, environment="sums", split="eval")["pass@1"] == (0.75, 2)
    assert values(table, environment="words", split="eval")["pass@1"] == (0.0, 1)
    pooled = values(table, environment="all", split="eval")
    assert pooled["pass@1"] == (0.5, 3)
    assert pooled["pass@2"] == (pytest.approx(2 / 3), 3)
    assert pooled["avg@2"] == pooled["pass@1"] == pooled["accuracy_rule"]
    assert values(table, environment="all", split="ood")["pass@1"] == (0.5, 1)
    assert not values(table, environment="words", split="ood")


def test_abstained_samples_leave_the_denominator_and_are_counted():
    table = values(run(of("a", "+", "?") + of("b", "+", "-") + of("c", "?", "?")), environment="all")
    assert table["pass@1"] == (0.75, 2)  # a: 1 of 1, b: 1 of 2, c: none decided
    assert table["pass@2"] == (1.0, 1)  # only b has two decided samples
    assert table["abstain_share"] == (0.5, 3)
    assert table["abstain_share_rule"] == (0.5, 3)


def test_everything_abstained_gives_null_not_zero():
    table = values(run(of("a", "?", "?")), environment="all")
    assert table["pass@1"] == table["accuracy_rule"] == (None, 0)
    assert table["abstain_share"] == (1.0, 1)


def test_headline_is_the_oracle_where_the_environment_has_one():
    samples = of("a", "+", "+", role="oracle") + of("b", "-", "+", role="oracle") + of("c", "+", "-")
    table = run(samples)
    sums = values(table, environment="sums")
    assert sums["pass@1"] == sums["accuracy_oracle"] == (0.75, 2)
    assert sums["accuracy_rule"] == (0.0, 2)
    words = values(table, environment="words")
    assert words["pass@1"] == (0.5, 1)
    assert "accuracy_oracle" not in words
    assert values(table, environment="all")["pass@1"] == (pytest.approx(2 / 3), 3)


def test_not_applicable_reference_is_absent_not_abstained():
    samples = [(0, "a", {"rule": "+", "reference": "n"}), (0, "c", {"rule": "+", "reference": "-"})]
    table = run(samples, params=EvaluationParams(samples=1, pass_at=(1,)))
    assert values(table, environment="all")["accuracy_reference"] == (0.0, 1)
    assert "accuracy_reference" not in values(table, environment="sums")
    assert values(table, environment="all")["abstain_share"] == (0.0, 2)


def test_accuracies_of_verifiers_are_over_the_same_samples():
    """The oracle judges sums only, the reference lost one of them: pooled, all three are about what all decided."""
    samples = [
        (0, "a", {"rule": "-", "reference": "+", "oracle": "+"}),
        (0, "a", {"rule": "-", "reference": "?", "oracle": "+"}),
        (0, "b", {"rule": "+", "reference": "+", "oracle": "+"}),
        (0, "c", {"rule": "+", "reference": "-"}),
    ]
    table = run(samples)
    for name in ("all", "sums"):
        found = values(table, environment=name)
        assert [found[f"accuracy_{role}"] for role in ("rule", "reference", "oracle")] == [(0.5, 2), (1.0, 2), (1.0, 2)]
    words = values(table, environment="words")
    assert (words["accuracy_rule"], words["accuracy_reference"]) == ((1.0, 1), (0.0, 1)) and "accuracy_oracle" not in words
    assert values(table, environment="all")["pass@1"] == (1.0, 3)
    apart = run([(0, "a", {"rule": "+", "oracle": "+"}), (0, "c", {"rule": "+", "reference": "+"})])
    assert values(apart, environment="all")["accuracy_rule"] == (None, 0)


def test_a_sample_that_the_oracle_did_not_see_counts_as_abstained():
    samples = [(0, "a", {"rule": "+", "oracle": "+"}), (0, "a", {"rule": "+"})]
    table = values(run(samples), environment="sums")
    assert table["pass@1"] == (1.0, 1) and table["abstain_share"] == (0.5, 1)


def test_gain_keep_and_explore_against_policy_0():
    before = of("a", "+", "-") + of("b", "-", "-") + of("c", "+", "+")
    after = of("a", "-", "-", iteration=1) + of("b", "+", "+", iteration=1) + of("c", "+", "+", iteration=1)
    table = values(run(before + after), environment="all", iteration=1)
    assert table["pass@1_gain"] == (pytest.approx(1 / 6), 3)
    assert table["keep_rate"] == (0.5, 2)
    assert table["explore_rate"] == (1.0, 1)
    assert "pass@1_gain" not in values(run(before), environment="all")


def test_iteration_with_nothing_right():
    rows = [
        r
        for r in run(of("a", "-", "-") + of("b", "-", "-")).to_pylist()
        if r["metric"] == "pass@1" and r["environment"] == "all"
    ]
    assert rows[0]["value"] == rows[0]["low"] == 0 and 0 < rows[0]["high"] < 1


def test_length_entropy_and_truncation():
    table = values(run(of("a", "+", "-") + of("b", "+", "-"), finish_reason="length"), environment="all")
    assert table["length_mean"] == (3.0, 2)
    assert table["entropy"] == (1.0, 2)
    assert table["truncated_share"] == (1.0, 2)
    masked = values(run(of("a", "+", "-"), loss_mask=[True, False, True]), environment="all")
    assert masked["length_mean"] == (2.0, 1) and masked["entropy"] == (1.0, 1)


def test_other_kinds_are_ignored():
    with pytest.raises(EvaluationError, match="no trajectory of kind evaluation"):
        run(of("a", "+", "-"), kind="solution")


@pytest.mark.parametrize(("samples", "changes", "words"), [
    ([(0, "z", {"rule": "+"})], {}, "task z, which the tasks table does not hold"),
    ([(3, "a", {"reference": "+"})], {}, r"t0 \(iteration 3\) has no verdict of the rule: run `dvc repro verify@3`"),
    ([(0, "a", {"rule": "+"}), (0, "a", {"rule": "-"})], {"trajectory_id": "same"}, "2 verdicts of role rule"),
    ([(0, "a", {"rule": "+"})], {"loss_mask": [True]}, "differ in length"),
])  # fmt: skip
def test_bad_tables_are_refused(samples, changes, words):
    trajectories, verdicts = sample_tables(samples, **changes)
    if "trajectory_id" in changes:
        trajectories, rows = trajectories.slice(0, 1), verdicts.to_pylist()
        verdicts = type(verdicts).from_pylist([r | changes for r in rows], schema=verdicts.schema)
    with pytest.raises(EvaluationError, match=words):
        evaluate(tasks_table(TASKS), trajectories, verdicts, PARAMS)


def test_two_policies_in_one_iteration_are_refused():
    trajectories, verdicts = sample_tables(of("a", "+", "-"))
    rows = trajectories.to_pylist()
    rows[1]["policy"] = "7"
    mixed = type(trajectories).from_pylist(rows, schema=trajectories.schema)
    with pytest.raises(EvaluationError, match="policies 0 and 7"):
        evaluate(tasks_table(TASKS), mixed, verdicts, PARAMS)


def test_pass_at_beyond_the_samples_is_a_parameter_error():
    with pytest.raises(ValueError, match=r"evaluation\.samples is 4"):
        EvaluationParams(samples=4, pass_at=(1, 8))
    with pytest.raises(ValueError, match=r"pass_at is \[2, 4\], without 1"):
        EvaluationParams(samples=4, pass_at=(2, 4))


def test_a_whole_run_agrees_with_a_plain_loop(tmp_path):
    record = make_run(tmp_path, Shape())
    table = evaluate(record.tasks, record.trajectories, record.verdicts, EvaluationParams())
    assert json.dumps(table.to_pylist()) == json.dumps(
        evaluate(record.tasks, record.trajectories, record.verdicts, EvaluationParams()).to_pylist()
    )
    tasks = {row["task_id"]: row for row in record.tasks.to_pylist()}
    verdicts = {(row["trajectory_id"], row["role"]): row["verdict"] for row in record.verdicts.to_pylist()}
    by_task: dict[str, list[bool]] = {}
    for row in record.trajectories.select(["trajectory_id", "task_id", "kind", "iteration"]).to_pylist():
        task = tasks[row["task_id"]]
        if row["kind"] == "evaluation" and row["iteration"] == 2 and task["split"] == "eval":
            role = "oracle" if task["environment"] == "rational" else "rule"
            verdict = verdicts[row["trajectory_id"], role]
            if verdict != "abstain":
                by_task.setdefault(row["task_id"], []).append(verdict == "correct")
    expected = sum(sum(flags) / len(flags) for flags in by_task.values()) / len(by_task)
    assert values(table, environment="all", split="eval", iteration=2)["pass@1"] == (
        pytest.approx(expected),
        len(by_task),
    )
    assert all(meaning(metric) for metric in set(table["metric"].to_pylist()))


def test_a_run_without_ood_tasks_and_without_oracle(tmp_path):
    record = make_run(tmp_path, Shape(ood_tasks=0, oracle=False))
    table = evaluate(record.tasks, record.trajectories, record.verdicts, EvaluationParams())
    assert set(table["split"].to_pylist()) == {"eval"}
    assert "accuracy_oracle" not in table["metric"].to_pylist()
