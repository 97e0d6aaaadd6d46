"""Protocols through the real DVC at scale micro: Knowledge-to-Action in its three phases, and all families mixed in one run."""

import json

import pyarrow.compute as pc
import pytest

from benchmarks.workspace import MICRO, copy_project

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(900)]

PLAIN = {"engine": {"type": "transformers"}}
READ = {"max_steps": 8, "batch_size": 16, "report_every": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = copy_project(tmp_path_factory.mktemp("protocols") / "protocols", MICRO)
    run.set_params(
        environment="protocols", method="score", sampling=PLAIN,
        tasks={"train": 64, "eval": 16, "ood": 8, "demonstrations": 300, "texts": 200},
        warm_start={"batch_size": 16, "check_every": 15, "pretraining": READ},
    )  # fmt: skip
    return run


def test_a_policy_reads_imitates_and_is_reinforced(run):
    assert run.repro("filter@0") == [
        "configure", "generate", "pretrain", "warm_start", "presample", "rollout@0", "verify@0", "filter@0",
    ]  # fmt: skip
    texts = run.table("texts", "data/tasks").to_pylist()
    assert len(texts) == 200 and all(row["environment"] == "bench" and "<" not in row["text"] for row in texts)
    assert json.loads((run.root / "data/pretrained/pretraining.json").read_text())["steps"] == 8

    verdicts = run.table("verdicts", "data/verify/0")
    rule, oracle = (verdicts.filter(pc.equal(verdicts["role"], role)) for role in ("rule", "oracle"))
    assert set(rule["verifier"].to_pylist()) == {"protocol_score"} and rule["observed_reward"].equals(rule["score"])
    assert set(oracle["verifier"].to_pylist()) == {"oracle:protocol_executor"} and len(rule) == len(oracle)
    assert all({"total", "lexical", "steps", "order"} <= json.loads(parts).keys() for parts in rule["components"].to_pylist())


@pytest.mark.long
def test_it_is_evaluated_the_reward_is_changed_without_sampling_and_the_first_two_phases_can_be_left_out(run):
    assert run.repro()[-1] == "publish"
    found = {row["metric"] for row in run.table("evaluations", "data/evaluate").to_pylist()}
    assert {"score", "score_format", "executable_share", "score_lexical"} <= found
    assert "Protocols" in (run.root / "data/evaluate/report.html").read_text()

    said = run.run("assay", "sql", "--format", "csv", "select count(*) as texts from texts").stdout.split()
    assert said == ["texts", "200"]
    options = {"protocol": {"order": "lcs"}}
    run.set_params(verification=options)  # another reward is another verdict, and nothing is sampled again
    assert run.repro("filter@0") == ["configure", "generate", "presample", "verify@0", "filter@0"]
    versions = set(run.table("verdicts", "data/verify/0")["verifier_version"].to_pylist())
    assert any("+" in version for version in versions)
    run.set_params(warm_start={"batch_size": 16, "max_steps": 0, "pretraining": READ})
    assert run.repro("warm_start") == ["configure", "warm_start"]
    assert json.loads((run.root / "models/0/warm_start.json").read_text())["steps"] == 0
    run.set_params(warm_start={"batch_size": 16, "check_every": 15})
    assert run.repro("warm_start") == ["configure", "pretrain", "warm_start"]
    assert not (run.root / "data/pretrained/policy").exists()


@pytest.mark.long
def test_families_are_mixed_by_weight_judged_each_by_its_own_verifier_and_evaluated_apart(tmp_path):
    run = copy_project(tmp_path / "mixed", MICRO)
    (run.root / "data/raw/words.csv").write_text("prompt,gold\n" + "".join(f"word {n},{'ab'[n % 2]}{n}\n" for n in range(60)))
    own = {"words": {"type": "dataset", "path": "data/raw/words.csv", "verifier": "string_match", "share": 1}}
    run.set_params(
        environment="mixed", environments=own, sampling=PLAIN | {"tasks_per_iteration": 27},
        tasks={"train": 90, "eval": 27, "ood": 8, "demonstrations": 300}, warm_start={"batch_size": 16, "check_every": 15},
    )  # fmt: skip
    assert run.repro()[-1] == "publish"
    tasks = run.table("tasks", "data/tasks")
    names = {"rational": 30, "chain_sum": 10, "sql": 20, "bench": 20, "words": 10}
    counted = tasks.filter(pc.equal(tasks["split"], "train"))["environment"].value_counts().to_pylist()
    assert {row["values"]: row["counts"] for row in counted} == names

    environment = dict(zip(*(tasks[name].to_pylist() for name in ("task_id", "environment")), strict=True))
    sampled = run.table("trajectories", "data/rollout/0")
    task_of = dict(zip(*(sampled[name].to_pylist() for name in ("trajectory_id", "task_id")), strict=True))
    asked: dict[tuple[str, str], set[str]] = {}
    for row in run.table("verdicts", "data/verify/0").to_pylist():
        asked.setdefault((environment[task_of[row["trajectory_id"]]], row["role"]), set()).add(row["verifier"])
    assert {name: asked[name, "rule"] for name in names} == {
        "rational": {"string_match"}, "chain_sum": {"reasoning_gym"}, "sql": {"sql_execution"}, "bench": {"protocol_score"},
        "words": {"string_match"},
    }  # fmt: skip
    assert {name: asked[name, "reference"] for name in names} == {
        "rational": {"math_verify"}, "chain_sum": {"math_verify"}, "sql": {"none"}, "bench": {"none"}, "words": {"math_verify"},
    }  # fmt: skip
    assert asked["bench", "oracle"] == {"oracle:protocol_executor"} and asked["words", "oracle"] == {"none"}
    rows = run.table("evaluations", "data/evaluate").to_pylist()
    apart = {row["environment"]: row["n"] for row in rows if row["metric"] == "pass@1" and row["split"] == "eval" and row["iteration"] == 1}
    assert apart == {"all": 27, "rational": 9, "chain_sum": 3, "sql": 6, "bench": 6, "words": 3}
    assert {row["environment"] for row in rows if row["metric"] == "score"} == {"all", "bench"}
    trained = run.table("batches", "data/filter/0")
    assert {environment[task_of[name]] for name in trained["trajectory_id"].to_pylist()} == set(names)


@pytest.mark.long
def test_tasks_with_tools_are_mixed_with_those_that_are_answered_at_once(tmp_path):
    run = copy_project(tmp_path / "mixed", MICRO)
    (run.root / "data/raw/words.csv").write_text("prompt,gold\n" + "".join(f"word {n},{'ab'[n % 2]}{n}\n" for n in range(60)))
    own = {"words": {"type": "dataset", "path": "data/raw/words.csv", "verifier": "string_match", "share": 1}}
    run.set_params(
        environment="mixed_all", environments=own, sampling=PLAIN | {"tasks_per_iteration": 33},
        tasks={"train": 55, "eval": 11, "ood": 8, "demonstrations": 330}, warm_start={"batch_size": 16, "check_every": 15},
        evaluation={"samples": 2, "pass_at": [1, 2]}, fused={"rounds": 1},
    )  # fmt: skip
    assert run.repro()[-1] == "publish"
    tasks = run.table("tasks", "data/tasks")
    shares = {"rational": 3, "chain_sum": 1, "sql": 2, "bench": 2, "tools": 2, "words": 1}
    counted = tasks.filter(pc.equal(tasks["split"], "train"))["environment"].value_counts().to_pylist()
    assert {row["values"]: row["counts"] for row in counted} == {name: 5 * share for name, share in shares.items()}

    environment = dict(zip(*(tasks[name].to_pylist() for name in ("task_id", "environment")), strict=True))
    sampled = run.table("trajectories", "data/rollout/0")
    of = {row["trajectory_id"]: (environment[row["task_id"]], row["kind"]) for row in sampled.to_pylist()}
    kinds = {name: {kind for family, kind in of.values() if family == name} for name in shares}
    assert kinds["tools"] == {"episode", "solution", "evaluation"}
    assert all(kinds[name] == {"solution", "evaluation"} for name in shares if name != "tools")
    turns = run.table("turns", "data/rollout/0")["trajectory_id"].to_pylist()
    assert turns and {of[name][0] for name in turns} == {"tools"}  # all others are answered at once

    judged: dict[str, set[str]] = {}
    for row in run.table("verdicts", "data/verify/0").to_pylist():
        if row["role"] == "rule":
            judged.setdefault(of[row["trajectory_id"]][0], set()).add(row["verifier"])
    assert judged == {
        "rational": {"string_match"}, "chain_sum": {"reasoning_gym"}, "sql": {"sql_execution"}, "bench": {"protocol_score"},
        "tools": {"tool_use"}, "words": {"string_match"},
    }  # fmt: skip
    trained = [of[name] for name in run.table("batches", "data/filter/0")["trajectory_id"].to_pylist()]
    assert {name for name, _ in trained} == set(shares) and {kind for _, kind in trained} == {"solution"}  # episodes only find states
    rows = run.table("evaluations", "data/evaluate").to_pylist()
    apart = {row["environment"]: row["n"] for row in rows if row["metric"] == "pass@1" and row["split"] == "eval" and row["iteration"] == 1}
    assert apart == {"all": 11} | shares
    assert {row["environment"] for row in rows if row["metric"] == "solve_f1"} == {"all", "tools"}
    assert {row["environment"] for row in rows if row["metric"] == "score"} == {"all", "bench"}
    report = (run.root / "data/evaluate/report.html").read_text()
    assert "How episodes end" in report and "Protocols" in report
    run.repro("fused/dvc.yaml:train@0")
    for table, stage in (("trajectories", "rollout"), ("turns", "rollout"), ("verdicts", "verify"), ("batches", "filter")):
        assert run.table(table, "data/fused/train/0") == run.table(table, f"data/{stage}/0"), table
