"""Tasks with tools through the real DVC at scale micro: episodes, states, single turns, rewards; staged, and as one fused round."""

import json
import re
from collections import Counter

import pyarrow.compute as pc
import pytest

from assay.trajectories import query
from benchmarks.workspace import MICRO, ROOT, copy_project

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(900)]

STOPS = (None, "answered", "overlong", "max_turns")
FUSED = ("fused/dvc.yaml",)
TABLES = (
    ("trajectories", "rollout"), ("turns", "rollout"), ("tool_calls", "rollout"), ("verdicts", "verify"), ("batches", "filter"),
    ("updates", "update"),
)  # fmt: skip
SAMPLING = {
    "engine": {"type": "transformers"}, "tasks_per_iteration": 6, "max_tokens": 40, "shard_rows": 32,
    "episodes": {"max_turns": 3, "max_tokens": 320},
}  # fmt: skip


def small(folder):
    """A copy of the project with few tasks with tools."""
    run = copy_project(folder, MICRO)
    run.set_params(
        environment="tools", sampling=SAMPLING, tasks={"train": 24, "eval": 6, "ood": 4, "demonstrations": 160},
        warm_start={"max_steps": 120, "check_every": 60, "batch_size": 16, "check_tasks": 8, "target": 0.9},
        policy={"shape": {"hidden_size": 48}}, evaluation={"samples": 2, "pass_at": [1, 2]}, fused={"rounds": 1},
    )  # fmt: skip
    return run


@pytest.mark.long  # more than a minute; tests/rollouts plays episodes with both engines
def test_turns_train(tmp_path):
    run = small(tmp_path / "tools")
    ran = run.repro()
    assert ran == [
        "configure", "generate", "pretrain", "warm_start", "presample", "rollout@0", "verify@0", "filter@0", "update@0", "finish",
        "evaluate", "publish",
    ]  # fmt: skip
    shown = run.table("demonstrations", "data/tasks").to_pylist()
    assert all(row["turns"][0]["role"] == row["turns"][-1]["role"] == "assistant" for row in shown)
    assert all(row["turns"][-1]["content"] == row["completion"] for row in shown) and len(shown) == 160

    rows, turns = run.table("trajectories", "data/rollout/0").to_pylist(), run.table("turns", "data/rollout/0").to_pylist()
    kinds = Counter(row["kind"] for row in rows)
    played = {row["trajectory_id"] for row in rows if row["kind"] == "episode"}
    before, cut = (sum(turn["trajectory_id"] in played and turn["stop"] in stops for turn in turns) for stops in (STOPS, STOPS[-1:]))
    states = len({row["group_id"] for row in rows if row["kind"] == "solution"})
    assert kinds == {"episode": 6, "evaluation": 20, "solution": 4 * states} and 6 <= before <= states <= before + cut
    assert len(run.table("trajectories", "data/finish")) == 20
    verdicts = run.table("verdicts", "data/verify/0")
    rule = verdicts.filter(pc.equal(verdicts["role"], "rule"))
    assert set(rule["verifier"].to_pylist()) == {"tool_use"} and rule["observed_reward"].equals(rule["score"])
    batch = run.table("batches", "data/filter/0").to_pylist()
    assert len(batch) == kinds["solution"] and {row["reward"] for row in batch} > {0.0}
    found = {(row["metric"], row["split"]) for row in run.table("evaluations", "data/evaluate").to_pylist()}
    assert {("solve_f1", "eval"), ("solve_f1", "ood"), ("solve_p_strict", "eval"), ("solve_r:multi_hop", "eval")} <= found
    metrics = json.loads((run.root / "data/evaluate/metrics.json").read_text())
    assert 0 <= metrics["last"]["eval"]["solve_f1"] <= 1
    report = (run.root / "data/evaluate/report.html").read_text()
    assert "How episodes end" in report and "One episode" in report

    question = "select count(*) as turns, sum(calls) as calls from turns join trajectories using (trajectory_id) where kind = 'solution'"
    answer = run.run("assay", "sql", "--format", "csv", question).stdout.split()
    assert answer[0] == "turns,calls" and answer[1].split(",")[0] == str(kinds["solution"])
    page = (ROOT / "docs/sql.md").read_text().split("## What do tools find?")[1].split("\n## ")[0]
    queries = re.findall(r"```sql\n(.*?)```", page, flags=re.DOTALL)
    assert len(queries) == 4 and all(query(sql, run.root).num_rows > 0 for sql in queries)
    replayed = run.run("assay", "verify", "--replay", "data/rollout/0").stdout
    assert f"rule: {len(rows)} of {len(rows)} verdicts are identical" in replayed


@pytest.mark.long  # tests/rollouts/test_rollouts_episodes.py has episodes without DVC
def test_a_fused_round_of_episodes_is_a_staged_iteration(tmp_path):
    run = small(tmp_path / "tools")
    run.repro()
    assert "train@0" in [name.removeprefix("fused/dvc.yaml:") for name in run.repro(*FUSED)]
    for name, stage in TABLES:
        assert run.table(name, "data/fused/train/0") == run.table(name, f"data/{stage}/0"), name
    staged, fused = (run.root / folder / "1/policy/model.safetensors" for folder in ("models", "models/fused"))
    assert staged.read_bytes() == fused.read_bytes()


@pytest.mark.long
def test_another_reward_verifies_again_and_whole_episodes_are_one_parameter(tmp_path):
    run = small(tmp_path / "tools")
    run.repro("filter@0")
    run.set_params(verification={"tool_use": {"variant": "recall"}})  # another reward is another verdict; nothing is played again
    assert run.repro("filter@0") == ["configure", "verify@0", "filter@0"]
    assert {version.partition("+")[0] for version in run.table("verdicts", "data/verify/0")["verifier_version"].to_pylist()} >= {"1"}
    run.set_params(sampling={**SAMPLING, "episodes": {"unit": "episode", "max_turns": 3, "max_tokens": 320}})
    assert "rollout@0" in run.repro("update@0")
    whole = run.table("batches", "data/filter/0").to_pylist()
    assert len(whole) == 6 * 4 and any(not all(row["loss_mask"]) for row in whole)
