"""The critic: what it starts as, what it learns, that it goes on where it stopped, and what is refused."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from trainer_fixtures import files_of, make_params, make_policy, make_trajectories, make_verdicts, weights_of

from assay.training.assemble import assemble_batch
from assay.training.critic import Critic, CriticModelError, load_critic, stored_values
from assay.training.data import StoredBatch
from assay.training.ragged import Streams
from assay.training.schedule import learning_rate_factor
from assay.training.session import UpdateSession
from assay.training.update import update

PPO = {"advantage": {"type": "generalized"}, "learning_rate": 1e-3}


def params_with(**critic):
    return make_params(training=PPO | {"critic": {"learning_rate": 3e-3} | critic})


def batch_for(model, params, *, seed=0, iteration=0):
    """Rewards that depend on the first token of the prompt, so that there is something for a critic to learn."""
    trajectories = make_trajectories(8, 4, seed=seed, iteration=iteration)
    rewards = [float(ids[0] % 2) for ids in trajectories["prompt_ids"].to_pylist()]
    return assemble_batch(
        trajectories, make_verdicts(trajectories, rewards), params, values_of=lambda streams: stored_values(model, params, streams)
    )


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("critic") / "models/0"
    make_policy(folder / "policy")
    return folder


def run(model, params, out, scratch, *, seed=0, iteration=0):
    trainer = model / "trainer"
    batch = batch_for(model, params, seed=seed, iteration=iteration)
    return update(model / "policy", trainer if trainer.is_dir() else None, batch, params, out=out, scratch=scratch)


def test_an_update_publishes_a_critic_that_explains_more_of_the_returns(start, tmp_path):
    params, model, explained, losses = params_with(steps=4, clip=None), start, [], []
    for k in range(4):
        result = run(model, params, tmp_path / f"models/{k + 1}", tmp_path / "scratch", seed=0, iteration=k)
        rows = result.updates.to_pylist()
        explained.append(np.mean([row["explained_variance"] for row in rows]))
        losses.append(np.mean([row["value_loss"] for row in rows]))
        model = tmp_path / f"models/{k + 1}"
    assert explained[0] == 0 and explained[-1] > 0.3 and losses[-1] < losses[0]
    assert sorted(file.name for file in (model / "critic").iterdir()) == [
        "chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    ]  # fmt: skip
    assert rows[0]["return_mean"] == pytest.approx(0.5, abs=0.3) and rows[0]["critic_gradient_norm"] > 0
    from transformers import AutoModelForTokenClassification

    loaded = AutoModelForTokenClassification.from_pretrained(model / "critic")
    assert loaded.config.num_labels == 1 and loaded.score.weight.abs().sum() > 0


def test_the_policy_learns_the_same_with_whatever_critic_update(start, tmp_path):
    """The advantages are in the batch: how much the critic learns from it touches the next one only."""
    for name, critic in (("a", {"steps": 1}), ("b", {"steps": 3, "learning_rate": 1e-2})):
        run(start, params_with(**critic), tmp_path / name, tmp_path / "scratch")
    assert (tmp_path / "a/policy/model.safetensors").read_bytes() == (tmp_path / "b/policy/model.safetensors").read_bytes()
    assert (tmp_path / "a/critic/model.safetensors").read_bytes() != (tmp_path / "b/critic/model.safetensors").read_bytes()


def test_one_session_over_two_batches_is_two_updates(start, tmp_path):
    params = params_with()
    first = run(start, params, tmp_path / "staged/1", tmp_path / "scratch")
    second = run(tmp_path / "staged/1", params, tmp_path / "staged/2", tmp_path / "scratch", seed=1, iteration=1)
    session = UpdateSession(start / "policy", None, params, scratch=tmp_path / "fused")
    own = [session.run(batch_for(start, params))]
    session.publish(tmp_path / "fused-1")
    trajectories = make_trajectories(8, 4, seed=1, iteration=1)
    rewards = [float(ids[0] % 2) for ids in trajectories["prompt_ids"].to_pylist()]
    live = assemble_batch(trajectories, make_verdicts(trajectories, rewards), params, values_of=session.critic.values)
    assert live == batch_for(tmp_path / "staged/1", params, seed=1, iteration=1)
    own.append(session.run(live))
    session.publish(tmp_path / "fused-2")
    assert [result.updates for result in own] == [first.updates, second.updates]
    assert files_of(tmp_path / "fused-1") == files_of(tmp_path / "staged/1")
    assert files_of(tmp_path / "fused-2") == files_of(tmp_path / "staged/2")


def test_while_the_critic_warms_up_the_policy_stands_still(start, tmp_path):
    params = params_with(warmup_steps=2)
    assert [learning_rate_factor(step, params.training) for step in (0, 1, 2)] == [0.0, 0.0, 1.0]
    run(start, params, tmp_path / "models/1", tmp_path / "scratch")  # two steps
    before, after = weights_of(start / "policy"), weights_of(tmp_path / "models/1/policy")
    assert all(torch.equal(before[name], after[name]) for name in before)
    run(tmp_path / "models/1", params, tmp_path / "models/2", tmp_path / "scratch", seed=1, iteration=1)
    moved = weights_of(tmp_path / "models/2/policy")
    assert any(not torch.equal(before[name], moved[name]) for name in before)
    critics = [weights_of(tmp_path / f"models/{k}/critic") for k in (1, 2)]
    assert any(not torch.equal(critics[0][name], critics[1][name]) for name in critics[0])


def test_a_critic_drops_nothing_out(tmp_path):
    """Models of the hub may have dropout in their configuration: a critic learns around the values that it gave."""
    model, params = tmp_path / "models/0", params_with()
    make_policy(model / "policy", attention_dropout=0.9)
    batch = StoredBatch(batch_for(model, params), max_tokens=6, micro_batch_size=8, processes=1, process=0)
    weights = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        critic = Critic(model, params, Accelerator(cpu=True))
        critic.update(batch)
        weights.append(critic.model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_values_do_not_depend_on_micro_batches(start, tmp_path):
    params = params_with()
    run(start, params, tmp_path / "models/1", tmp_path / "scratch")
    streams = Streams.from_table(make_trajectories(8, 4))
    small = make_params(training=PPO | {"critic": {}, "micro_batch_size": 3})
    one, other = (stored_values(tmp_path / "models/1", own, streams).values for own in (params, small))
    assert one.std() > 0 and np.allclose(one, other, atol=1e-6)


def test_the_value_of_a_token_does_not_know_the_token(start, tmp_path):
    params = params_with()
    run(start, params, tmp_path / "models/1", tmp_path / "scratch")
    rows = make_trajectories(1, 1).to_pylist()[0] | {
        "completion_ids": [5, 6, 7], "loss_mask": [True] * 3, "sampled_logprobs": [-1.0] * 3
    }  # fmt: skip
    schema = make_trajectories(1, 1).schema
    values = []
    for last in (7, 9):
        table = pa.Table.from_pylist([rows | {"completion_ids": [5, 6, last]}], schema=schema)
        values.append(stored_values(tmp_path / "models/1", params, Streams.from_table(table)).values)
    assert values[0].tolist() == values[1].tolist()


def test_a_critic_of_another_kind_is_refused(start, tmp_path):
    params = params_with()
    run(start, params, tmp_path / "models/1", tmp_path / "scratch")
    folder = tmp_path / "models/1"
    config = folder / "critic/config.json"
    content = json.loads(config.read_text())
    for key, value in (("model_type", "llama"), ("vocab_size", 99)):
        config.write_text(json.dumps(content | {key: value}))
        with pytest.raises(CriticModelError, match=f"the critic's {key} is"):
            load_critic(folder / "critic", folder / "policy", params)
    config.write_text(json.dumps(content))
    tokenizer = folder / "critic/tokenizer.json"
    whole = tokenizer.read_bytes()
    tokenizer.write_bytes(whole + b" ")
    with pytest.raises(CriticModelError, match="another tokenizer than the policy"):
        load_critic(folder / "critic", folder / "policy", params)
    tokenizer.write_bytes(whole)
    weights = folder / "critic/model.safetensors"
    whole, headless = weights.read_bytes(), load_file(weights)
    del headless["score.weight"]
    save_file(headless, weights, {"format": "pt"})
    with pytest.raises(CriticModelError, match=r"no critic: it has no weights for score.weight, which would be random"):
        load_critic(folder / "critic", folder / "policy", params)
    weights.write_bytes(whole)
    config.write_text(json.dumps(content)[:-9])
    with pytest.raises(CriticModelError, match=r"config.json cannot be read"):
        load_critic(folder / "critic", folder / "policy", params)
    config.write_text(json.dumps(content))
    (folder / "critic/model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CriticModelError, match="weights cannot be read"):
        load_critic(folder / "critic", folder / "policy", params)


def test_a_critic_cannot_begin_in_the_middle_of_a_run(start, tmp_path):
    plain = make_params(training={"advantage": {"type": "reinforce_plus_plus"}})
    trajectories = make_trajectories(8, 4)
    batch = assemble_batch(trajectories, make_verdicts(trajectories), plain)
    update(start / "policy", None, batch, plain, out=tmp_path / "models/1", scratch=tmp_path / "scratch")
    with pytest.raises(CriticModelError, match="cannot be set in the middle of a run"):
        stored_values(tmp_path / "models/1", params_with(), Streams.from_table(trajectories))


def test_gradient_checkpointing_computes_layers_twice_and_changes_nothing(tmp_path, monkeypatch):
    """Also of a model whose configuration asks for dropout."""
    from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP

    start = tmp_path / "models/0"
    make_policy(start / "policy", attention_dropout=0.5)
    calls, forward, found = [], Qwen3MLP.forward, {}
    monkeypatch.setattr(Qwen3MLP, "forward", lambda self, x: calls.append(1) or forward(self, x))
    for asked in (False, True):
        own = {"critic": {"learning_rate": 3e-3}, "grpo": {"report_to": "none", "gradient_checkpointing": asked}}
        params = make_params(training=PPO | own)
        session = UpdateSession(start / "policy", None, params, scratch=tmp_path / "s")
        session.run(batch_for(start, params))
        assert session.critic.model.config.attention_dropout == 0.0
        assert all(parameter.grad is None for parameter in session.critic.model.parameters())
        calls.clear()
        session.critic.update(session.trainer.batch)
        found[asked] = (len(calls), {name: value.clone() for name, value in session.critic.model.state_dict().items()})
    assert found[True][0] == 2 * found[False][0] > 0
    assert all(torch.equal(value, found[True][1][name]) for name, value in found[False][1].items())


def test_a_killed_update_ends_with_the_same_critic(start, tmp_path):
    params = make_params(training=PPO | {"critic": {"learning_rate": 3e-3}, "steps_per_iteration": 3, "checkpoint_every": 1})
    batch = batch_for(start, params)
    update(start / "policy", None, batch, params, out=tmp_path / "whole", scratch=tmp_path / "one")
    session = UpdateSession(start / "policy", None, params, scratch=tmp_path / "two")

    class Killed(Exception):
        pass

    from transformers import TrainerCallback

    class Kill(TrainerCallback):
        def on_step_end(self, args, state, control, **_others):
            if state.global_step == 2:
                raise Killed

    session.trainer.add_callback(Kill())
    with pytest.raises(Killed):
        session.run(batch)
    update(start / "policy", None, batch, params, out=tmp_path / "resumed", scratch=tmp_path / "two")
    assert files_of(tmp_path / "resumed") == files_of(tmp_path / "whole")
