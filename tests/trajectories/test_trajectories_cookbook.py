"""Every query of docs/sql.md runs over a real warehouse and finds something; docs/schema.md is what the schemas say."""

import re
from pathlib import Path

import pytest

from assay.evaluation.definitions import METRICS
from assay.trajectories import query, sync
from assay.trajectories.documentation import schema_markdown

DOCS = Path(__file__).parents[2] / "docs"
QUERIES = re.findall(r"```sql\n(.*?)```", (DOCS / "sql.md").read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture(scope="module")
def synced(finished_project):
    sync(finished_project.root)
    return finished_project


def test_there_are_enough_queries():
    assert len(QUERIES) >= 18


@pytest.mark.parametrize("sql", QUERIES, ids=lambda sql: sql.split("\n")[0][:40])
def test_query_of_the_cookbook_answers(synced, sql):
    answer = query(sql, synced.root, version="baseline")
    assert answer.num_rows > 0
    unknown = {"false_negative_low", "false_negative_high"}  # the invented estimates have no interval
    empty = {name for name in answer.column_names if answer[name].null_count == len(answer)}
    assert empty <= unknown


def answers(synced, marker: str) -> list[dict]:
    (sql,) = [sql for sql in QUERIES if marker in sql]
    return query(sql, synced.root).to_pylist()


def test_pass_at_1_from_samples_is_the_accuracy_of_the_rule(synced):
    from_rows = {(r["iteration"], r["environment"], r["split"]): r["tasks"] for r in answers(synced, "AS pass_at_1")}
    assert set(from_rows) == {(k, e, s) for k in range(3) for e in ("rational", "chain_sum") for s in ("eval", "ood")}
    assert {tasks for (_, _, split), tasks in from_rows.items() if split == "eval"} == {5}


def test_tasks_that_got_worse_are_those_that_the_fixture_made_so(synced):
    worse = answers(synced, "AS before, z.share AS after")
    assert all(row["after"] < row["before"] for row in worse)
    easiest = query("SELECT task_id FROM tasks WHERE difficulty = 0 AND split <> 'train'", synced.root)["task_id"]
    assert {row["task_id"] for row in worse} & set(easiest.to_pylist())


def test_false_negatives_are_equal_fractions_that_the_strict_rule_rejects(synced):
    (sql,) = [sql for sql in QUERIES if "false_negative_rate," in sql and "truth AS" in sql]
    strict = query(sql, synced.root, version="baseline").to_pylist()
    tolerant = query(sql, synced.root, version="tolerant").to_pylist()
    assert sum(row["rejected"] for row in strict) > 0
    assert {row["answer_format"] for row in strict if row["rejected"]} == {"fraction"}
    assert sum(row["rejected"] for row in tolerant) == 0


def test_zero_variance_groups_agree_with_the_reasons_for_dropping(synced):
    by_group = {row["iteration"]: row["zero_variance"] for row in answers(synced, "zero_variance / groups")}
    dropped = query(
        "SELECT iteration, count(DISTINCT group_id) AS n FROM batches WHERE drop_reason = 'zero_variance' GROUP BY ALL",
        synced.root,
    ).to_pylist()  # fmt: skip
    assert by_group == {row["iteration"]: row["n"] for row in dropped}


def test_schema_page_is_current():
    page = (DOCS / "schema.md").read_text(encoding="utf-8")
    assert page == schema_markdown(METRICS), "run `python docs/make_schema.py`"
