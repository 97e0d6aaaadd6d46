"""Every query of docs/sql.md runs over a real warehouse and finds something; docs/schema.md is what the schemas say."""

import json
import re
import shutil
import subprocess
from operator import itemgetter
from pathlib import Path
from statistics import mean, pvariance

import duckdb
import pytest
import synthetic_record
from derived_rows import CONTINUATIONS
from synthetic_record import APPEAL, DETERMINANT, FLIP, PLAUSIBLE, RARE, write_run

from assay.cli import main
from assay.evaluation.definitions import METRICS
from assay.evaluation.evaluate import evaluate
from assay.params.sampling import EvaluationParams
from assay.trajectories import query, sync, to_table
from assay.trajectories.documentation import schema_markdown
from assay.trajectories.exporters import export

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "sql.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)
OF_IMPORTS = [sql for sql in QUERIES if "'imported'" in sql]
"""Queries that find something in imported rollouts only."""
OF_PAST = [sql for sql in QUERIES if "workspace~1" in sql]
"""Queries about runs that were never committed: see test_trajectories_past.py."""
OF_PROTOCOLS = [sql for sql in QUERIES if "protocol_" in sql]
"""Queries about protocols: see test_trajectories_protocol_queries.py."""

OF_TOOLS = [sql for sql in QUERIES if "tool_calls" in sql or "turns AS" in sql or "tool_use" in sql]
"""Queries about tasks with tools: see tests/stages/test_pipeline_tools.py."""


@pytest.fixture(scope="module")
def synced(finished_project, tmp_path_factory):
    """A copy of the finished project with one version more, which is current: the tag `reasoning`, of a policy that judges itself, thinks
    in steps and has a critic."""
    root = tmp_path_factory.mktemp("cookbook") / "project"
    subprocess.run(["cp", "-a", str(finished_project.root), str(root)], check=True)
    project = type(finished_project)(root)
    shutil.rmtree(root / "made" / "strict")
    write_run(root / "made" / "strict", 2, reasoning=True)
    project.set_param("variant: tolerant", "variant: strict")
    project.script("dvc repro -q", "git add -A", "git commit -q -m reasoning", "git tag reasoning")
    sync(root)
    return project


def test_there_are_enough_queries():
    assert len(QUERIES) >= 18


OF_RUNS = [sql for sql in QUERIES if sql not in (*OF_IMPORTS, *OF_PAST, *OF_PROTOCOLS, *OF_TOOLS)]


@pytest.mark.parametrize("sql", OF_RUNS, ids=lambda sql: sql.split("\n")[0][:40])
def test_query_of_the_cookbook_answers(synced, sql):
    answer = query(sql, synced.root, version="reasoning")
    assert answer.num_rows > 0
    assert {name for name in answer.column_names if answer[name].null_count == len(answer)} == set()


@pytest.mark.parametrize("page", ["own.md", "report.md", "troubleshooting.md"])
def test_queries_within_other_pages_answer(synced, page):
    """Of `assay sql "..."` and of tables; those that find something in this record."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(r"assay sql \"(SELECT.*?)\"|`(SELECT[^`]*)`", text, flags=re.DOTALL)
    assert found
    for sql in map("".join, found):
        assert query(sql, synced.root, version="reasoning").column_names


def test_the_report_page_names_queries_that_there_are():
    text = (DOCS / "report.md").read_text(encoding="utf-8")
    asked = {name for line in text.splitlines() for name in re.findall(r'"([^"]+)"', line.rsplit("|", 2)[-2] if line.endswith("|") else "")}
    at_the_end = {"The samples behind it"}
    assert len(asked) > 12 and {name for name in asked - at_the_end if name not in PAGE} == set()


def test_the_example_of_imported_rollouts_is_what_happens(tmp_path, capsys):
    """The line of the page is imported and judged; what is printed, and what the query finds, is what the page shows."""
    for name in ("params.yaml", "conf"):
        (tmp_path / name).symlink_to(DOCS.parent / name)
    (line,) = re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "samples.jsonl").write_text(line, encoding="utf-8")
    root = ["--root", str(tmp_path)]
    assert main(["import", str(tmp_path / "samples.jsonl"), "--name", "gpt", "--columns", "gold=answer", *root]) == 0
    assert main(["verify", "imported/gpt", *root]) == 0
    (shown,) = re.findall(r"```\n(role .*?)```", PAGE, flags=re.DOTALL)
    assert set(shown.splitlines()) <= set(capsys.readouterr().out.splitlines())
    (sql,) = OF_IMPORTS
    (row,) = query(sql, tmp_path, version="imported/gpt").to_pylist()
    assert (row["answer"], row["reward"], row["verdict"]) == (json.loads(line)["completion"][1], 0.0, "correct")
    # An export takes the rule's verdict before the file's.
    counts = export("trl", tmp_path / "out", tmp_path, version="imported/gpt", where="r.verdict = 'correct'")
    assert counts == {"train.parquet": 2}


def answers(synced, marker: str) -> list[dict]:
    (sql,) = [sql for sql in QUERIES if marker in sql]
    return query(sql, synced.root).to_pylist()


@pytest.fixture(scope="module")
def evaluated(synced):
    """What the evaluation itself makes of the version `baseline`: (iteration, environment, split, metric) -> row of `evaluations`. Its
    environment `rational` has an oracle, whom the rule contradicts now and then, `chain_sum` has none."""
    tables = (to_table(name, rows_of(synced, name)) for name in ("tasks", "trajectories", "verdicts"))
    rows = evaluate(*tables, EvaluationParams(samples=4, pass_at=[1, 2, 4])).to_pylist()
    return {(row["iteration"], row["environment"], row["split"], row["metric"]): row for row in rows}


def test_pass_at_1_from_samples_is_that_of_the_evaluation(synced, evaluated):
    found = {(r["iteration"], r["environment"], r["split"]): r for r in asked(synced, "AS pass_at_1")}
    assert set(found) == {(k, e, s) for k in range(3) for e in ("rational", "chain_sum") for s in ("eval", "ood")}
    for key, row in found.items():
        assert (row["pass_at_1"], row["tasks"]) == (pytest.approx(evaluated[*key, "pass@1"]["value"]), evaluated[*key, "pass@1"]["n"])
    assert len({row["pass_at_1"] for row in found.values()}) > 3
    by_rule = {key: evaluated[*key, "accuracy_rule"]["value"] for key in found}
    assert any(abs(found[key]["pass_at_1"] - by_rule[key]) > 0.05 for key in found if key[1] == "rational")


def test_kept_and_newly_solved_tasks_are_those_of_the_evaluation(synced, evaluated):
    found = asked(synced, "AS newly_solved")
    assert {(row["split"], row["iteration"]) for row in found} == {(split, k) for split in ("eval", "ood") for k in (1, 2)}
    for row in found:
        kept, new = (evaluated[row["iteration"], "all", row["split"], name] for name in ("keep_rate", "explore_rate"))
        assert (row["kept"], row["solved_by_policy_0"]) == (pytest.approx(kept["value"], abs=6e-4), kept["n"])
        assert (row["newly_solved"], row["others"]) == (pytest.approx(new["value"], abs=6e-4), new["n"])


def test_the_headline_is_one_row_of_each_sample_in_every_version(synced):
    environment = {row["task_id"]: row["environment"] for row in rows_of(synced, "tasks")}
    of = {"rational": "oracle", "chain_sum": "rule"}
    role = {row["trajectory_id"]: of[environment[row["task_id"]]] for row in rows_of(synced, "trajectories")}
    found = rows_of(synced, "headline")
    assert {row["trajectory_id"]: row["role"] for row in found} == role and len(found) == len(role)
    by_macro = query("FROM headline_at('baseline')", synced.root).to_pylist()
    key = itemgetter("trajectory_id")
    assert sorted(by_macro, key=key) == sorted(found, key=key) and list(found[0]) == list(rows_of(synced, "verdicts")[0])


def test_the_reward_is_compared_with_the_oracle_on_rows_that_were_trained_on(synced):
    found = {row["iteration"]: row["rows"] for row in answers(synced, "AS oracle_share")}
    kept = {k: 0 for k in found}
    of_solutions = "SELECT trajectory_id FROM verdicts JOIN trajectories USING (trajectory_id) WHERE role = 'oracle' AND kind = 'solution'"
    oracle = query(of_solutions, synced.root)["trajectory_id"].to_pylist()
    for row in query("FROM batches", synced.root).to_pylist():
        kept[row["iteration"]] += row["kept"] and not row["rehearsal"] and row["trajectory_id"] in set(oracle)
    assert found == kept


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


def rows_of(synced, table: str, version: str = "baseline") -> list[dict]:
    return query(f"FROM {table}", synced.root, version=version).to_pylist()


def asked(synced, marker: str, version: str = "baseline") -> list[dict]:
    (sql,) = [sql for sql in QUERIES if marker in sql]
    return query(sql, synced.root, version=version).to_pylist()


def test_each_upheld_appeal_counts_as_many_as_it_stands_for(synced):
    """The table of task families and formats, counted here row by row; over an environment it is the estimate of the record."""
    tasks = {row["task_id"]: row["environment"] for row in rows_of(synced, "tasks")}
    own = {row["trajectory_id"]: tasks[row["task_id"]] for row in rows_of(synced, "trajectories") if row["kind"] == "solution"}
    counts: dict[tuple, list[float]] = {}
    for row in rows_of(synced, "verdicts"):
        if row["role"] == "rule" and row["verdict"] != "abstain" and row["trajectory_id"] in own:
            here = counts.setdefault((own[row["trajectory_id"]], row["answer_format"]), [0, 0, 0])
            here[0] += row["observed_reward"] == 1
            here[1] += row["appealed"]
            here[2] += (row["appealed"] and row["upheld"] is True) / APPEAL
    found = {(row["environment"], row["answer_format"]): row for row in asked(synced, "judge_accepts")}
    assert {key: [row["accepted"], row["examined"], row["false_negatives"]] for key, row in found.items()} == counts
    for environment in ("rational", "chain_sum"):
        (estimated,) = query(
            f"SELECT sum(false_negatives) FROM noise_estimates WHERE environment = '{environment}'", synced.root, version="baseline"
        ).to_pydict().values()  # fmt: skip
        assert [sum(here[2] for key, here in counts.items() if key[0] == environment)] == estimated
    fraction = found["rational", "fraction"]
    assert fraction["false_negatives"] > 0 and " vs " in fraction["example"]
    share = fraction["false_negatives"] / (fraction["false_negatives"] + fraction["accepted"])
    assert fraction["false_negative_rate"] == pytest.approx(share, abs=5e-4)


def test_appeals_audits_and_the_cost_of_the_judge_add_up(synced):
    outcomes, costs = asked(synced, "refused_audits"), asked(synced, "sum(judge_calls)")
    judged = [row for row in rows_of(synced, "verdicts") if row["role"] == "judge"]
    assert len(judged) > 20 and {row["verdict"] for row in judged} == {"correct", "wrong", "abstain"}
    assert sum(row["appeals"] + row["audits"] for row in outcomes) == sum(row["calls"] for row in costs) == len(judged)
    silent = sum(row["verdict"] == "abstain" for row in judged)
    assert sum(row["undecided"] for row in outcomes) == sum(row["undecided"] for row in costs) == silent
    assert sum(row["upheld_appeals"] for row in outcomes) == sum(row["upheld"] for row in costs)
    assert {row["answer_format"] for row in outcomes if row["upheld_appeals"]} == {"fraction"}
    assert sum(row["refused_audits"] for row in outcomes) == sum(row["refused_positives"] for row in rows_of(synced, "noise_estimates"))
    assert all(row["tokens"] == 50 * row["calls"] for row in costs)


def test_coverage_by_iteration_counts_intervals_that_hold_the_truth(synced):
    found = {(row["iteration"], row["environment"]): row for row in asked(synced, "AS covered")}
    known = [row for row in rows_of(synced, "noise_estimates") if row["true_false_negative_rate"] is not None]
    assert set(found) == {(0, "rational"), (1, "rational")} == {(row["iteration"], row["environment"]) for row in known}
    for row in known:
        holds = row["false_negative_low"] <= row["true_false_negative_rate"] <= row["false_negative_high"]
        here = found[row["iteration"], "rational"]
        assert (here["estimates"], here["covered"]) == (1, int(holds))
        assert here["truth"] == pytest.approx(row["true_false_negative_rate"], abs=5e-4)


def test_injected_flips_are_those_whose_draw_is_below_the_rate(synced):
    found = asked(synced, "AS rule_says")
    tasks = {row["task_id"]: row["environment"] for row in rows_of(synced, "tasks")}
    own = {row["trajectory_id"]: tasks[row["task_id"]] for row in rows_of(synced, "trajectories")}
    drawn = [row for row in rows_of(synced, "verdicts") if row["noise_draw"] is not None]
    for line in found:
        key = (line["iteration"], line["environment"], line["rule_says"])
        mine = [r["noise_draw"] for r in drawn if (r["iteration"], own[r["trajectory_id"]], r["verdict"]) == key]
        flipped = sum(draw < FLIP[line["rule_says"] == "correct"] for draw in mine)
        assert (line["rows"], line["flipped"]) == (len(mine), flipped)
    assert sum(line["rows"] for line in found) == len(drawn) > 80 and sum(line["flipped"] for line in found) > 5


def test_corrected_advantages_are_the_control_at_another_scale(synced):
    found = asked(synced, "token_cosine")
    for line in found:
        assert line["corrected"] == pytest.approx(line["control"] / DETERMINANT, rel=1e-5)
        assert line["token_cosine"] == 1.0 and line["largest"] >= line["token_difference"] > 0
    kept = [row for row in rows_of(synced, "batches") if row["kept"] and not row["rehearsal"]]
    for k in (0, 1):
        apart = [abs(r["advantage"] - r["control_advantage"]) for r in kept if r["iteration"] == k for _ in r["completion_ids"]]
        assert next(line["token_difference"] for line in found if line["iteration"] == k) == pytest.approx(mean(apart), rel=1e-5)
    assert sum(line["rows"] for line in found) == len(kept)


def test_warnings_are_found_where_the_record_has_them(synced):
    found = asked(synced, "warning IS NOT NULL")
    assert [(row["iteration"], row["environment"], row["warning"]) for row in found] == [(1, "rational", "away from the average")]


def test_pass_at_k_from_samples_is_that_of_the_evaluation(synced, evaluated):
    found = {(row["iteration"], row["environment"], row["split"], row["k"]): row for row in asked(synced, "AS pass_at_k")}
    assert {key[3] for key in found} == {1, 2, 4} and len(found) == 36
    for key, row in found.items():
        expected = evaluated[*key[:3], f"pass@{key[3]}"]
        assert (row["pass_at_k"], row["tasks"]) == (pytest.approx(expected["value"], abs=6e-5), expected["n"]), key


def test_protected_tokens_by_id_and_by_step_are_the_same_tokens(synced):
    by_token, by_step = asked(synced, "AS left_out"), asked(synced, "AS share_of_candidates")
    flags = [
        (protected, kept)
        for row in rows_of(synced, "token_statistics")
        for protected, kept in zip(row["protected"], row["kept"], strict=True)
    ]
    assert len(by_token) == 40 and by_token[0]["protected"] >= by_token[-1]["protected"]
    everything = query(
        "SELECT sum(protected_count) AS protected, sum(tokens) AS tokens FROM updates", synced.root, version="baseline"
    ).to_pylist()[0]  # fmt: skip
    assert everything == {"protected": sum(protected for protected, _ in flags), "tokens": len(flags)}
    assert all(PLAUSIBLE < row["mean_probability"] < RARE for row in by_token if row["protected"])
    assert all(0 < row["share_of_candidates"] < 1 and row["protected"] < row["candidates"] for row in by_step)
    assert all(row["mean_penalty"] == pytest.approx(0.1) for row in by_step)


def test_a_fifth_of_the_tokens_stands_at_the_top_entropies(synced):
    """By hand: the threshold of each iteration, and how often each token is at or above it."""
    found = asked(synced, "AS top_places")
    ids = {row["trajectory_id"]: row["completion_ids"] for row in rows_of(synced, "trajectories")}
    entropies: dict[int, list[tuple[float, int]]] = {}
    for row in rows_of(synced, "token_statistics"):
        entropies.setdefault(row["iteration"], []).extend(zip(row["entropies"], ids[row["trajectory_id"]], strict=True))
    for row in found:
        ordered = sorted(entropies[row["iteration"]])
        top = [token for _, token in ordered[-round(0.2 * len(ordered)):]]
        assert abs(row["top_places"] - top.count(row["token"])) <= 1 and row["top_places"] <= row["occurrences"]
    assert sum(row["top_places"] for row in found) > 20


@pytest.mark.parametrize("marker", ["AS mean_ratio", "GROUP BY iteration, position"])
def test_tokens_that_a_tool_wrote_are_not_counted_as_the_policys(marker):
    row = next(row for row in synthetic_record.trajectories(synthetic_record.tasks(), 0, ("solution",)) if len(row["completion_ids"]) > 4)
    length = len(row["completion_ids"])
    own = row | {"loss_mask": [True, False] + [True] * (length - 2), "sampled_logprobs": [-1.0, 0.0] + [-1.0] * (length - 2)}
    streams = {"logprobs": [-1.0, -9.0] + [-1.0] * (length - 2), "entropies": [1.0, 50.0] + [1.0] * (length - 2)}
    flags = dict.fromkeys(("kept", "protected", "selected"), [False] * length)
    statistics = {key: row[key] for key in ("trajectory_id", "iteration", "round")} | streams | flags
    (sql,) = [sql for sql in QUERIES if marker in sql]
    with duckdb.connect() as connection:
        connection.register("trajectories", to_table("trajectories", [own]))
        connection.register("token_statistics", to_table("token_statistics", [statistics]))
        found = connection.sql(sql).to_arrow_table().to_pylist()
    assert sum(line["tokens"] for line in found) == length - 1
    if marker == "AS mean_ratio":
        assert (found[0]["largest"], found[0]["mean_ratio"]) == (0, 1)
    else:
        assert {line["mean_entropy"] for line in found} == {1.0} and 1 not in {line["position"] for line in found}


def test_presampled_tasks_from_six_right_answers_are_candidates(synced):
    found, rows = asked(synced, "AS recheck_failed"), rows_of(synced, "splits")
    assert sum(row["tasks"] for row in found) == len(rows) == 12
    assert sum(row["confirmed"] for row in found) == sum(bool(row["recheck"]) for row in rows) > 2
    assert sum(row["recheck_failed"] for row in found) == sum(row["recheck"] is False for row in rows)
    assert all(row["candidates"] == (row["tasks"] if row["solved"] >= 6 else 0) for row in found)


def test_zero_variance_groups_agree_with_the_reasons_for_dropping(synced):
    by_group = {row["iteration"]: row["zero_variance"] for row in answers(synced, "zero_variance / groups")}
    dropped = query(
        "SELECT iteration, count(DISTINCT group_id) AS n FROM batches WHERE drop_reason = 'zero_variance' GROUP BY ALL",
        synced.root,
    ).to_pylist()  # fmt: skip
    assert by_group == {row["iteration"]: row["n"] for row in dropped}


def test_effects_of_steps_are_counted_by_marker_and_the_undecided_left_out(synced):
    found = {(row["iteration"], row["marker"]): row for row in asked(synced, "AS ineffective_share", "reasoning")}
    rows = [row for row in rows_of(synced, "steps", "reasoning") if row["decided_before"] and row["decided_after"]]
    assert 20 < len(rows) < len(rows_of(synced, "steps", "reasoning")) and {marker for _, marker in found} == {"wait", "however", "hmm"}
    for (iteration, marker), line in found.items():
        own = [r for r in rows if (r["iteration"], r["marker"].lower()) == (iteration, marker)]
        counts = [sum(r["effect"] == effect for r in own) for effect in ("helpful", "ineffective", "harmful")]
        assert [line["helpful"], line["ineffective"], line["harmful"]] == counts and line["steps"] == len(own)
        assert line["ineffective_share"] == pytest.approx(counts[1] / len(own), abs=6e-4)
        assert line["mean_tokens"] == pytest.approx(mean(r["last_token"] - r["first_token"] + 1 for r in own), abs=0.051)
    assert sum(line["steps"] for line in found.values()) == len(rows)


def test_continuations_of_each_state_have_the_accuracy_of_its_steps(synced):
    found = asked(synced, "AS tokens_kept", "reasoning")
    name = min(row["trajectory_id"] for row in rows_of(synced, "steps", "reasoning"))
    steps = sorted((row for row in rows_of(synced, "steps", "reasoning") if row["trajectory_id"] == name), key=lambda row: row["step"])
    assert [row["state"] for row in found] == list(range(len(steps) + 1))
    for before, after, step in zip(found, found[1:], steps, strict=False):
        for state, end in ((before, "before"), (after, "after")):
            decided = [verdict for verdict in state["verdicts"] if verdict != "abstain"]
            assert len(decided) == step[f"decided_{end}"] and len(state["answers"]) == CONTINUATIONS
            if decided:
                assert decided.count("correct") / len(decided) == step[f"accuracy_{end}"]
        assert (before["effect_of_step"], before["next_marker"]) == (step["effect"], step["marker"])
        assert before["tokens_kept"] == step["first_token"] < after["tokens_kept"] and before["closed"]
    assert found[-1]["effect_of_step"] is None


def test_confusion_of_critics_is_against_the_oracle_of_their_solutions(synced):
    found = {(row["iteration"], row["kind"]): row for row in asked(synced, "AS majority_class", "reasoning")}
    rows = {row["trajectory_id"]: row for row in rows_of(synced, "trajectories", "reasoning")}
    oracle = {row["trajectory_id"]: row for row in rows_of(synced, "verdicts", "reasoning") if row["role"] == "oracle"}
    assert set(found) == {(0, "critique"), (1, "critique"), *((k, "evaluation_critique") for k in range(3))}
    for (iteration, kind), line in found.items():
        own = [row for row in rows.values() if (row["iteration"], row["kind"]) == (iteration, kind) and row["parent_id"] in oracle]
        pairs = [(oracle[row["parent_id"]]["verdict"] == "correct", row["text"] == "\\boxed{1}") for row in own]
        counted = [pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))]
        names = ("right_called_right", "right_called_wrong", "wrong_called_right", "wrong_called_wrong")
        assert [line[name] for name in names] == counted and line["critiques"] == len(own)
        assert line["without_score"] == sum(row["text"] == "no box" for row in own)
        right = sum(counted[:2])
        assert line["majority_class"] == pytest.approx(max(right, len(own) - right) / len(own), abs=6e-4)
        balanced = (counted[0] / right + counted[3] / (len(own) - right)) / 2
        assert line["balanced_accuracy"] == pytest.approx(balanced, abs=6e-4)


def test_contradicted_verdicts_are_those_that_critiques_do_not_share(synced):
    found = asked(synced, "AS contradict\n", "reasoning")
    rows = rows_of(synced, "trajectories", "reasoning")
    rule = {row["trajectory_id"]: row for row in rows_of(synced, "verdicts", "reasoning") if row["role"] == "rule"}
    for line in found:
        said = [row["text"] for row in rows if row["parent_id"] == line["trajectory_id"] and "critique" in row["kind"]]
        seen = "\\boxed{1}" if rule[line["trajectory_id"]]["observed_reward"] == 1 else "\\boxed{-0.5}"
        scored = [text for text in said if text != "no box"]
        assert (line["critiques"], line["contradict"]) == (len(scored), sum(text != seen for text in scored))
        assert line["rule"] == rule[line["trajectory_id"]]["verdict"] != "abstain"
    assert [line["contradict"] for line in found] == sorted((line["contradict"] for line in found), reverse=True)
    assert len(found) == 20 and found[0]["contradict"] == 4


def test_explained_variance_over_tokens_is_that_of_the_values(synced):
    found = {row["iteration"]: row for row in asked(synced, "AS mean_value_loss", "reasoning")}
    kept = [row for row in rows_of(synced, "batches", "reasoning") if row["kept"] and not row["rehearsal"]]
    for k in (0, 1):
        own = [row for row in kept if row["iteration"] == k]
        values = [value for row in own for value in row["token_values"]]
        returns = [value for row in own for value in row["token_returns"]]
        errors = [returned - value for value, returned in zip(values, returns, strict=True)]
        assert found[k]["tokens"] == len(values)
        assert found[k]["explained_variance"] == pytest.approx(1 - pvariance(errors) / pvariance(returns), rel=1e-4)
        assert found[k]["mean_of_steps"] == pytest.approx(found[k]["explained_variance"], abs=0.1)


def test_rewards_of_tokens_add_up_to_outcome_and_steps(synced):
    found = {(row["iteration"], row["kind"]): row for row in asked(synced, "AS largest_left_over", "reasoning")}
    assert set(found) == {(k, kind) for k in (0, 1) for kind in ("solution", "critique")}
    assert all(row["largest_left_over"] < 1e-5 for row in found.values())
    assert all(row["steps"] == 0 == row["mean_of_steps"] for (_, kind), row in found.items() if kind == "critique")
    kept = {row["trajectory_id"] for row in rows_of(synced, "batches", "reasoning") if row["kept"]}
    steps = [row for row in rows_of(synced, "steps", "reasoning") if row["trajectory_id"] in kept]
    assert sum(row["steps"] for row in found.values()) == len(steps) > 20
    assert any(row["reward"] for row in steps)


def test_critiques_and_continuations_say_nothing_of_the_rule(synced):
    """They have verdicts of the rule too, but no answer to a task: neither a task is solved by them, nor does the rule err on them."""
    (never,) = [sql for sql in QUERIES if "AS samples" in sql and "HAVING" in sql]
    rows = rows_of(synced, "trajectories", "reasoning")
    rule = {row["trajectory_id"]: row["verdict"] for row in rows_of(synced, "headline", "reasoning")}
    own = [row for row in rows if row["kind"] in ("solution", "evaluation")]
    solved = {row["task_id"] for row in own if rule[row["trajectory_id"]] == "correct"}
    found = query(never, synced.root, version="reasoning").to_pylist()
    assert {row["task_id"] for row in found} == {row["task_id"] for row in own} - solved
    assert any(rule[row["trajectory_id"]] == "correct" for row in rows if row["task_id"] not in solved)
    (erring,) = [sql for sql in QUERIES if "false_negative_rate," in sql and "truth AS" in sql]
    formats = {row["answer_format"] for row in query(erring, synced.root, version="reasoning").to_pylist()}
    assert formats == {"fraction"}, "critiques have the format text"


def test_schema_page_is_current():
    page = (DOCS / "schema.md").read_text(encoding="utf-8")
    assert page == schema_markdown(METRICS), "run `python docs/make_schema.py`"
