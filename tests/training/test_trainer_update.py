"""The update: every row once, the same result however it is cut, carried on or interrupted, and a complete policy."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trainer_fixtures import LORA, batch_of, close, files_of, make_params, make_policy, make_trajectories, make_verdicts, weights_of
from transformers import AutoModelForCausalLM

from assay.training.assemble import assemble_batch
from assay.training.batching import divide
from assay.training.ragged import Streams
from assay.training.reference import compute_logprobs
from assay.training.session import UpdateSession
from assay.training.update import update

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return make_policy(tmp_path_factory.mktemp("policy") / "policy")


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=60),
    st.integers(1, 9),
    st.integers(1, 5),
)
def test_every_row_is_in_exactly_one_micro_batch(lengths, size, processes):
    parts = [divide(np.array(lengths), size, processes, process) for process in range(processes)]
    assert len({len(own) for own in parts}) == 1, "sharded models need the same number of passes on every process"
    rows = np.concatenate([micro for own in parts for micro in own])
    assert sorted(rows.tolist()) == list(range(len(lengths)))
    assert all(len(micro) <= size for own in parts for micro in own)


def test_against_a_plain_loop(policy, tmp_path):
    """Two optimizer steps with every option on, against plain torch: one row at a time, formulas written out."""
    params = make_params(training={
        "steps_per_iteration": 2, "micro_batch_size": 5, "learning_rate": 0.02, "weight_decay": 0.1,
        "max_gradient_norm": 0.5, "entropy_bonus": 0.03, "divergence": {"coefficient": 0.2, "estimator": "k2"},
        "loss": {"clip_low": 0.05, "clip_high": 0.1, "dual_clip": 1.2, "aggregation": "sequence_mean"},
        "importance": {"mode": "token_truncated", "cap": 1.1}, "grpo": {"report_to": "none"},
    })  # fmt: skip
    reference = make_policy(tmp_path / "reference", seed=5)
    batch = batch_of(params, groups=7, reference=reference)
    result = update(policy, None, batch, params, out=tmp_path / "next", scratch=tmp_path / "scratch")

    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    decay = [p for n, p in model.named_parameters() if "norm" not in n]
    plain = [p for n, p in model.named_parameters() if "norm" in n]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.02, betas=(0.9, 0.999))

    def logits(row):
        prompt, ids = row["prompt_ids"], row["completion_ids"]
        out = torch.log_softmax(model(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1], -1)
        return out, out[torch.arange(len(ids)), torch.tensor(ids)]

    rows = batch.to_pylist()
    with torch.no_grad():
        old = [logits(row)[1] for row in rows]
    for step in (0, 1):
        own = [(row, before) for row, before in zip(rows, old, strict=True) if row["step"] == step]
        tokens = sum(len(row["completion_ids"]) for row, _ in own)
        loss = spread = divergence = low = high = torch.zeros(())
        for row, before in own:
            full, now = logits(row)
            ratio, advantage = (now - before).exp(), row["advantage"]
            surrogate = torch.min(ratio * advantage, ratio.clamp(0.95, 1.1) * advantage)
            surrogate = torch.max(surrogate, torch.tensor(1.2 * advantage)) if advantage < 0 else surrogate
            weight = (before - torch.tensor(row["sampled_logprobs"])).exp().clamp(max=1.1)
            gap = torch.tensor(row["reference_logprobs"]) - now
            entropy = -(full.exp() * full).sum(-1)
            loss = loss + (-(surrogate * weight) + 0.2 * gap**2 / 2).mean() / len(own) - 0.03 * entropy.sum() / tokens
            spread, divergence = spread + entropy.sum() / tokens, divergence + (gap**2 / 2).sum() / tokens
            low = low + ((ratio < 0.95) & (advantage < 0)).sum() / tokens
            high = high + ((ratio > 1.1) & (advantage > 0)).sum() / tokens
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        seen = result.updates.slice(step, 1).to_pylist()[0]
        expected = {
            "loss": loss,
            "entropy": spread,
            "divergence": divergence,
            "clip_low_share": low,
            "clip_high_share": high,
        }
        for name, value in {**expected, "gradient_norm": norm}.items():
            assert seen[name] == pytest.approx(value.item(), abs=2e-5, rel=2e-5), (step, name)
        assert (seen["rows"], seen["tokens"], seen["step"], seen["global_step"]) == (len(own), tokens, step, step)
    assert seen["clip_low_share"] > 0 and seen["clip_high_share"] > 0, "the second step must be off-policy to be a test"
    assert close(weights_of(tmp_path / "next/policy"), {
        name: value for name, value in model.state_dict().items() if name != "lm_head.weight"
    }, 2e-4)  # fmt: skip


def test_first_pass_is_what_transformers_computes(policy, tmp_path):
    params = make_params(sampling={"group_size": 4, "tasks_per_iteration": 8, "max_tokens": 6, "temperature": 0.7})
    trajectories = make_trajectories(5, 4, temperature=0.7)
    batch = assemble_batch(trajectories, make_verdicts(trajectories, [1, 0, 0, 1] * 5), params)
    result = update(policy, None, batch, params, out=tmp_path / "next", scratch=tmp_path / "scratch")
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    kept = batch.filter(batch["kept"]).to_pylist()
    assert result.token_statistics["trajectory_id"].to_pylist() == [row["trajectory_id"] for row in kept]
    worst = 0.0
    for row, seen in zip(kept, result.token_statistics.to_pylist(), strict=True):
        prompt, ids = row["prompt_ids"], row["completion_ids"]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        logs = torch.log_softmax(logits / 0.7, -1)
        assert seen["logprobs"] == pytest.approx(logs[range(len(ids)), ids].tolist(), abs=1e-5)
        assert seen["entropies"] == pytest.approx((-(logs.exp() * logs).sum(-1)).tolist(), abs=1e-5)
        worst = max(worst, *(abs(a - b) for a, b in zip(seen["logprobs"], row["sampled_logprobs"], strict=True)))
    assert max(result.updates["mismatch_max"].to_pylist()) == pytest.approx(worst, abs=1e-5)
    own = compute_logprobs(policy, Streams.from_table(batch.filter(batch["kept"])), params)
    assert np.concatenate(result.token_statistics["logprobs"].to_pylist()) == pytest.approx(own.values, abs=1e-5)


@pytest.mark.parametrize("rows", [7, 5, 3, 1])
def test_odd_numbers_of_rows(policy, tmp_path, rows):
    """A stock trainer leaves out the rest of an incomplete micro-batch; here the step is over all rows."""
    results = []
    for size in (2, 256):
        params = make_params(training={"steps_per_iteration": 1, "micro_batch_size": size, "grpo": {"report_to": "none"}})
        batch = batch_of(params, groups=2).slice(0, rows)
        out = tmp_path / str(size)
        results.append(update(policy, None, batch, params, out=out, scratch=tmp_path / f"s{size}"))
        tokens = sum(len(ids) for ids in batch["completion_ids"].to_pylist())
        assert (results[-1].updates["rows"][0].as_py(), results[-1].updates["tokens"][0].as_py()) == (rows, tokens)
    assert results[0].updates["loss"][0].as_py() == pytest.approx(results[1].updates["loss"][0].as_py(), abs=1e-6)
    first, second = (r.updates["gradient_norm"][0].as_py() for r in results)
    assert first == pytest.approx(second, rel=1e-5)


def test_single_samples_train_without_groups(policy, tmp_path):
    """One generation for each prompt, which a stock trainer refuses."""
    params = make_params(
        sampling={"group_size": 1, "tasks_per_iteration": 8, "max_tokens": 6},
        training={
            "advantage": {"type": "reinforce_plus_plus"},
            "steps_per_iteration": 2,
            "grpo": {"report_to": "none"},
        },
    )
    trajectories = make_trajectories(8, 1)
    batch = assemble_batch(trajectories, make_verdicts(trajectories, [1, 0, 0, 1, 1, 1, 0, 1]), params)
    result = update(policy, None, batch, params, out=tmp_path / "next", scratch=tmp_path / "scratch")
    assert result.updates["rows"].to_pylist() == [4, 4]


@pytest.mark.parametrize(("lora", "dtype"), [(None, "float32"), (None, "bfloat16"), (LORA, "float32"), (LORA, "bfloat16")])
def test_two_updates_through_files_are_one_continuous_run(tmp_path, lora, dtype):
    """Bit for bit: weights, adapter, optimizer, schedule and randomness (the adapter's dropout) are all carried."""
    policy = make_policy(tmp_path / "policy", dtype=dtype)
    params = make_params(training={
        "steps_per_iteration": 2, "micro_batch_size": 5, "learning_rate": 3e-3, "schedule": "cosine", "total_steps": 6,
        "warmup_steps": 3, "lora": lora, "checkpoint_every": 1, "grpo": {"report_to": "none", "bf16": False},
    })  # fmt: skip
    first, second = batch_of(params, seed=1), batch_of(params, seed=2, iteration=1)

    session = UpdateSession(policy, None, params, scratch=tmp_path / "s0")
    at_once = [session.run(first), session.run(second)]
    session.publish(tmp_path / "at_once")

    in_parts = [update(policy, None, first, params, out=tmp_path / "1", scratch=tmp_path / "s1")]
    in_parts.append(update(tmp_path / "1/policy", tmp_path / "1/trainer", second, params, out=tmp_path / "2", scratch=tmp_path / "s2"))
    assert files_of(tmp_path / "2") == files_of(tmp_path / "at_once")
    for one, other in zip(at_once, in_parts, strict=True):
        assert one.updates.equals(other.updates)
        assert one.token_statistics.equals(other.token_statistics)
    assert in_parts[1].updates["global_step"].to_pylist() == [2, 3]
    rates = [rate for result in in_parts for rate in result.updates["learning_rate"].to_pylist()]
    assert rates == pytest.approx([3e-3 / 4, 3e-3 / 2, 3e-3 * 3 / 4, 3e-3])
    assert not close(weights_of(tmp_path / "1/policy"), weights_of(policy))


def test_published_policy_is_complete_and_unchanged_but_for_weights(policy, tmp_path):
    params = make_params()
    batch = batch_of(params)
    for name in ("a", "b"):
        update(policy, None, batch, params, out=tmp_path / name, scratch=tmp_path / "scratch")
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b"), "equal inputs must give equal bytes"
    before, after = files_of(policy), files_of(tmp_path / "a/policy")
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == ["model.safetensors"]
    assert weights_of(policy).keys() == weights_of(tmp_path / "a/policy").keys()
    AutoModelForCausalLM.from_pretrained(tmp_path / "a/policy")
    assert not (tmp_path / "scratch/processes-1").exists(), "checkpoints of a finished update are of no use"
    assert not list(tmp_path.glob(".*"))


def test_cuda_gives_what_the_cpu_gives(policy, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here: the CUDA path was not run")
    results = {}
    for name, grpo in (("cpu", {"report_to": "none", "use_cpu": True}), ("cuda", {"report_to": "none"})):
        params = make_params(training={"learning_rate": 1e-3, "lora": {**LORA, "dropout": 0.0}, "grpo": grpo})
        out, scratch = tmp_path / name, tmp_path / f"s-{name}"
        results[name] = update(policy, None, batch_of(params), params, out=out, scratch=scratch)
    assert close(weights_of(tmp_path / "cpu/policy"), weights_of(tmp_path / "cuda/policy"), 1e-4)
    losses = [result.updates["loss"].to_pylist() for result in results.values()]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_dvclive_gets_every_step(policy, tmp_path):
    params = make_params(training={"steps_per_iteration": 3, "grpo": {}})
    batch = batch_of(params)
    update(policy, None, batch, params, out=tmp_path / "next", scratch=tmp_path / "s", live=tmp_path / "live")
    files = {path.name for path in (tmp_path / "live").rglob("*.tsv")}
    assert {"loss.tsv", "entropy.tsv", "learning_rate.tsv", "mismatch_mean.tsv"} <= files
    loss = next((tmp_path / "live").rglob("loss.tsv")).read_text().splitlines()
    assert len(loss) == 4
    assert not list(tmp_path.glob("dvc.yaml"))


def test_learning_rate_of_the_parameters_wins_over_the_state(policy, tmp_path):
    params = make_params()
    update(policy, None, batch_of(params), params, out=tmp_path / "1", scratch=tmp_path / "s")
    slower = make_params(training={"learning_rate": 1e-7, "grpo": {"report_to": "none"}})
    result = update(
        tmp_path / "1/policy",
        tmp_path / "1/trainer",
        batch_of(params, seed=4),
        slower,
        out=tmp_path / "2",
        scratch=tmp_path / "s",
    )
    assert result.updates["learning_rate"].to_pylist() == [1e-7, 1e-7]
    assert close(weights_of(tmp_path / "1/policy"), weights_of(tmp_path / "2/policy"), 1e-6)


def without(table: pa.Table, name: str) -> pa.Table:
    field = table.schema.field(name)
    return table.set_column(table.schema.get_field_index(name), field, pa.nulls(len(table), field.type))


def test_bad_input(policy, tmp_path):
    params = make_params()
    batch = batch_of(params)
    out, scratch = tmp_path / "next", tmp_path / "scratch"

    def fails(message, *, model=policy, state=None, table=batch, options=params):
        with pytest.raises((ValueError, RuntimeError), match=message) as caught:
            update(model, state, table, options, out=out, scratch=scratch)
        assert type(caught.value).__module__.startswith("assay."), "only errors of ours are shown without a traceback"
        assert not out.exists() and not list(tmp_path.glob(".next*"))

    fails("no kept row", table=batch.slice(0, 0))
    penalty = make_params(training={"divergence": {"coefficient": 0.1}, "grpo": {"report_to": "none"}})
    fails("no reference_logprobs", options=penalty)
    fails("has no step", table=without(batch, "step"))
    bare = make_policy(tmp_path / "bare")
    for file in bare.glob("token*"):
        file.unlink()
    fails("has no tokenizer", model=bare)
    (bare / "model.safetensors").unlink()
    fails("holds no weights", model=bare)
    fails("config.json: missing", model=tmp_path / "nowhere")
    torn = make_policy(tmp_path / "torn")
    (torn / "model.safetensors").write_bytes((policy / "model.safetensors").read_bytes()[:5000])
    fails("weights cannot be read", model=torn)
    fails("knows 9: the rows were sampled", model=make_policy(tmp_path / "few", vocab_size=9))

    update(policy, None, batch, params, out=tmp_path / "1", scratch=scratch)
    state = tmp_path / "1/trainer"
    fails("published with other weights", state=state)
    lora = make_params(training={"lora": LORA, "grpo": {"report_to": "none"}})
    fails("comes from a full update", model=tmp_path / "1/policy", state=state, options=lora)
    whole = (state / "optimizer.pt").read_bytes()
    (state / "optimizer.pt").write_bytes(whole[:1000])
    fails("state cannot be read", model=tmp_path / "1/policy", state=state)
    (state / "optimizer.pt").unlink()
    fails("holds no optimizer", model=tmp_path / "1/policy", state=state)
    (state / "state.json").unlink()
    fails("state.json: missing", model=tmp_path / "1/policy", state=state)
    targets = make_params(training={"lora": {"targets": ["nothing"]}, "grpo": {"report_to": "none"}})
    fails("does not fit the policy", options=targets)
    for name in ("embed_tokens", "lm_head"):
        ends = make_params(training={"lora": {"targets": [name]}, "grpo": {"report_to": "none"}})
        fails(f"adapts .*{name}, but this policy's input and output embeddings are one tensor", options=ends)
    field = batch.schema.field("advantage")
    wild = pa.array([math.inf] * len(batch), field.type)
    fails("the loss is", table=batch.set_column(batch.schema.get_field_index("advantage"), field, wild))
