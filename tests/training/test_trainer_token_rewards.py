"""Rewards of single tokens in the batch: steps, penalties, levels, critiques; and that without them nothing changes."""

import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from trainer_fixtures import make_params, make_policy, make_trajectories, make_verdicts

from assay.objectives.corrections import backward
from assay.rewards.self_verification import critique_group
from assay.training.assemble import assemble_batch
from assay.training.critic import load_critic, stored_values
from assay.training.ragged import Ragged, Streams, from_column
from assay.training.think_tags import ThinkTagError
from assay.training.token_rewards import TokenRewardError, shaped, token_advantages
from assay.trajectories import schema, to_table

PLUS = {"advantage": {"type": "reinforce_plus_plus"}}
PPO = {"advantage": {"type": "generalized"}, "critic": {}}


def lengthened(lengths, texts=None):
    """Solutions of given lengths, one in a group."""
    rows = []
    for index, (row, length) in enumerate(zip(make_trajectories(len(lengths), 1).to_pylist(), lengths, strict=True)):
        text = "" if texts is None else texts[index]
        rows.append(row | {
            "completion_ids": [2] * length, "loss_mask": [True] * length, "sampled_logprobs": [-1.0] * length, "finish_reason": "stop",
            "text": text,
        })  # fmt: skip
    return to_table("trajectories", rows)


def steps_table(trajectory_id, spans, rewards, iteration=0):
    return to_table("steps", [
        {
            "trajectory_id": trajectory_id, "iteration": iteration, "round": 0, "step": j, "marker": "wait", "char_start": j,
            "char_end": j + 1, "first_token": first, "last_token": last, "decided_before": 5, "decided_after": 5, "accuracy_before": 0.0,
            "accuracy_after": 0.0, "difference": reward, "distance": 0, "reward": reward, "effect": "helpful",
        } for j, ((first, last), reward) in enumerate(zip(spans, rewards, strict=True))
    ])  # fmt: skip


def unwhitened(batch: pa.Table, row: int) -> list[float]:
    """Returns-to-go of a row from its stored token rewards."""
    return np.cumsum(np.array(batch["token_rewards"][row].as_py())[::-1])[::-1].tolist()


def test_the_worked_trajectory_of_vsrm():
    """E.2 of the methods: 40 tokens, steps 10..17, 18..26, 27..33 that earn .4, .28, .4, and an outcome of 1."""
    trajectories = lengthened([40, 3])
    name = trajectories["trajectory_id"][0].as_py()
    steps = steps_table(name, [(10, 17), (18, 26), (27, 33)], [0.4, 0.28, 0.4])
    sampling = {"max_tokens": 40}
    verdicts = make_verdicts(trajectories, [1, 0])
    at_end = assemble_batch(
        trajectories, verdicts, make_params(sampling=sampling, training=PLUS, stepwise={"continuations": 5}), steps=steps
    )
    returns = unwhitened(at_end, 0)
    assert [returns[token] for token in (0, 18, 27, 34)] == pytest.approx([2.08, 1.68, 1.4, 1.0], abs=1e-6)
    params = make_params(sampling=sampling, training=PLUS, stepwise={"continuations": 5, "place": "start"})
    at_start = assemble_batch(trajectories, verdicts, params, steps=steps)
    assert unwhitened(at_start, 0)[11] == pytest.approx(1.68, abs=1e-6)
    # The advantages are these returns, whitened over both rows' tokens.
    tokens = np.concatenate([np.array(at_end["token_advantages"][row].as_py()) for row in (0, 1)])
    plain = np.concatenate([returns, unwhitened(at_end, 1)])
    assert tokens == pytest.approx((plain - plain.mean()) / plain.std(ddof=1), abs=1e-5)
    assert at_end["advantage"][0].as_py() == pytest.approx(tokens[:40].mean(), abs=1e-5)


def test_an_outcome_is_added_to_a_step_on_the_last_token_or_overwrites_it():
    trajectories = lengthened([4, 2])
    steps = steps_table(trajectories["trajectory_id"][0].as_py(), [(1, 3)], [0.5])
    verdicts = make_verdicts(trajectories, [1, 0])
    added = assemble_batch(trajectories, verdicts, make_params(training=PLUS, stepwise={"continuations": 1}), steps=steps)
    assert added["token_rewards"][0].as_py() == [0, 0, 0, 1.5]
    params = make_params(training=PLUS, stepwise={"continuations": 1, "overwrite": True})
    assert assemble_batch(trajectories, verdicts, params, steps=steps)["token_rewards"][0].as_py() == [0, 0, 0, 1.0]


def test_steps_off_are_the_baseline_and_steps_that_earn_nothing_too():
    trajectories = make_trajectories(6, 4)
    verdicts = make_verdicts(trajectories, abstain=(5,))
    baseline = assemble_batch(trajectories, verdicts, make_params(training=PLUS))
    assert baseline["token_rewards"].null_count == baseline["token_advantages"].null_count == len(baseline)
    off = assemble_batch(trajectories, verdicts, make_params(training=PLUS, stepwise={"continuations": 0}), steps=to_table("steps", []))
    assert off == baseline
    none = assemble_batch(trajectories, verdicts, make_params(training=PLUS, stepwise={"continuations": 5}), steps=to_table("steps", []))
    same = [name for name in schema("batches").names if name not in ("token_rewards", "token_advantages")]
    assert none.select(same) == baseline.select(same)
    for row in range(len(none)):
        if none["kept"][row].as_py():
            assert set(none["token_advantages"][row].as_py()) == {none["advantage"][row].as_py()}


def test_ppo_with_values_of_nothing_is_reinforce_plus_plus():
    trajectories = make_trajectories(6, 4)
    verdicts = make_verdicts(trajectories, abstain=(5,))
    baseline = assemble_batch(trajectories, verdicts, make_params(training=PLUS))

    def nothing(streams):
        return Ragged(np.zeros(len(streams.completions.values), np.float32), streams.completions.offsets)

    batch = assemble_batch(trajectories, verdicts, make_params(training=PPO), values_of=nothing)
    assert batch["advantage"] == baseline["advantage"] and batch["step"] == baseline["step"]
    for row in range(len(batch)):
        if batch["kept"][row].as_py():
            reward = batch["reward"][row].as_py()
            assert set(batch["token_returns"][row].as_py()) == {reward}


def test_generalized_advantages_are_returns_minus_values():
    """B6.5 of the methods, in a batch: r = (0, 0, 1), V = (.2, .4, .5) gives (.8, .6, .5) before whitening and returns of 1."""
    trajectories = lengthened([3, 3])
    values = from_column(pa.chunked_array([[[0.2, 0.4, 0.5], [0.0, 0.0, 0.0]]], pa.list_(pa.float32())))
    batch = assemble_batch(
        trajectories, make_verdicts(trajectories, [1, 0]), make_params(training=PPO), values_of=lambda streams: values
    )
    assert batch["token_returns"][0].as_py() == pytest.approx([1, 1, 1]) and batch["token_returns"][1].as_py() == pytest.approx([0, 0, 0])
    raw = np.array([0.8, 0.6, 0.5, 0, 0, 0])
    found = np.concatenate([batch["token_advantages"][row].as_py() for row in (0, 1)])
    assert found == pytest.approx((raw - raw.mean()) / raw.std(ddof=1), abs=1e-5)
    assert batch["token_values"][0].as_py() == pytest.approx([0.2, 0.4, 0.5])


def test_a_new_critic_values_everything_at_nothing(tmp_path):
    policy = make_policy(tmp_path / "models/0/policy")
    params = make_params(training=PPO)
    streams = Streams.from_table(make_trajectories(2, 4))
    found = stored_values(tmp_path / "models/0", params, streams)
    assert found.values.tolist() == [0.0] * len(streams.completions.values)
    assert load_critic(tmp_path / "models/0/critic", policy, params).config.classifier_dropout == 0.0


def test_a_penalty_towards_policy_0_is_paid_by_every_token(tmp_path):
    policy = make_policy(tmp_path / "policy")
    trajectories = make_trajectories(2, 4)
    params = make_params(training=PLUS, rewards={"reference_penalty": 0.5})
    batch = assemble_batch(trajectories, make_verdicts(trajectories, [1, 0] * 4), params, reference=policy)
    for row in range(len(batch)):
        earned, own, reference = (np.array(batch[n][row].as_py()) for n in ("token_rewards", "sampled_logprobs", "reference_logprobs"))
        outcome = np.zeros(len(earned))
        outcome[-1] = batch["reward"][row].as_py()
        assert earned == pytest.approx(outcome - 0.5 * (own - reference), abs=1e-5)
    with pytest.raises(ValueError, match="needs policy 0"):
        assemble_batch(trajectories, make_verdicts(trajectories, [1, 0] * 4), params)


def test_where_top_p_cuts_what_is_sampled_the_penalty_takes_the_policys_own_log_probabilities(tmp_path):
    """The sampler's are of the tokens that are left, and so too large."""
    policy = make_policy(tmp_path / "policy")
    trajectories, verdicts = make_trajectories(2, 4), make_verdicts(make_trajectories(2, 4), [1, 0] * 4)
    training = PLUS | {"importance": {"mode": "off"}}
    params = make_params(training=training, sampling={"top_p": 0.9}, rewards={"reference_penalty": 0.5})
    batch = assemble_batch(trajectories, verdicts, params, policy=policy, reference=policy)
    for row in range(len(batch)):  # policy 0 is the policy: nothing is paid
        earned = batch["token_rewards"][row].as_py()
        assert earned == pytest.approx([0.0] * (len(earned) - 1) + [batch["reward"][row].as_py()], abs=1e-5)
    with pytest.raises(TokenRewardError, match=r"sampling.top_p is 0.9.*give the folder of the policy that sampled"):
        assemble_batch(trajectories, verdicts, params, reference=policy)


@pytest.mark.parametrize(
    ("text", "reason", "observed", "reward"),
    [
        (r"<think>a</think>\boxed{1}", "equal", 1, 1.0), (r"<think>a</think>\boxed{2}", "different", 0, 0.0),
        ("<think>a</think>2", "different", 0, -9.5), (r"<think>a\boxed{1}", "equal", 1, -10.0), (r"a</think>\boxed{1}", "equal", 1, -10.0),
        ("", "unparseable", 0, -10.0), (r"<think>a</think>\boxed{", "unparseable", 0, -9.5),
        (r"<think>a</think>\boxed{x}", "unparseable", 0, -9.5),
    ],
)  # fmt: skip
def test_the_four_outcomes_of_vsrm(text, reason, observed, reward):
    levels = {"correct": 1, "wrong": 0, "no_answer": -9.5, "no_format": -10, "boxed": True, "readable": True}
    params = make_params(rewards={"levels": levels})

    def earned(opened):
        return shaped(np.array([float(observed)]), [reason], [text], np.array([3]), params, opened).tolist()

    assert earned(np.array([False])) == [reward]
    if text.startswith("a</think>"):
        assert earned(np.array([True])) == [1.0]
    with pytest.raises(TokenRewardError, match="whether prompts open the thinking"):
        earned(None)


def test_prompts_show_whether_they_open_the_thinking(tmp_path):
    """Here the open tag is a word of the tiny vocabulary."""
    policy = make_policy(tmp_path / "policy")
    rows = make_trajectories(2, 2).to_pylist()
    for row, end in zip(rows, (7, 7, 8, 8), strict=True):
        row |= {"prompt_ids": [*row["prompt_ids"], end], "text": "a</think>1"}
    trajectories = to_table("trajectories", rows)
    verdicts = make_verdicts(trajectories, [1, 1, 1, 1])

    def rewards(folder=policy, **levels):
        section = {"levels": {"no_format": -1.0, **levels}}
        params = make_params(rewards=section, stepwise={"open_tag": "w7"}, training=PLUS, filter={"zero_variance_groups": False})
        return assemble_batch(trajectories, verdicts, params, policy=folder)["reward"].to_pylist()

    assert rewards() == [1.0, 1.0, -1.0, -1.0]
    assert rewards(None, opened_by_prompt=True) == [1.0] * 4
    for stated, shown in ((True, "does not end"), (False, "ends")):
        with pytest.raises(ThinkTagError, match=f"prompt {shown} with 'w7', but rewards.levels.opened_by_prompt is {str(stated).lower()}"):
            rewards(opened_by_prompt=stated)
    with pytest.raises(ThinkTagError, match="give a policy's folder"):
        rewards(None)


def test_long_answers_pay_for_their_length_and_unknown_ones_stay_unknown():
    params = make_params(rewards={"length_penalty": 0.6})
    found = shaped(np.array([1.0, 0.0, np.nan]), ["", "", ""], ["", "", ""], np.array([3, 6, 1]), params)
    assert found[:2] == pytest.approx([0.7, -0.6]) and np.isnan(found[2])


def test_what_tools_answered_has_no_length_penalty():
    rows = make_trajectories(1, 4).to_pylist()
    for row in rows:
        row |= {"completion_ids": [5] * 6, "sampled_logprobs": [-1.0] * 6, "loss_mask": [True] * 2 + [False] * 4}
    trajectories = to_table("trajectories", rows)
    params = make_params(rewards={"length_penalty": 0.5}, training=PLUS, filter={"zero_variance_groups": False})
    found = assemble_batch(trajectories, make_verdicts(trajectories, [1, 1, 1, 1]), params)["reward"].to_pylist()
    assert found == pytest.approx([1 - 0.5 * 2 / params.sampling.max_tokens] * 4)


def with_critiques(size=4, observed=(1, 0, 0, 1)):
    """A group of solutions, and four critiques of each of the first two."""
    solutions = make_trajectories(1, 4).to_pylist()
    rows, said = list(solutions), []
    for parent in range(2):
        for index in range(size):
            name = solutions[parent]["trajectory_id"]
            rows.append(make_trajectories(1, 4, seed=10 + parent).to_pylist()[index] | {
                "kind": "critique", "parent_id": name, "group_id": critique_group(name), "task_id": solutions[parent]["task_id"],
                "trajectory_id": f"critique-{parent}-{index}",
            })  # fmt: skip
            said.append(index % 2)  # every second one says right
    table = to_table("trajectories", rows)
    verdicts = make_verdicts(table, [*observed, *[0] * 8]).to_pylist()
    for row, (parent, says) in enumerate(zip([0] * size + [1] * size, said, strict=True), start=4):
        agrees = float(says == observed[parent])
        verdicts[row] |= {
            "verifier": "critique", "verdict": "correct" if agrees else "wrong", "observed_reward": agrees,
            "components": json.dumps({"says": float(says), "says_right": bool(says), "observed": observed[parent], "target": 1.0}),
        }  # fmt: skip
    return table, to_table("verdicts", verdicts)


def test_critiques_are_groups_of_their_own_and_change_no_solution():
    table, verdicts = with_critiques()
    params = make_params(self_verification={"share": 0.25})
    batch = assemble_batch(table, verdicts, params)
    alone = assemble_batch(table.slice(0, 4), verdicts.slice(0, 4), make_params())
    assert batch["advantage"].to_pylist()[:4] == alone["advantage"].to_pylist()
    assert batch["advantage"].to_pylist()[4:8] == pytest.approx([-0.8660, 0.8660, -0.8660, 0.8660], abs=5e-5)
    assert batch["advantage"].to_pylist()[8:] == pytest.approx([0.8660, -0.8660, 0.8660, -0.8660], abs=5e-5)
    order = np.random.default_rng(0).permutation(12)
    mixed = assemble_batch(table.take(pa.array(order)), verdicts, params)
    assert [mixed["advantage"][int(np.flatnonzero(order == row)[0])].as_py() for row in range(12)] == batch["advantage"].to_pylist()


def test_critiques_under_noise_earn_what_is_right_on_average():
    table, verdicts = with_critiques()
    noise = {"type": "backward", "false_positive_rate": 0.1, "false_negative_rate": 0.2}
    params = make_params(self_verification={"share": 0.25, "reward": "unbiased"}, training={"advantage": noise})
    batch = assemble_batch(table, verdicts, params)
    right, wrong = backward(np.array([1.0, 0.0]), 0.1, 0.2)
    assert batch["reward"].to_pylist()[4:8] == pytest.approx([1 - right, right] * 2)
    assert batch["reward"].to_pylist()[8:] == pytest.approx([1 - wrong, wrong] * 2)
    assert batch["advantage"].to_pylist()[4:6] == pytest.approx([(1 - 2 * right) * 2 / 3, (2 * right - 1) * 2 / 3], rel=1e-5)
    assert batch["control_advantage"].to_pylist()[4:6] == pytest.approx([-2 / 3, 2 / 3], rel=1e-5)
    alone = assemble_batch(table.slice(0, 4), verdicts.slice(0, 4), make_params(training={"advantage": noise}))
    assert batch["advantage"].to_pylist()[:4] == alone["advantage"].to_pylist()


@pytest.mark.parametrize("training", [PLUS, PPO, PLUS | {"advantage": {"type": "reinforce_plus_plus", "gamma": 0.99}}])
def test_one_long_row_costs_its_own_length_and_no_padding_of_the_others(training):
    """As a matrix, rows x the longest, each stream would be 320 MB."""
    lengths = np.array([20_000, *[1, 3] * 1000])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids, mask, logprobs = (Ragged(np.ones(offsets[-1], dtype), offsets) for dtype in (np.int32, bool, np.float32))
    streams, rewards = Streams(ids, ids, mask, logprobs), np.arange(len(lengths)) % 2.0
    params = make_params(training=training)
    tracemalloc.start()
    found = token_advantages(rewards, [""] * len(lengths), streams, params, values_of=lambda own: Ragged(own.logprobs.values, offsets))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * 2**20
    assert found.advantages.lengths.tolist() == lengths.tolist() and np.isfinite(found.advantages.values).all()


def test_missing_or_foreign_steps_are_refused():
    trajectories = make_trajectories(2, 4)
    params = make_params(training=PLUS, stepwise={"continuations": 5})
    verdicts = make_verdicts(trajectories, [1, 0] * 4)
    with pytest.raises(TokenRewardError, match="no table of steps"):
        assemble_batch(trajectories, verdicts, params)
    with pytest.raises(TokenRewardError, match="not of iteration 0"):
        assemble_batch(trajectories, verdicts, params, steps=steps_table("x", [(0, 0)], [1.0], iteration=3))
    with pytest.raises(TokenRewardError, match="trajectory x, which is not offered"):
        assemble_batch(trajectories, verdicts, params, steps=steps_table("x", [(0, 0)], [1.0]))
    own = trajectories["trajectory_id"][0].as_py()
    with pytest.raises(TokenRewardError, match=f"trajectory {own}: step 0 is tokens 0 to 99 of a response of .*run rollout again"):
        assemble_batch(trajectories, verdicts, params, steps=steps_table(own, [(0, 99)], [1.0]))
    with pytest.raises(TokenRewardError, match="needs a critic's values"):
        assemble_batch(trajectories, verdicts, make_params(training=PPO))
