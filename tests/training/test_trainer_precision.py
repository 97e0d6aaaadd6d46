"""Half precision: policies that are published in it, arithmetic in it, and adapters that are merged in it."""

import os

import numpy as np
import pytest
import torch
from trainer_fixtures import LORA, batch_of, close, files_of, make_params, make_policy, weights_of
from transformers import AutoModelForCausalLM

from assay.training import forward
from assay.training.policies import merged_weights
from assay.training.ragged import Streams
from assay.training.reference import compute_logprobs
from assay.training.session import UpdateSession
from assay.training.trl_surface import StoredTrainer
from assay.training.update import update


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A policy in bfloat16: it is trained under autocast, unless the parameters say otherwise."""
    return make_policy(tmp_path_factory.mktemp("short") / "policy", dtype="bfloat16")


def test_first_pass_under_autocast_is_what_the_reference_computes(short, tmp_path):
    params = make_params(training={"steps_per_iteration": 1, "micro_batch_size": 256, "grpo": {"report_to": "none"}})
    batch = batch_of(params)
    result = update(short, None, batch, params, out=tmp_path / "next", scratch=tmp_path / "s")
    found = np.concatenate(result.token_statistics["logprobs"].to_pylist())
    assert found == pytest.approx(compute_logprobs(short, Streams.from_table(batch), params).values, abs=1e-6)
    exact = make_params(training={"grpo": {"report_to": "none", "bf16": False}})
    gap = np.abs(found - compute_logprobs(short, Streams.from_table(batch), exact).values).max()
    assert 1e-4 < gap < 0.2, "bfloat16 has 8 bits: less than its rounding would mean that it was not used"


@pytest.mark.parametrize("lora", [None, LORA])
def test_two_updates_under_autocast_are_one_continuous_run(short, tmp_path, lora):
    params = make_params(training={"micro_batch_size": 5, "learning_rate": 3e-3, "lora": lora, "grpo": {"report_to": "none"}})
    first, second = batch_of(params, seed=1), batch_of(params, seed=2, iteration=1)
    session = UpdateSession(short, None, params, scratch=tmp_path / "s0")
    session.run(first)
    at_once = session.run(second)
    session.publish(tmp_path / "at_once")
    update(short, None, first, params, out=tmp_path / "1", scratch=tmp_path / "s1")
    result = update(tmp_path / "1/policy", tmp_path / "1/trainer", second, params, out=tmp_path / "2", scratch=tmp_path / "s2")
    assert files_of(tmp_path / "2") == files_of(tmp_path / "at_once")
    assert result.updates.equals(at_once.updates)
    assert not close(weights_of(tmp_path / "2/policy"), weights_of(short), 1e-3)


def test_logits_stay_short_and_that_changes_nothing(short, tmp_path, monkeypatch):
    """accelerate would copy them to float32: the same numbers in twice the memory, and their gradient too."""
    params = make_params(training={"learning_rate": 3e-3, "grpo": {"report_to": "none"}})
    types = []
    usual = forward.likelihood_and_entropy

    def watched(logits, *arguments, **options):
        types.append(logits.dtype)
        return usual(logits, *arguments, **options)

    monkeypatch.setattr(forward, "likelihood_and_entropy", watched)
    update(short, None, batch_of(params), params, out=tmp_path / "a", scratch=tmp_path / "s")
    assert set(types) == {torch.bfloat16}
    monkeypatch.setattr(StoredTrainer, "keep_logits_short", lambda trainer: None)
    update(short, None, batch_of(params), params, out=tmp_path / "b", scratch=tmp_path / "s")
    assert set(types) == {torch.bfloat16, torch.float32}
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merged_adapter_is_the_adapted_model(tmp_path, dtype):
    policy = make_policy(tmp_path / "policy", dtype=dtype)
    grpo = {"report_to": "none", "bf16": False}
    params = make_params(training={"lora": {**LORA, "dropout": 0.0}, "learning_rate": 0.02, "grpo": grpo})
    session = UpdateSession(policy, None, params, scratch=tmp_path / "scratch")
    session.run(batch_of(params))
    session.publish(tmp_path / "next")
    trained = session.trainer.accelerator.unwrap_model(session.trainer.model).eval()
    ids = torch.arange(2, 30).reshape(2, 14)
    with torch.no_grad():
        adapted = trained(input_ids=ids).logits
        before = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)(input_ids=ids).logits
        published = AutoModelForCausalLM.from_pretrained(tmp_path / "next/policy")
        assert published.dtype == getattr(torch, dtype)
        merged = published.float()(input_ids=ids).logits
    assert (adapted - before).abs().max() > 0.05, "the adapter must have learned something to be a test"
    assert torch.allclose(merged, adapted, atol=1e-5 if dtype == "float32" else 0.1)
    by_peft = trained.merge_and_unload().state_dict()
    expected = {name: by_peft[name].to(getattr(torch, dtype)) for name in weights_of(tmp_path / "next/policy")}
    assert close(weights_of(tmp_path / "next/policy"), expected, 0)
    assert files_of(tmp_path / "next/trainer/base")["model.safetensors"] == (policy / "model.safetensors").read_bytes()


def test_the_base_of_an_adapter_is_stored_once(short, tmp_path, monkeypatch):
    params = make_params(training={"lora": LORA, "grpo": {"report_to": "none"}})
    (tmp_path / "0").mkdir()
    (tmp_path / "0/policy").symlink_to(short)
    update(tmp_path / "0/policy", None, batch_of(params), params, out=tmp_path / "1", scratch=tmp_path / "s")
    before, after = short / "model.safetensors", tmp_path / "1/trainer/base/model.safetensors"
    assert after.samefile(before) and not after.is_symlink()
    update(tmp_path / "1/policy", tmp_path / "1/trainer", batch_of(params, seed=1), params, out=tmp_path / "2", scratch=tmp_path / "s")
    assert (tmp_path / "2/trainer/base/model.safetensors").samefile(before)

    def refused(*_names):
        raise OSError(18, "Invalid cross-device link")

    for name, one in (("link", refused), ("access", lambda path, mode: False)):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, one)
            update(short, None, batch_of(params), params, out=tmp_path / name, scratch=tmp_path / "s")
        assert files_of(tmp_path / name) == files_of(tmp_path / "1")
        assert not (tmp_path / name / "trainer/base/model.safetensors").samefile(before)


@pytest.mark.parametrize(("rate", "least", "most", "warned"), [(1e-6, 0.0, 0.5, True), (1e-2, 0.95, 1.05, False)])
def test_what_rounding_leaves_of_an_adapter_is_said(short, tmp_path, capsys, rate, least, most, warned):
    """Measured by hand from what was published; the rate of a pretrained model is too small for an adapter."""
    params = make_params(training={"learning_rate": rate, "lora": {**LORA, "dropout": 0.0}, "grpo": {"report_to": "none"}})
    lines = []
    session = UpdateSession(short, None, params, scratch=tmp_path / "s", progress=lines.append)
    for k in (1, 2):
        session.run(batch_of(params, seed=k))
        session.publish(tmp_path / str(k))
    before, published = weights_of(short), weights_of(tmp_path / "2/policy")
    exact = merged_weights(session.trainer.accelerator.unwrap_model(session.trainer.model))
    changes = [(exact[name] - before[name].float(), published[name].float() - before[name].float()) for name in published if "proj" in name]
    share = sum(float((a * b).sum()) for a, b in changes) / sum(float((a * a).sum()) for a, _ in changes)
    assert least <= share < most
    assert f"adapter: {share:.0%} of its change is left in the published weights (bfloat16)" in lines
    assert capsys.readouterr().out.count("warning: ") == warned, "once a session"


def test_small_steps_survive_a_policy_in_half_precision(tmp_path):
    """Steps of 1e-5 vanish in bfloat16's 8 bits: the trainer state keeps the exact weights."""
    policy = make_policy(tmp_path / "policy", dtype="bfloat16")
    params = make_params(training={"learning_rate": 1e-5, "grpo": {"report_to": "none", "bf16": False}})
    before, state = policy, None
    for k in (1, 2):
        update(before, state, batch_of(params, seed=k), params, out=tmp_path / str(k), scratch=tmp_path / "s")
        before, state = tmp_path / f"{k}/policy", tmp_path / f"{k}/trainer"
    start, exact = weights_of(policy), weights_of(tmp_path / "2/trainer/weights")
    moved = max((exact[name] - start[name].float()).abs().max().item() for name in exact)
    assert moved == pytest.approx(4e-5, rel=0.2)
    for name, value in weights_of(tmp_path / "2/policy").items():
        assert value.dtype == torch.bfloat16 and torch.equal(value, exact[name].bfloat16())
