"""Error rates of the rule against brute force, and the corners where nothing is known."""

import pyarrow as pa
import pytest

from assay.environments import Task
from assay.trajectories import schema
from assay.verifiers import Confusion, estimate_noise

TASKS = {
    name: Task(name, name[0], "train", ({"role": "user", "content": "?"},), "1", "string_match")
    for name in ("a1", "a2", "b1")
}


def tables(
    *said: tuple[str, str | None, str | None, str | None], kinds: str | list[str] = "solution"
) -> tuple[pa.Table, pa.Table]:
    """(task, rule, reference, oracle) per trajectory, each of correct, wrong, abstain or None for no row."""
    kinds = [kinds] * len(said) if isinstance(kinds, str) else kinds
    trajectories = pa.table(
        {
            "trajectory_id": [f"t{number}" for number in range(len(said))],
            "task_id": pa.array([row[0] for row in said], pa.string()),
            "kind": pa.array(kinds, pa.string()),
        }
    )
    rows = [
        {
            "trajectory_id": f"t{number}",
            "iteration": 2,
            "round": 0,
            "verifier": "string_match",
            "verifier_version": "1",
            "role": role,
            "verdict": verdict,
            "reason": "",
            "appealed": False,
            "flipped": False,
        }
        for number, row in enumerate(said)
        for role, verdict in zip(("rule", "reference", "oracle"), row[1:], strict=True)
        if verdict is not None
    ]
    return pa.Table.from_pylist(rows, schema("verdicts")), trajectories


def estimate(*said, **more) -> list[dict]:
    verdicts, trajectories = tables(*said, **more)
    table = estimate_noise(verdicts, TASKS, trajectories)
    assert table.schema == schema("noise_estimates")
    return table.to_pylist()


R, W, A = "correct", "wrong", "abstain"


def test_rates_by_hand():
    (row,) = estimate(
        ("a1", R, R, R),
        ("a1", R, R, R),
        ("a1", R, R, W),
        ("a2", W, R, R),
        ("a2", W, W, W),
        ("a2", W, W, W),
        ("a2", W, R, W),
    )
    assert row["against"] == "oracle"
    assert (row["iteration"], row["round"], row["environment"], row["verifier"]) == (2, 0, "a", "string_match")
    assert (row["n"], row["rule_positives"], row["rule_negatives"], row["examined_negatives"]) == (7, 3, 4, 4)
    assert row["false_negatives"] == 1
    assert row["false_negative_rate"] == row["true_false_negative_rate"] == pytest.approx(1 / 3)
    assert row["false_positive_rate"] == row["true_false_positive_rate"] == pytest.approx(1 / 4)
    assert row["false_negative_low"] < 1 / 3 < row["false_negative_high"]
    assert row["smoothed_rate"] is None


def test_without_oracle_the_reference_is_the_measure_and_nothing_counts_as_true():
    (row,) = estimate(("a1", R, R, A), ("a1", W, R, A), ("a1", W, W, None), ("a1", W, A, A))
    assert (row["against"], row["n"], row["false_negative_rate"], row["false_positive_rate"]) == (
        "reference",
        3,
        0.5,
        0.0,
    )
    assert row["true_false_negative_rate"] is None
    assert row["true_false_positive_rate"] is None


def test_abstentions_count_on_neither_side():
    (row,) = estimate(("a1", A, R, R), ("a1", R, R, A), ("a1", W, W, R), ("a1", R, A, R))
    assert (row["n"], row["false_negatives"], row["false_negative_rate"]) == (2, 1, 0.5)
    assert row["false_positive_rate"] is None


def test_where_nothing_is_known_rates_are_null():
    (row,) = estimate(("a1", A, A, A), ("a1", R, A, A))
    assert row["n"] == 0
    assert all(row[name] is None for name in row if name.endswith(("rate", "low", "high")))


def test_environments_are_kept_apart_and_sorted():
    rows = estimate(("b1", W, R, R), ("a1", R, R, R), ("a2", R, W, W))
    assert [(row["environment"], row["n"], row["false_negative_rate"]) for row in rows] == [
        ("a", 2, 0.0),
        ("b", 1, 1.0),
    ]


def test_rewards_are_measured_not_evaluations_unless_there_is_nothing_else():
    said = [("a1", R, R, R), ("a1", W, R, R), ("a1", W, R, R)]
    (row,) = estimate(*said, kinds=["solution", "solution", "evaluation"])
    assert (row["n"], row["false_negative_rate"]) == (2, 0.5)
    (row,) = estimate(*said, kinds=["evaluation", "evaluation", "critique"])
    assert row["n"] == 2


def test_samples_of_one_task_are_one_cluster():
    """The same counts, spread over tasks or heaped on one: the interval is wider for the heap."""
    spread = [("a1", W, R, R), ("a1", R, R, R), ("a1", R, R, R), ("a2", W, R, R), ("a2", R, R, R), ("a2", R, R, R)]
    heaped = [("a1", W, R, R), ("a1", W, R, R), ("a1", R, R, R), ("a2", R, R, R), ("a2", R, R, R), ("a2", R, R, R)]
    (narrow,), (wide,) = estimate(*spread), estimate(*heaped)
    assert narrow["false_negative_rate"] == wide["false_negative_rate"] == pytest.approx(1 / 3)
    assert wide["false_negative_low"] < narrow["false_negative_low"] and wide["false_negative_high"] > narrow["false_negative_high"]


def test_confusion_counts():
    confusion = Confusion.of([(True, True)] * 3 + [(False, True)] + [(True, False)] * 2 + [(False, False)] * 6)
    assert confusion == Confusion(3, 2, 1, 6)
    assert confusion.false_negative_rate == 0.25
    assert confusion.false_positive_rate == 0.25
