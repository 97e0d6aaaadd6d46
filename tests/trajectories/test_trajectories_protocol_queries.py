"""The cookbook's queries about protocols, over imported answers with known faults that are really judged."""

import json
import re
from collections import Counter
from itertools import islice
from pathlib import Path
from random import Random
from statistics import correlation, mean

import pytest

from assay.cli import main
from assay.environments.protocols.environment import ProtocolsEnvironment, corrupted
from assay.params.protocols import Protocols
from assay.rewards.protocol import lexical_reward, read_gold, score
from assay.trajectories import query

DOCS = Path(__file__).parents[2] / "docs"
QUERIES = [sql for sql in re.findall(r"```sql\n(.*?)```", (DOCS / "sql.md").read_text(), flags=re.DOTALL) if "protocol_" in sql]
TASKS = [c.task for c in islice(ProtocolsEnvironment("bench", Protocols(ood_steps=None), 3).candidates("eval"), 30)]
ANSWERS = {
    task.task_id: [
        task.gold, corrupted(task.gold, Random(task.task_id)), "no", task.gold.replace("Step 1: ", "Step 7: ", 1),
        re.sub(r"(<orc>\nStep 1: ).*", r"\1Do it.", task.gold),
    ]
    for task in TASKS
}  # fmt: skip
PAIRS = [(text, task) for task in TASKS for text in ANSWERS[task.task_id]]


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    root = tmp_path_factory.mktemp("protocols")
    (root / "conf").symlink_to(DOCS.parent / "conf")
    (root / "params.yaml").write_text(
        "{scale: micro, environment: protocols, method: score, iterations: [{k: 0, next: 1}], last_policy: 1}"
    )
    keys = ("prompt", "gold", "meta", "verifier")
    lines = [{key: getattr(task, key) for key in keys} | {"completion": ANSWERS[task.task_id]} for task in TASKS]
    (root / "rollouts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    place = ["--root", str(root)]
    assert main(["import", str(root / "rollouts.jsonl"), "--name", "bench", *place]) == 0
    assert main(["verify", "imported/bench", *place]) == 0
    return root


def answered(root, marker):
    (sql,) = [sql for sql in QUERIES if marker in sql]
    found = query(sql, root, version="imported/bench")
    assert found.num_rows and {name for name in found.column_names if found[name].null_count == len(found)} == set()
    return found.to_pylist()


def test_all_queries_about_protocols_are_tried():
    markers = ("AS lost_score", "AS with_score", "AS lost_content", "AS mean_score")
    assert len(QUERIES) == len(markers) and all(any(marker in sql for sql in QUERIES) for marker in markers)


def test_what_the_components_cost_adds_up_to_what_is_lost(judged):
    rows = answered(judged, "AS lost_score")
    lost = {row["component"]: row["lost_score"] for row in rows}
    scores = [score(text, read_gold(task.gold)).total for text, task in PAIRS]
    assert sum(lost.values()) == pytest.approx(2.5 - mean(scores), abs=1e-3)
    assert lost["format_gate"] == pytest.approx(2 * 2.5 / 5, abs=1e-3) and lost["consistency_gate"] == pytest.approx(2.5 / 5, abs=1e-3)
    assert [row["component"] for row in rows][:2] == ["format_gate", "consistency_gate"] and min(lost.values()) > 0


def test_correlations_are_those_of_the_rows(judged):
    (row,) = answered(judged, "AS with_score")
    from assay.environments.protocols.executor import execute

    reached = [float(execute(text, task.meta["bench"]).reached) for text, task in PAIRS]
    assert row["rows"] == len(PAIRS) and row["reached"] == pytest.approx(mean(reached))
    assert row["with_score"] == pytest.approx(correlation([score(t, read_gold(k.gold)).total for t, k in PAIRS], reached), abs=1e-4)
    assert row["with_word_overlap"] == pytest.approx(correlation([lexical_reward(t, k.gold) for t, k in PAIRS], reached), abs=1e-4)


def test_steps_are_counted_by_action(judged):
    steps = [step for text, task in PAIRS for step in score(text, read_gold(task.gold)).steps]
    rows = {row["action"]: row for row in answered(judged, "AS lost_content")}
    assert {action: row["steps"] for action, row in rows.items()} == Counter(step.action for step in steps)
    own = [step for step in steps if step.action == "add"]
    assert rows["add"]["lost_content"] == pytest.approx(mean(1.5 - step.content for step in own), abs=1e-5)
    assert rows["add"]["without_partner"] == pytest.approx(mean(step.aligned is None for step in own))


def test_the_executor_says_why(judged):
    rows = answered(judged, "AS mean_score")
    assert rows[0]["why"] == "no key that can be read" and rows[0]["rows"] == len(TASKS) and rows[0]["mean_score"] == 0
    assert any(row["reason"] == "step_impossible" and row["mean_score"] > 1 and row["failed_step"] >= 1 for row in rows)
