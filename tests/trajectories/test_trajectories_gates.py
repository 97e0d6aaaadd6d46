"""Gates over good data, and over data with one fault each: the expectation and the row are named, the rest is not blamed."""

import copy
import math

import pytest
import synthetic_record
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.trajectories import GateError, Limits, run_gate, to_table
from assay.trajectories.gates import GATES, frames, measures
from assay.trajectories.gates import gate as gate_module

TASKS = synthetic_record.tasks()
TRAJECTORIES = synthetic_record.trajectories(TASKS, 0, ("solution", "evaluation"))
VERDICTS = synthetic_record.verdicts(TASKS, TRAJECTORIES)
BATCHES = synthetic_record.batch(TRAJECTORIES, VERDICTS)
ROWS = {"tasks": TASKS, "trajectories": TRAJECTORIES, "verdicts": VERDICTS, "batches": BATCHES}
LIMITS = Limits(abstain=0.2, group_size=synthetic_record.GROUP, steps=2, vocabulary=512)
KEPT = next(number for number, row in enumerate(BATCHES) if row["kept"])
DROPPED = next(number for number, row in enumerate(BATCHES) if not row["kept"])


TASK_ENVIRONMENTS = {row["task_id"]: row["environment"] for row in TASKS}
ENVIRONMENTS = sorted(set(TASK_ENVIRONMENTS.values()))


def tables(**changed) -> dict:
    return {name: to_table(name, changed.get(name, rows)) for name, rows in ROWS.items()}


def failures(gate: str, given_tables: dict, limits: Limits = LIMITS) -> dict[str, tuple[str, ...]]:
    result = run_gate(gate, given_tables, limits=limits, stop=False)
    return {outcome.says: outcome.examples for outcome in result.outcomes if not outcome.success}


@pytest.mark.parametrize("gate", GATES)
def test_good_data_passes(gate):
    result = run_gate(gate, tables(), limits=LIMITS)
    assert result.success and len(result.outcomes) >= 8
    assert "expectations hold over" in str(result)


def changed(table: str, position: int, **values) -> dict:
    rows = copy.deepcopy(ROWS[table])
    rows[position] |= values
    return tables(**{table: rows})


def tokens(row: dict, **streams) -> dict:
    return {name: [value] * len(row["completion_ids"]) for name, value in streams.items()}


FAULTS = {
    # what: (gate, changed tables, what the gate says)
    "gold": ("tasks", changed("tasks", 3, gold=" "), "the gold is not empty"),
    "split": ("tasks", changed("tasks", 3, split="test"), "the split is train, eval or ood"),
    "prompt": ("tasks", changed("tasks", 3, prompt=[{"role": "user", "content": " \n"}]), "the prompt is not empty"),
    "verifier": ("tasks", changed("tasks", 3, verifier=""), "a verifier is named"),
    "task": ("trajectories", changed("trajectories", 7, task_id="nobody"), "the task exists"),
    "mask": ("trajectories", changed("trajectories", 7, loss_mask=[True]), "the loss mask is as long as the completion"),
    "nan": (
        "trajectories", changed("trajectories", 7, **tokens(TRAJECTORIES[7], sampled_logprobs=math.nan)),
        "log-probabilities are finite",
    ),
    "infinite": (
        "trajectories", changed("trajectories", 7, **tokens(TRAJECTORIES[7], sampled_logprobs=-math.inf)),
        "log-probabilities are finite",
    ),
    "positive": (
        "trajectories", changed("trajectories", 7, **tokens(TRAJECTORIES[7], sampled_logprobs=0.01)),
        "log-probabilities are at most 0",
    ),
    "vocabulary": ("trajectories", changed("trajectories", 7, prompt_ids=[1, 512]), "token ids are from 0 upwards below 512"),
    "negative": ("trajectories", changed("trajectories", 7, prompt_ids=[1, -1]), "token ids are from 0 upwards"),
    "finish": ("trajectories", changed("trajectories", 7, finish_reason="unknown"), "the finish reason is stop or length"),
    "kind": ("trajectories", changed("trajectories", 7, kind="dream"), "the kind is one of"),
    "no prompt": ("trajectories", changed("trajectories", 7, prompt_ids=[]), "the prompt has tokens"),
    "verdict": ("verdicts", changed("verdicts", 1, verdict="maybe"), "the verdict is correct, wrong or abstain"),
    "score": ("verdicts", changed("verdicts", 1, verdict="wrong", score=None), "there is a score unless"),
    "role": ("verdicts", changed("verdicts", 1, role="guess"), "the role is one of"),
    "advantage": ("batch", changed("batches", KEPT, advantage=math.inf), "kept rows have a finite advantage"),
    "no advantage": ("batch", changed("batches", KEPT, advantage=None), "kept rows have a finite advantage"),
    "no step": ("batch", changed("batches", KEPT, step=None), "kept rows have an optimizer step"),
    "no reason": ("batch", changed("batches", DROPPED, drop_reason=None), "a row is kept or says why not"),
    "both": ("batch", changed("batches", KEPT, drop_reason="truncated"), "a row is kept or says why not"),
    "reason": ("batch", changed("batches", DROPPED, drop_reason="dull"), "the reason is one of"),
    "reference": ("batch", changed("batches", KEPT, reference_logprobs=[0.0]), "reference log-probabilities fit the tokens"),
    "stranger": ("batch", changed("batches", KEPT, trajectory_id="nobody"), "the trajectory exists"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_where_it_is(fault):
    gate, given_tables, says = FAULTS[fault]
    table, position = {"tasks": ("tasks", 3), "trajectories": ("trajectories", 7), "verdicts": ("verdicts", 1)}.get(
        gate, ("batches", DROPPED if fault in ("no reason", "reason") else KEPT)
    )
    found = failures(gate, given_tables)
    (examples,) = [examples for said, examples in found.items() if said.startswith(says)]
    row = given_tables[table].slice(position, 1).to_pylist()[0]
    identity = row["task_id"] if table == "tasks" else row["trajectory_id"]
    assert len(examples) == 1 and identity in examples[0]
    assert len(found) <= 2  # a few faults are two: an answer of no verdict is also no score


def test_a_dropped_row_needs_no_streams():
    empty = {"prompt_ids": [], "completion_ids": [], "loss_mask": [], "sampled_logprobs": [], "advantage": None}
    assert failures("batch", changed("batches", DROPPED, **empty)) == {}


def test_tokens_that_the_policy_did_not_sample_need_no_log_probability():
    row = TRAJECTORIES[7]
    streams = tokens(row, loss_mask=False, sampled_logprobs=math.nan)
    assert failures("trajectories", changed("trajectories", 7, **streams)) == {}


def test_ids_must_be_unique():
    assert "task ids are unique" in failures("tasks", tables(tasks=[*TASKS, TASKS[0]]))
    assert "trajectory ids are unique" in failures("trajectories", tables(trajectories=[*TRAJECTORIES, TRAJECTORIES[0]]))
    assert "a verifier judges a trajectory once" in failures("verdicts", tables(verdicts=[*VERDICTS, VERDICTS[0]]))
    assert "a trajectory is offered once" in failures("batch", tables(batches=[*BATCHES, BATCHES[0]]))


def test_a_prompt_in_two_splits_is_contamination_whatever_its_case():
    rows = copy.deepcopy(TASKS)
    held_out = next(row for row in rows if row["split"] == "eval")
    held_out["prompt"] = [{"role": "user", "content": rows[0]["prompt"][0]["content"].upper()}]
    found = failures("tasks", tables(tasks=rows))
    assert set(found) == {"no prompt is in two splits"}
    assert any(held_out["task_id"] in example for example in found["no prompt is in two splits"])


def test_each_trajectory_has_one_verdict_of_the_rule():
    rules = [row for row in VERDICTS if row["role"] == "rule"]
    others = [row for row in VERDICTS if row["role"] != "rule"]
    missing = failures("verdicts", tables(verdicts=others + rules[1:]))
    assert set(missing) == {"each trajectory has one verdict of the rule"}
    assert rules[0]["trajectory_id"] in missing["each trajectory has one verdict of the rule"][0]
    second = rules[0] | {"verifier_version": "2"}
    assert "each trajectory has one verdict of the rule" in failures("verdicts", tables(verdicts=[*VERDICTS, second]))


def test_too_many_abstentions_stop_the_run_and_say_why(tmp_path):
    rows = copy.deepcopy(VERDICTS)
    rules = [row for row in rows if row["role"] == "rule"]
    for row in rules:
        row |= {"verdict": "correct", "score": 1.0, "reason": "equal"}
    environment_of = {row["trajectory_id"]: TASK_ENVIRONMENTS[row["task_id"]] for row in TRAJECTORIES}
    for name in ENVIRONMENTS:
        for row in [row for row in rules if environment_of[row["trajectory_id"]] == name][:5]:
            row |= {"verdict": "abstain", "score": None, "reason": "timeout"}
    share = 5 * len(ENVIRONMENTS) / len(rules)
    assert failures("verdicts", tables(verdicts=rows), Limits(abstain=share)) == {}
    with pytest.raises(GateError) as caught:
        run_gate("verdicts", tables(verdicts=rows), tmp_path / "pages", Limits(abstain=share - 1e-6))
    assert "the rule abstains on at most" in str(caught.value)
    assert rules[0]["trajectory_id"] in str(caught.value)
    assert "abstained, timeout: 8.93 %" in str(caught.value)
    assert caught.value.result.pages is not None and str(caught.value.result.pages) in str(caught.value)


def found_where_rational_arithmetic_abstains(count: int, limit: float) -> dict[str, tuple[str, ...]]:
    """What the gate finds where the rule abstains on `count` answers of one of the environments, of a task as long as there are, and
    decides the others."""
    asked = sorted((r for r in TRAJECTORIES if TASK_ENVIRONMENTS[r["task_id"]] == "rational"), key=lambda row: row["task_id"])
    silent = {row["trajectory_id"] for row in asked[:count]}
    decided, crashed = {"verdict": "correct", "score": 1.0, "reason": "equal"}, {"verdict": "abstain", "score": None, "reason": "crash"}
    rows = [row | ((crashed if row["trajectory_id"] in silent else decided) if row["role"] == "rule" else {}) for row in VERDICTS]
    return failures("verdicts", tables(verdicts=rows), Limits(abstain=limit))


def test_an_environment_that_cannot_be_judged_stops_the_run_whatever_the_others_are():
    answers = sum(row["role"] == "rule" for row in VERDICTS)
    ((said, examples),) = found_where_rational_arithmetic_abstains(20, 20 / answers).items()
    assert said == "in each environment it abstains on at most 0.179 of the rows, within three standard errors"
    (example,) = examples
    assert example.startswith("environment rational, reason all, examples ") and "least_share_of_environment = 0.197" in example
    assert found_where_rational_arithmetic_abstains(4, 4 / answers) == {}  # all of one task: its gold, perhaps
    assert len(found_where_rational_arithmetic_abstains(1, 0.0)) == 1  # but where none may abstain the whole fails
    assert found_where_rational_arithmetic_abstains(5, 5 / answers) == {}  # 5 of its 56: that may be chance
    assert found_where_rational_arithmetic_abstains(20, 0.5) == {}


def test_groups_and_steps_are_complete():
    assert set(failures("batch", tables(batches=BATCHES[1:]))) == {f"each group has {synthetic_record.GROUP} rows"}
    assert "step 2 (rows = 0)" in failures("batch", tables(), Limits(steps=3))["each optimizer step has rows"]


def test_a_batch_without_a_kept_row_is_nothing_to_train_on():
    rows = [row | {"kept": False, "drop_reason": "zero_variance", "step": None} for row in BATCHES]
    assert "there are rows to train on" in failures("batch", tables(batches=rows), Limits())


@pytest.mark.parametrize("gate", GATES)
def test_no_rows_at_all_fail(gate):
    empty = {name: to_table(name, []) for name in ROWS}
    assert any(says.startswith("there are") for says in failures(gate, empty))


def test_shares_are_reported_without_stopping():
    result = run_gate("trajectories", tables(), limits=LIMITS)
    cut = sum(row["finish_reason"] == "length" for row in TRAJECTORIES) / len(TRAJECTORIES)
    assert result.reported == {"truncated share": pytest.approx(cut)}
    assert result.rows == {"trajectories": len(TRAJECTORIES), "tasks": len(TASKS)}


def test_pages_are_written_replaced_and_ask_no_server_of_the_makers(tmp_path):
    out = tmp_path / "pages"
    (out / "old").mkdir(parents=True)
    run_gate("tasks", tables(), out)
    assert not (out / "old").exists()
    pages = list(out.rglob("*.html"))
    assert len(pages) == 3
    assert any(f"All {len(TASKS)} rows" in page.read_text() for page in pages)
    assert any("no prompt is in two splits" in page.read_text() for page in pages)
    assert not any("great-expectations-web-assets" in page.read_text() for page in pages)


@pytest.mark.parametrize("fault", ["task", "positive", "vocabulary", "finish"])
def test_long_frames_are_folded_and_no_fault_is_lost(monkeypatch, fault):
    monkeypatch.setattr(frames, "AGGREGATE_ABOVE", 10)
    gate, given_tables, says = FAULTS[fault]
    found = failures(gate, given_tables)
    assert set(found) == {says}
    assert given_tables["trajectories"]["trajectory_id"][7].as_py() in found[says][0]


def test_folding_keeps_every_row(monkeypatch):
    whole = frames.trajectory_frames(tables(), 512)["trajectories"]
    monkeypatch.setattr(frames, "AGGREGATE_ABOVE", 10)
    folded, names = frames.fold(whole)
    assert folded["row_count"].sum() == len(whole) > 10 * len(folded)
    assert names == ["examples", "row_count"]


def test_failing_rows_are_counted_one_by_one_also_where_they_are_folded(monkeypatch):
    rows = [row | {"finish_reason": "bored"} if number < 30 else row for number, row in enumerate(TRAJECTORIES)]
    rows[40] = rows[40] | {"kind": "dream"}

    def failing() -> dict[str, int]:
        result = run_gate("trajectories", tables(trajectories=rows), limits=LIMITS, stop=False)
        assert "(30 fail)" in str(result) and "row_count" not in str(result)
        return {outcome.says: outcome.failing for outcome in result.outcomes if not outcome.success}

    plain = failing()
    assert sorted(plain.values()) == [1, 30]
    monkeypatch.setattr(frames, "AGGREGATE_ABOVE", 10)
    assert failing() == plain


def test_why_an_expectation_could_not_be_checked_is_said(monkeypatch):
    """Great Expectations keys the exception by the id of the metric that failed."""
    whole = gate_module.task_frames
    monkeypatch.setattr(gate_module, "task_frames", lambda t: {"tasks": whole(t)["tasks"].drop(columns="split")})
    found = failures("tasks", tables())
    (cause,) = found["the split is train, eval or ood"]
    assert cause.startswith("could not be checked: ") and '"split"' in cause and "None" not in cause
    assert gate_module.exceptions({"raised_exception": True, "exception_message": "m"}) == ["m"]
    assert gate_module.exceptions({"raised_exception": False, "exception_message": None}) == []


LISTS = st.lists(st.lists(st.integers(-5, 5), max_size=4), min_size=1, max_size=8)


@settings(max_examples=50, deadline=None)
@given(LISTS)
def test_measures_agree_with_plain_python(rows):
    import numpy as np
    import pyarrow as pa

    column = pa.chunked_array([rows[:3], rows[3:]], type=pa.list_(pa.int32()))
    sizes = measures.lengths(column)
    assert sizes.tolist() == [len(row) for row in rows]
    values = measures.elements(column)
    assert measures.per_row(values, sizes, np.maximum, 0).tolist() == [max(row, default=0) for row in rows]
    assert measures.per_row(values, sizes, np.add, 0).tolist() == [sum(row) for row in rows]
    names = pa.chunked_array([[str(len(row)) for row in rows]])
    assert measures.occurrences(names).tolist() == [names.to_pylist().count(name) for name in names.to_pylist()]
    some = pa.chunked_array([["0", "2"]])
    assert measures.is_known(names, some).tolist() == [name in ("0", "2") for name in names.to_pylist()]
    assert measures.counts(some, names).tolist() == [names.to_pylist().count(name) for name in ("0", "2")]
