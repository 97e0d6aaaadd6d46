"""Protocols through the real DVC at scale micro: Knowledge-to-Action in its three phases, and all families mixed in one run."""

import json

import pyarrow.compute as pc
import pytest

from benchmarks.workspace import MICRO, copy_project

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(900)]

PLAIN = {"engine": {"type": "transformers"}}
READ = {"max_steps": 8, "batch_size": 16, "report_every": 4}


def test_a_policy_reads_imitates_and_is_reinforced_and_the_first_two_can_be_left_out(tmp_path):
    run = copy_project(tmp_path / "protocols", MICRO)
    run.set_params(
        environment="protocols", method="score", sampling=PLAIN,
        tasks={"train": 64, "eval": 16, "ood": 8, "demonstrations": 300, "texts": 200},
        warm_start={"batch_size": 16, "check_every": 15, "pretraining": READ},
    )  # fmt: skip
    assert run.repro() == [
        "configure", "generate", "pretrain", "warm_start", "presample", "rollout@0", "verify@0", "filter@0", "update@0", "finish",
        "evaluate", "publish",
    ]  # fmt: skip
    texts = run.table("texts", "data/tasks").to_pylist()
    assert len(texts) == 200 and all(row["environment"] == "bench" and "<" not in row["text"] for row in texts)
    assert json.loads((run.root / "data/pretrained/pretraining.json").read_text())["steps"] == 8

    verdicts = run.table("verdicts", "data/verify/0")
    rule, oracle = (verdicts.filter(pc.equal(verdicts["role"], role)) for role in ("rule", "oracle"))
    assert set(rule["verifier"].to_pylist()) == {"protocol_score"} and rule["observed_reward"].equals(rule["score"])
    assert set(oracle["verifier"].to_pylist()) == {"oracle:protocol_executor"} and len(rule) == len(oracle)
    assert all({"total", "lexical", "steps", "order"} <= json.loads(parts).keys() for parts in rule["components"].to_pylist())
    found = {row["metric"] for row in run.table("evaluations", "data/evaluate").to_pylist()}
    assert {"score", "score_format", "executable_share", "reached_share", "lexical_reward"} <= found
    assert "Protocols" in (run.root / "data/evaluate/report.html").read_text()

    said = run.run("assay", "sql", "--format", "csv", "select count(*) as texts from texts").stdout.split()
    assert said == ["texts", "200"]
    options = {"protocol": {"order": "lcs"}}
    run.set_params(verification=options)  # another reward is another verdict, and nothing is sampled again
    assert run.repro("filter@0") == ["configure", "generate", "presample", "verify@0", "filter@0"]
    versions = set(run.table("verdicts", "data/verify/0")["verifier_version"].to_pylist())
    assert any(version.startswith("1+") for version in versions)
    run.set_params(warm_start={"batch_size": 16, "max_steps": 0, "pretraining": READ})
    assert run.repro("warm_start") == ["configure", "warm_start"]
    assert json.loads((run.root / "models/0/warm_start.json").read_text())["steps"] == 0
    run.set_params(warm_start={"batch_size": 16, "check_every": 15})
    assert run.repro("warm_start") == ["configure", "pretrain", "warm_start"]
    assert not (run.root / "data/pretrained/policy").exists()
