"""Lp-Reg, the 80/20 rule and the other surrogates through the trainer: against formulas written out, and off against the baseline."""

import numpy as np
import pytest
import torch
from test_trainer_equivalence import AGGREGATIONS, REWARDS, assert_equal, options, ours, stock
from trainer_fixtures import batch_of, files_of, make_params, make_policy, make_trajectories, make_verdicts, weights_of
from transformers import AutoModelForCausalLM

from assay.training import first_pass
from assay.training.assemble import assemble_batch
from assay.training.session import UpdateSession
from assay.training.update import update

KAPPA, FRACTION = 0.02, 0.6


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return make_policy(tmp_path_factory.mktemp("policy") / "policy")


@pytest.fixture(scope="module")
def trajectories():
    return make_trajectories(4, 4, temperature=0.8)


def logits_of(model, row):
    prompt, ids = row["prompt_ids"], row["completion_ids"]
    whole = torch.log_softmax(model(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1], -1)
    return whole, whole[torch.arange(len(ids)), torch.tensor(ids)]


@pytest.mark.parametrize("form", ["sampled_k3", "forward_kl"])
@pytest.mark.parametrize("micro_batch_size", [3, 256])
def test_two_steps_of_lp_reg_are_those_of_a_plain_loop(policy, tmp_path, form, micro_batch_size):
    """Threshold, target and support come from the policy before the first step; the second step is off-policy."""
    params = make_params(training={
        "steps_per_iteration": 2, "learning_rate": 0.02, "max_gradient_norm": 1e9, "micro_batch_size": micro_batch_size,
        "loss": {"cap": 1.5, "aggregation": "token_mean"}, "importance": {"mode": "off"},
        "lp_reg": {"kappa": KAPPA, "fraction": FRACTION, "coefficient": 2.0, "form": form}, "grpo": {"report_to": "none"},
    })  # fmt: skip
    batch = batch_of(params, groups=7)
    result = update(policy, None, batch, params, out=tmp_path / "next", scratch=tmp_path / "s")

    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, betas=(0.9, 0.999), weight_decay=0.0)
    rows = batch.filter(batch["kept"]).to_pylist()
    with torch.no_grad():
        before = [logits_of(model, row) for row in rows]
    delta = torch.quantile(torch.cat([own for _, own in before]).double().exp(), FRACTION)
    protected = held = 0
    marked: list[list[bool]] = []
    for step in (0, 1):
        own = [(row, old) for row, old in zip(rows, before, strict=True) if row["step"] == step]
        tokens = sum(len(row["completion_ids"]) for row, _ in own)
        loss, penalties, number = torch.zeros(()), torch.zeros(()), 0
        for row, (whole, old) in own:
            full, now = logits_of(model, row)
            advantage = row["advantage"]
            loss = loss - ((now - old).exp().clamp(max=1.5) * advantage).sum()
            kept = whole.exp() > KAPPA * whole.exp().amax(-1, keepdim=True)
            z = torch.where(kept, whole.exp(), torch.zeros(())).sum(-1)
            own_kept = kept[torch.arange(len(now)), torch.tensor(row["completion_ids"])]
            target = old - z.log()
            chosen = (now.detach().double().exp() < delta) & own_kept & (now.detach() < target) & (advantage < 0)
            k = target - now
            if form == "sampled_k3":
                values = k.exp() - k - 1
            else:
                proxy = torch.where(kept, whole.exp() / z.unsqueeze(-1), torch.zeros(()))
                values = (torch.where(kept, proxy * (proxy.clamp(min=1e-30).log() - full), torch.zeros(()))).sum(-1)
            penalties = penalties + values[chosen].sum()
            if step == 0:
                marked.append(chosen.tolist())
            number += int(chosen.sum())
        total = (loss + 2.0 * penalties) / tokens
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        found = result.updates.slice(step, 1).to_pylist()[0]
        assert found["loss"] == pytest.approx(total.item(), abs=2e-5)
        assert found["protected_count"] == number
        assert found["protected_sum"] == pytest.approx(penalties.item(), abs=1e-4)
        assert found["low_probability_threshold"] == pytest.approx(delta.item(), rel=1e-5)
        protected += number
        held += number if step == 0 else 0
    assert protected > 10
    weights = weights_of(tmp_path / "next/policy")
    for name, parameter in model.named_parameters():
        if name in weights:
            assert torch.allclose(parameter, weights[name], atol=2e-4), name
    stored = result.token_statistics
    first = [row for row, step in zip(stored["protected"].to_pylist(), [row["step"] for row in rows], strict=True) if step == 0]
    assert first == marked[: len(first)] or sorted(first) == sorted(marked)
    assert sum(map(sum, first)) == held
    assert {len(row) for row in stored["kept"].to_pylist()} == {len(row["completion_ids"]) for row in rows}


def test_a_part_of_the_batch_in_any_micro_batches_protects_the_same_tokens(policy, tmp_path):
    found = []
    for size in (2, 5, 256):
        params = make_params(training={
            "micro_batch_size": size, "lp_reg": {"kappa": KAPPA, "fraction": FRACTION}, "loss": {"cap": 10},
            "top_entropy": {"fraction": 0.3}, "grpo": {"report_to": "none"},
        })  # fmt: skip
        result = update(policy, None, batch_of(params), params, out=tmp_path / str(size), scratch=tmp_path / f"s{size}")
        found.append([result.token_statistics[name].to_pylist() for name in ("protected", "selected", "kept")])
    assert found[0] == found[1] == found[2]
    assert all(any(map(any, lists)) for lists in found[0])


OFF = {
    "fraction 1 of tokens by entropy": {"top_entropy": {"fraction": 1.0}},
    "Lp-Reg of weight 0": {"lp_reg": {"coefficient": 0.0, "fraction": 1.0}},
    "nothing protected": {"lp_reg": {"fraction": 1e-9, "kappa": 0.0}},
    "a rehearsal of weight 0": {"rehearsal": {"coefficient": 0.0}},
}


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", OFF)
def test_an_option_that_is_off_changes_no_bit(policy, tmp_path, name, steps):
    base = {"loss": {"clip_high": 0.28}, "learning_rate": 5e-3, "grpo": {"report_to": "none"}}
    weights = []
    for number, extra in enumerate(({}, OFF[name])):
        params = make_params(training={**base, **extra, "steps_per_iteration": steps}, presample={"enabled": True})
        batch = batch_of(params)
        update(policy, None, batch, params, out=tmp_path / f"out{number}", scratch=tmp_path / f"s{number}")
        weights.append(files_of(tmp_path / f"out{number}/policy"))
    assert weights[0] == weights[1]


@pytest.mark.parametrize("scope", ["batch", "micro_batch"])
def test_one_step_of_the_80_20_rule_over_all_tokens_is_that_of_an_unmodified_trainer(policy, trajectories, tmp_path, scope):
    expected = stock(policy, trajectories, tmp_path, loss_type="dapo", top_entropy_quantile=0.2)
    rule = {"fraction": 0.2, "normalisation": "all", "scope": scope, "exclude_zero_advantage": False}
    params = options(top_entropy=rule, micro_batch_size=256)
    batch = assemble_batch(trajectories, make_verdicts(trajectories, REWARDS), params)
    assert_equal(ours(policy, batch, params, tmp_path / scope), expected)


def test_dividing_by_selected_tokens_is_the_same_loss_times_all_over_selected(policy, trajectories, tmp_path):
    """Version 2 against version 1 of the paper."""
    found = {}
    for normalisation in ("selected", "all"):
        params = options(top_entropy={"normalisation": normalisation, "exclude_zero_advantage": False}, micro_batch_size=3)
        batch = assemble_batch(trajectories, make_verdicts(trajectories, REWARDS), params)
        session = UpdateSession(policy, None, params, scratch=tmp_path / normalisation)
        found[normalisation] = session.run(batch).updates.to_pylist()[0]
    row = found["selected"]
    assert 0.2 <= row["selected_share"] < 0.3 and row["selected_tokens"] == row["selected_share"] * row["tokens"]
    assert row["loss"] == pytest.approx(found["all"]["loss"] * row["tokens"] / row["selected_tokens"], rel=1e-5)
    assert row["policy_token_sum"] == pytest.approx(found["all"]["policy_token_sum"], rel=1e-5)  # whatever the normalisation
    assert row["policy_loss"] == pytest.approx(row["policy_token_sum"] / row["selected_tokens"], rel=1e-5)
    assert row["policy_sum"] / row["policy_count"] == pytest.approx(row["policy_loss"])
    assert row["selected_entropy"] > row["entropy"]


def test_top_and_bottom_divide_the_tokens_that_have_an_advantage(policy, trajectories, tmp_path):
    masks = []
    for part, fraction in (("top", 0.2), ("bottom", 0.8)):
        params = options(top_entropy={"part": part, "fraction": fraction})
        batch = assemble_batch(trajectories, make_verdicts(trajectories, REWARDS), params)
        session = UpdateSession(policy, None, params, scratch=tmp_path / part)
        masks.append(np.concatenate(session.run(batch).token_statistics["selected"].to_pylist()))
    advantages = np.repeat(batch["advantage"].to_numpy(), [len(row) for row in batch["completion_ids"].to_pylist()])
    assert (masks[0] ^ masks[1] == (advantages != 0)).all()
    assert masks[0].any() and (advantages == 0).any()


def test_gspo_is_the_sequence_ratio_of_an_unmodified_trainer(policy, trajectories, tmp_path):
    expected = stock(policy, trajectories, tmp_path, loss_type="grpo", importance_sampling_level="sequence")
    params = options(loss={"ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4, "aggregation": "sequence_mean"})
    batch = assemble_batch(trajectories, make_verdicts(trajectories, REWARDS), params)
    assert_equal(ours(policy, batch, params, tmp_path), expected)


@pytest.mark.parametrize("loss", [{"ratio": "sequence"}, {"cap": 10}, {"kl_cov": {"fraction": 0.1}}])
def test_every_surrogate_is_plain_policy_gradient_at_the_first_step(policy, trajectories, tmp_path, loss):
    """The ratio is 1 there, so that no clip and no penalty acts."""
    expected = stock(policy, trajectories, tmp_path, loss_type="grpo")
    params = options(loss={**loss, "aggregation": next(name for key, name in AGGREGATIONS.items() if key == "grpo")})
    batch = assemble_batch(trajectories, make_verdicts(trajectories, REWARDS), params)
    assert_equal(ours(policy, batch, params, tmp_path), expected)


def test_an_update_with_statistics_of_the_batch_goes_on_where_it_was_stopped(policy, tmp_path):
    class Stop(Exception):
        pass

    params = make_params(training={
        "steps_per_iteration": 4, "checkpoint_every": 2, "learning_rate": 5e-3, "top_entropy": {"fraction": 0.3},
        "lp_reg": {"kappa": KAPPA, "fraction": FRACTION, "form": "forward_kl"}, "loss": {"cap": 10}, "grpo": {"report_to": "none"},
    })  # fmt: skip
    batch = batch_of(params)
    whole = update(policy, None, batch, params, out=tmp_path / "whole", scratch=tmp_path / "s")

    def stop(line):
        if line.startswith("optimizer step 3 of 4"):
            raise Stop

    with pytest.raises(Stop):
        update(policy, None, batch, params, out=tmp_path / "next", scratch=tmp_path / "t", progress=stop)
    resumed = update(policy, None, batch, params, out=tmp_path / "next", scratch=tmp_path / "t")
    assert files_of(tmp_path / "next") == files_of(tmp_path / "whole")
    assert resumed.updates.equals(whole.updates) and resumed.token_statistics.equals(whole.token_statistics)


def test_a_stored_pass_of_another_method_is_not_taken(tmp_path):
    """It lacks what this one needs, or is of another length."""
    with_proxy = make_params(training={"lp_reg": {"form": "forward_kl"}}).training
    without = make_params().training
    file = tmp_path / "pass.npz"
    first_pass.write(first_pass.empty(without, 10), file)
    assert first_pass.read(file, first_pass.empty(with_proxy, 10)) is None
    assert first_pass.read(file, first_pass.empty(without, 11)) is None
    assert first_pass.read(file, first_pass.empty(without, 10), first_pass.SUPPORT) is None
    found = first_pass.read(file, first_pass.empty(without, 10))
    assert found is not None and set(found) == {"logprobs", "entropies"}


def test_a_target_that_does_not_fit_is_refused_by_name_where_it_must_be_stored_and_used_where_not(policy, tmp_path):
    """In one step it is that of the step's own pass, of any size; for a second one it is stored."""
    for steps in (1, 2):
        params = make_params(training={
            "steps_per_iteration": steps, "loss": {"cap": 10},
            "lp_reg": {"kappa": 0.0, "fraction": 0.9, "form": "forward_kl", "support": 4},
            "grpo": {"report_to": "none"},
        })  # fmt: skip
        if steps == 1:
            result = update(policy, None, batch_of(params), params, out=tmp_path / "one", scratch=tmp_path / "s1")
            assert result.updates["protected_count"].to_pylist() == [0.0]  # nothing is dropped at kappa 0: no token is below its target
        else:
            with pytest.raises(ValueError, match=r"training\.lp_reg\.support is 4: a proxy keeps 48 tokens"):
                update(policy, None, batch_of(params), params, out=tmp_path / "two", scratch=tmp_path / "s2")


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"lp_reg": {"fraction": 0.0}}, "fraction"),
        ({"lp_reg": {"fraction": 1.5}}, "fraction"),
        ({"top_entropy": {"fraction": 0}}, "fraction"),
        ({"rehearsal": {"generator": "alpha", "alpha": 1.0}}, "above 0 and below 1"),
        ({"rehearsal": {"generator": "alpha"}}, "alpha"),
        ({"rehearsal": {"generator": "js", "alpha": 0.5}}, "alpha"),
        ({"rehearsal": {}}, "presample.enabled is false"),
        ({"loss": {"cap": 10, "ratio": "sequence"}}, "choose one"),
        ({"loss": {"cap": 0.5}}, "cap"),
        ({"lp_reg": {"form": "forward_kl", "keep_dropped": True}}, "keep_dropped"),
        ({"lp_reg": {"scope": "micro_batch", "selector": "high_entropy"}}, "scope"),
    ],
)
def test_options_that_mean_nothing_are_refused(training, said):
    with pytest.raises(ValueError, match=said):
        make_params(training=training)
