"""Metrics and report of protocols: three answers of known worth, evaluated with arithmetic beside them."""

from itertools import islice
from random import Random

import pytest

from assay.environments import Task, tasks_to_table
from assay.environments.protocols.environment import ProtocolsEnvironment, corrupted, lines_of
from assay.evaluation import RunRecord, evaluate
from assay.evaluation.metrics import Lookup, metrics_json
from assay.evaluation.protocol_metrics import protocol_metrics
from assay.evaluation.report import report_html
from assay.evaluation.section_protocols import aligned_grid
from assay.params import Params
from assay.params.protocols import Protocols
from assay.params.verification import VerificationParams
from assay.rewards.protocol import lexical_reward, read_gold, score
from assay.trajectories import schema, to_table
from assay.verifiers import verify_trajectories

BENCH = [c.task for c in islice(ProtocolsEnvironment("bench", Protocols(ood_steps=None), 3).candidates("eval"), 12)]
SUMS = [Task.create("sums", "eval", f"{n} + 1 = ?", str(n + 1), "string_match", {"oracle": "rational"}) for n in range(4)]
PARAMS = Params(evaluation={"samples": 2, "pass_at": [1, 2]})


def answers(policy, task, sample):
    """Policy 0: nothing, and a fault; policy 1: the gold."""
    if policy == 1 or task.environment == "sums":
        return task.gold
    return "no" if sample == 0 else corrupted(task.gold, Random(task.task_id))


@pytest.fixture(scope="module")
def record():
    blank = dict.fromkeys(schema("trajectories").names)
    sampling = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 4, "seed": 1, "engine": "x", "engine_version": "1"}
    rows = to_table("trajectories", [
        blank | {
            "trajectory_id": f"{policy}-{task.task_id}-{sample}", "iteration": policy, "round": 0, "policy": str(policy),
            "task_id": task.task_id, "group_id": task.task_id, "sample_index": sample, "kind": "evaluation", "prompt_ids": [1],
            "completion_ids": [2, 3], "loss_mask": [True, True], "sampled_logprobs": [-1.0, -0.5], "finish_reason": "stop",
            "text": answers(policy, task, sample), "sampling": sampling,
        }
        for policy in (0, 1) for task in BENCH + SUMS for sample in (0, 1)
    ])  # fmt: skip
    tasks = {task.task_id: task for task in BENCH + SUMS}
    verdicts = verify_trajectories(tasks, rows, VerificationParams(reference="none"), 1)
    return RunRecord(tasks_to_table(tasks.values()), rows, verdicts)


@pytest.fixture(scope="module")
def table(record):
    return evaluate(record.tasks, record.trajectories, record.verdicts, PARAMS.evaluation)


def test_metrics_are_means_over_tasks_of_what_each_sample_has(table):
    found = Lookup(table)
    faults = [corrupted(task.gold, Random(task.task_id)) for task in BENCH]
    pairs = list(zip(faults, BENCH, strict=True))
    half = [score(text, read_gold(task.gold)).total / 2 for text, task in pairs]
    assert found.value(0, "eval", "score", "bench") == pytest.approx(sum(half) / 12, abs=1e-6)
    assert found.value(0, "eval", "score_format", "bench") == 0.5
    words = [lexical_reward(text, task.gold) / 2 for text, task in pairs]
    assert found.value(0, "eval", "score_lexical", "bench") == pytest.approx(sum(words) / 12, abs=1e-6)
    average = [(protocol_metrics(text, task.gold).average + protocol_metrics("no", task.gold).average) / 2 for text, task in pairs]
    assert found.value(0, "eval", "protocol_average", "bench") == pytest.approx(sum(average) / 12)
    one = {"score": 2.5, "score_content": 1.5, "executable_share": 1.0, "protocol_average": 1.0, "accuracy_oracle": 1.0, "pass@1": 1.0}
    assert {name: found.value(1, "eval", name, "bench") for name in one} == pytest.approx(one)
    row = found.get(0, "eval", "executable_share", "bench")
    assert row["low"] <= row["value"] <= row["high"] and row["n"] == 12


def test_other_environments_have_none_of_it_and_all_means_those_that_have(table):
    found = Lookup(table)
    assert found.get(1, "eval", "score", "sums") is None and found.get(1, "eval", "score")["n"] == 12
    assert found.get(1, "eval", "pass@1")["n"] == 16
    assert metrics_json(table)["last"]["eval"]["score"] == 2.5


def test_the_report_shows_parts_and_a_protocol_beside_its_gold(record, table):
    page = report_html(record, table, PARAMS)
    assert 'id="protocols"' in page and "Parts of SCORE" in page and "One protocol beside its gold" in page
    assert "it can be carried out and reaches its goal" in page
    task = next(task for task in BENCH if len(lines_of(task.gold)) > 2)
    steps = score(task.gold.replace("Step 2: {", "Step 2: ["), read_gold(task.gold)).step_rows()
    grid = aligned_grid(steps, task.gold)
    assert len(grid.rows) == len(lines_of(task.gold)) and [row[0] == "" for row in grid.rows].count(True) == 1
    assert grid.rows[1][:2] == ("", next(row[1] for row in aligned_grid([], task.gold).rows[1:]))


def test_an_extra_step_stands_without_a_partner():
    task = BENCH[0]
    extra = {"action": "shake", "objects": ["tube"], "parameters": ["2 s", "<b>"], "aligned": None, "content": 0.0}
    grid = aligned_grid([extra], task.gold)
    assert grid.rows[0] == ("shake tube (2 s, <b>)", "", "–", "–", "–", "0") and len(grid.rows) == 1 + len(lines_of(task.gold))


def test_a_run_without_protocols_has_no_such_section(record):
    ids = {task.task_id for task in SUMS}
    own = [name in ids for name in record.trajectories["task_id"].to_pylist()]
    rows = record.trajectories.filter(own)
    known = set(rows["trajectory_id"].to_pylist())
    verdicts = record.verdicts.filter([name in known for name in record.verdicts["trajectory_id"].to_pylist()])
    small = RunRecord(tasks_to_table(SUMS), rows, verdicts)
    table = evaluate(small.tasks, small.trajectories, small.verdicts, PARAMS.evaluation)
    assert 'id="protocols"' not in report_html(small, table, PARAMS)
    assert not any(metric.startswith(("score", "protocol", "executable")) for metric in table["metric"].to_pylist())
