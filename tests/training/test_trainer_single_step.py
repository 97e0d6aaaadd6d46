"""A batch of one optimizer step needs no first pass: its own forward pass says the same."""

import numpy as np
import pytest
from trainer_fixtures import batch_of, make_params, make_policy, weights_of

from assay.training.trainer import TrajectoryTrainer
from assay.training.update import update

ONE_STEP = make_params(training={"steps_per_iteration": 1, "micro_batch_size": 8, "learning_rate": 1e-3, "grpo": {"report_to": "none"}})


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return make_policy(tmp_path_factory.mktemp("policy") / "policy")


def test_statistics_loss_and_weights_are_those_with_a_first_pass(policy, tmp_path, monkeypatch):
    batch = batch_of(ONE_STEP)
    passes = []
    first_pass = TrajectoryTrainer.first_pass
    monkeypatch.setattr(TrajectoryTrainer, "first_pass", lambda self: (passes.append(1), first_pass(self))[1])
    without = update(policy, None, batch, ONE_STEP, out=tmp_path / "without", scratch=tmp_path / "s1")
    assert passes == []
    monkeypatch.setattr(TrajectoryTrainer, "begin_without_first_pass", lambda self: False)
    with_it = update(policy, None, batch, ONE_STEP, out=tmp_path / "with", scratch=tmp_path / "s2")
    assert passes == [1]
    for column in ("logprobs", "entropies"):
        one, two = (np.concatenate(result.token_statistics[column].to_pylist()) for result in (without, with_it))
        assert one == pytest.approx(two, abs=1e-6)
        assert np.abs(one).max() > 0.1
    for column in with_it.updates.column_names:
        one, two = without.updates[column].to_pylist(), with_it.updates[column].to_pylist()
        assert one == (two if None in two else pytest.approx(two, abs=1e-6)), column
    one, two = weights_of(tmp_path / "without/policy"), weights_of(tmp_path / "with/policy")
    assert all(np.allclose(one[name], two[name], atol=1e-6) for name in two)


def test_with_dropout_the_first_pass_stays(policy, tmp_path, monkeypatch):
    params = make_params(training={
        "steps_per_iteration": 1, "lora": {"rank": 2, "alpha": 4, "dropout": 0.5}, "grpo": {"report_to": "none"},
    })  # fmt: skip
    passes = []
    first_pass = TrajectoryTrainer.first_pass
    monkeypatch.setattr(TrajectoryTrainer, "first_pass", lambda self: (passes.append(1), first_pass(self))[1])
    update(policy, None, batch_of(params), params, out=tmp_path / "out", scratch=tmp_path / "s")
    assert passes == [1]
