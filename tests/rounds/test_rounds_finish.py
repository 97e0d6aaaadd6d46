"""The last policy's held-out answers pass the gates before anybody reads them."""

import json
from dataclasses import replace
from importlib import import_module

import pytest

from assay.params.execution import ExecutionParams
from assay.rounds import finish
from assay.rounds.gates import vocabulary_of
from assay.trajectories import GateError, read_table, to_table, write_shard

module = import_module("assay.rounds.finish")  # the package's `finish` is the function


def test_held_out_answers_that_the_rule_could_not_judge_are_not_published_and_a_higher_limit_goes_on(iteration, monkeypatch):
    verify = module.verify

    def crashing(*arguments, **named):
        done = verify(*arguments, **named)
        rows = done.verdicts.to_pylist()
        rows[:2] = [row | {"verdict": "abstain", "reason": "crash", "score": None} for row in rows[:2]]
        return replace(done, verdicts=to_table("verdicts", rows))

    monkeypatch.setattr(module, "verify", crashing)
    places, out, gates = iteration.places, iteration.root / "finish", iteration.root / "gates"

    def run(params):
        finish(params, 1, places.tasks, places.model / "policy", out, places.scratch, ExecutionParams(verifier_workers=1), gates)

    with pytest.raises(GateError, match=r"the rule abstains on at most 0\.05 of the rows"):
        run(iteration.params())
    assert not out.exists()
    assert all((gates / name / "index.html").is_file() for name in ("trajectories", "verdicts"))
    (sampled,) = (places.scratch / "draft").glob("trajectories-0*.parquet")
    written = sampled.stat().st_mtime_ns
    run(iteration.params(verification={"abstain_limit": 0.5}))
    assert (out / sampled.name).stat().st_mtime_ns == written  # not sampled again
    assert len(read_table("trajectories", out)) == 4
    assert read_table("verdicts", out)["verdict"].to_pylist().count("abstain") == 2


def test_token_ids_that_the_policy_cannot_know_are_found(iteration, monkeypatch):
    """An engine that serves another model than the policy's folder holds."""
    places = iteration.places
    size = vocabulary_of(places.model / "policy")
    sample = module.sample_into

    def foreign(sampler, plan, params, folder, *others):
        sample(sampler, plan, params, folder, *others)
        (shard,) = folder.glob("trajectories-0*.parquet")
        rows = read_table("trajectories", shard).to_pylist()
        rows[0]["completion_ids"][0] = size
        write_shard(shard, "trajectories", to_table("trajectories", rows))

    monkeypatch.setattr(module, "sample_into", foreign)
    arguments = (ExecutionParams(verifier_workers=1), iteration.root / "gates")
    with pytest.raises(GateError, match=rf"token ids are from 0 upwards below {size:,} \(1 fail\)"):
        finish(iteration.params(), 1, places.tasks, places.model / "policy", iteration.root / "finish", places.scratch, *arguments)


def test_the_vocabulary_is_that_of_the_language_model_and_unknown_where_nothing_says_it(tmp_path):
    assert vocabulary_of(tmp_path) is None
    for config, size in (
        ({"vocab_size": 7}, 7),
        ({"vocab_size": 7, "text_config": {"vocab_size": 9}}, 9),
        ({"text_config": {"hidden_size": 4}}, None),
        ({}, None),
        ([], None),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert vocabulary_of(tmp_path) == size
