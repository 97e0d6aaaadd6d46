"""The last policy's held-out answers pass the gates before anybody reads them."""

from dataclasses import replace
from importlib import import_module

import pytest

from assay.params.execution import ExecutionParams
from assay.rounds import finish
from assay.trajectories import GateError, read_table, to_table

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
