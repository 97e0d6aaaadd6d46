"""Batch assembly: statistics before dropping, reasons, optimizer steps, denominators, and clear errors."""

import numpy as np
import pyarrow as pa
import pytest
from trainer_fixtures import make_params, make_policy, make_trajectories, make_verdicts

from assay.training.assemble import AssembleError, assemble_batch, describe
from assay.training.filters import FilterError
from assay.training.ragged import Ragged, Streams, from_column
from assay.training.reference import compute_logprobs
from assay.trajectories import to_table


def replaced(table: pa.Table, column: str, row: int, value) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    index = table.schema.get_field_index(column)
    return table.set_column(index, table.schema.field(column), pa.array(values, table.schema.field(column).type))


def test_rows_keep_order_tokens_and_reasons():
    trajectories = make_trajectories(3, 4)
    rewards = [1, 0, 0, 1, 1, 1, 1, 1, 0, 0, 1, 0]
    batch = assemble_batch(trajectories, make_verdicts(trajectories, rewards, abstain=(10,)), make_params())
    assert batch["trajectory_id"].to_pylist() == trajectories["trajectory_id"].to_pylist()
    reasons = batch["drop_reason"].to_pylist()
    assert reasons == [None] * 4 + ["zero_variance"] * 4 + [
        "zero_variance",
        "zero_variance",
        "abstained",
        "zero_variance",
    ]
    assert batch["kept"].to_pylist() == [reason is None for reason in reasons]
    for name in ("prompt_ids", "completion_ids", "loss_mask", "sampled_logprobs"):
        assert batch[name].to_pylist()[:4] == trajectories[name].to_pylist()[:4]
        assert batch[name].to_pylist()[4:] == [[]] * 8
    assert batch["advantage"].to_pylist()[:4] == pytest.approx([0.8660, -0.8660, -0.8660, 0.8660], abs=5e-5)
    assert batch["reward"][10].as_py() is None and batch["advantage"][10].as_py() is None
    assert batch["step"].to_pylist()[4:] == [None] * 8
    assert describe(batch) == "kept 4 of 12 rows for 1 optimizer steps; dropped: 1 abstained, 7 zero_variance"


def test_statistics_are_of_all_rows_that_have_a_reward():
    """Truncated rows are dropped after the baseline was taken, abstained ones before."""
    trajectories = replaced(make_trajectories(1, 4), "finish_reason", 3, "length")
    for row in range(3):
        trajectories = replaced(trajectories, "finish_reason", row, "stop")
    params = make_params(filter={"truncated": True})
    batch = assemble_batch(trajectories, make_verdicts(trajectories, [1, 0, 0, 1]), params)
    assert batch["drop_reason"].to_pylist() == [None, None, None, "truncated"]
    assert batch["advantage"].to_pylist() == pytest.approx([0.8660, -0.8660, -0.8660, 0.8660], abs=5e-5)
    silent = assemble_batch(trajectories, make_verdicts(trajectories, [1, 0, 0, 1], abstain=(3,)), params)
    assert silent["advantage"].to_pylist()[:3] == pytest.approx([1.1547, -0.5774, -0.5774], abs=1e-4)


def test_a_group_that_abstentions_left_alone_does_not_train():
    trajectories = make_trajectories(2, 4)
    verdicts = make_verdicts(trajectories, [1, 0, 0, 1, 1, 1, 1, 1], abstain=(5, 6, 7))
    batch = assemble_batch(trajectories, verdicts, make_params())
    assert batch["drop_reason"].to_pylist()[4:] == ["zero_variance", "abstained", "abstained", "abstained"]
    loose = assemble_batch(trajectories, verdicts, make_params(filter={"zero_variance_groups": False}))
    assert loose["kept"][4].as_py() and loose["advantage"][4].as_py() == 0


@pytest.mark.parametrize("training", [{"divergence": {"coefficient": 0.1}}, {"entropy_bonus": 0.01}])
def test_groups_without_variance_stay_where_a_penalty_acts_on_them(tmp_path, training):
    params = make_params(training={**training, "grpo": {}})
    trajectories = make_trajectories(3, 4)
    verdicts = make_verdicts(trajectories, [1, 0, 0, 1] + [1] * 4 + [0] * 4, abstain=(11,))
    reference = make_policy(tmp_path / "policy") if "divergence" in training else None
    batch = assemble_batch(trajectories, verdicts, params, reference=reference)
    assert batch["drop_reason"].to_pylist() == [None] * 11 + ["abstained"]
    assert batch["advantage"].to_pylist()[4:11] == [0] * 7


def test_duplicates_keep_the_first():
    trajectories = make_trajectories(1, 4)
    for name in ("completion_ids", "loss_mask", "sampled_logprobs"):
        trajectories = replaced(trajectories, name, 2, trajectories[name][0].as_py())
    params = make_params(filter={"duplicates": True})
    batch = assemble_batch(trajectories, make_verdicts(trajectories, [1, 0, 1, 0]), params)
    assert batch["drop_reason"].to_pylist() == [None, None, "duplicate", None]


def test_steps_hold_whole_groups_of_about_equal_number():
    trajectories = make_trajectories(11, 4)
    rewards = np.tile([1, 0, 0, 0], 11)
    rewards[0:12] = 1  # the first three groups have no variance: all their steps' rows would be gone
    params = make_params(training={"steps_per_iteration": 4, "grpo": {}}, sampling={"tasks_per_iteration": 11})
    batch = assemble_batch(trajectories, make_verdicts(trajectories, rewards), params)
    steps = batch["step"].to_pylist()
    assert steps == [None] * 12 + [0] * 8 + [1] * 8 + [2] * 8 + [3] * 8
    tokens = np.array([sum(mask) for mask in batch["loss_mask"].to_pylist()])
    assert batch["denominator_rows"].to_pylist()[12:] == [8] * 32
    assert batch["denominator_tokens"][12].as_py() == tokens[12:20].sum()


def test_fewer_kept_groups_than_steps():
    trajectories = make_trajectories(4, 4)
    rewards = [1, 0, 0, 0] + [1] * 4 + [1, 1, 0, 0] + [0] * 4
    params = make_params(training={"steps_per_iteration": 4, "grpo": {}})
    batch = assemble_batch(trajectories, make_verdicts(trajectories, rewards), params)
    assert sorted(set(batch["step"].drop_null().to_pylist())) == [0, 1]


def test_denominator_of_all_rows():
    """Steps and divisors are as if nothing had been dropped; a step of dropped rows only is left out."""
    trajectories = make_trajectories(4, 4)
    rewards = [1, 0, 0, 0] + [1] * 4 + [1] * 8
    params = make_params(filter={"denominator": "all"})
    batch = assemble_batch(trajectories, make_verdicts(trajectories, rewards, abstain=(1,)), params)
    assert batch["step"].to_pylist() == [0, None, 0, 0] + [None] * 12
    assert batch["denominator_rows"][0].as_py() == 8
    assert batch["denominator_tokens"][0].as_py() == sum(len(ids) for ids in trajectories["completion_ids"].to_pylist()[:8])


def test_reinforce_plus_plus_keeps_groups_without_variance():
    trajectories = make_trajectories(2, 4)
    rewards = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    for gamma, constant in ((1.0, True), (0.9, False)):
        params = make_params(training={"advantage": {"type": "reinforce_plus_plus", "gamma": gamma}, "grpo": {}})
        batch = assemble_batch(trajectories, make_verdicts(trajectories, rewards), params)
        assert batch["kept"].to_pylist() == [True] * 8
        lengths = np.array([len(ids) for ids in batch["completion_ids"].to_pylist()])
        if constant:
            assert batch["token_advantages"].null_count == 8
            tokens = np.repeat(batch["advantage"].to_numpy(), lengths)
        else:
            tokens = np.concatenate(batch["token_advantages"].to_pylist())
            returns = np.concatenate([r * gamma ** np.arange(n)[::-1] for r, n in zip(rewards, lengths, strict=True)])
            assert tokens == pytest.approx((returns - returns.mean()) / returns.std(ddof=1), abs=1e-5)
        assert tokens.mean() == pytest.approx(0, abs=1e-6)
        assert tokens.std(ddof=1) == pytest.approx(1, abs=1e-6)


def test_discount_does_not_count_inserted_tokens():
    trajectories = make_trajectories(1, 2, seed=3)
    for row, (ids, mask) in enumerate([([5, 6, 7, 1], [True, False, False, True]), ([5, 1], [True, True])]):
        for name, value in (("completion_ids", ids), ("loss_mask", mask), ("sampled_logprobs", [-1.0] * len(ids))):
            trajectories = replaced(trajectories, name, row, value)
    params = make_params(training={"advantage": {"type": "reinforce_plus_plus", "gamma": 0.5}, "grpo": {}})
    batch = assemble_batch(trajectories, make_verdicts(trajectories, [1, 0]), params)
    first = batch["token_advantages"][0].as_py()
    returns = np.array([0.5, 1, 0, 0])
    assert [first[0], first[3]] == pytest.approx(((returns - returns.mean()) / returns.std(ddof=1))[:2], abs=1e-6)
    assert first[1:3] == [0, 0]


def test_evaluation_rows_do_not_train():
    trajectories = make_trajectories(2, 4)
    verdicts = make_verdicts(trajectories, [1, 0, 0, 1] * 2)
    for row in range(4):
        trajectories = replaced(trajectories, "kind", row, "evaluation")
    assert assemble_batch(trajectories, verdicts, make_params())["group_id"].unique().to_pylist() == ["group-0-0-1"]
    with pytest.raises(AssembleError, match="no trajectory of a kind that trains"):
        assemble_batch(trajectories.slice(0, 4), verdicts, make_params())


def test_policy_0_is_asked_only_where_a_penalty_needs_it(tmp_path):
    policy = make_policy(tmp_path / "policy")
    trajectories = make_trajectories(3, 4)
    verdicts = make_verdicts(trajectories, [1, 0, 0, 1, 1, 1, 1, 1, 0, 1, 0, 0], abstain=(5,))
    assert assemble_batch(trajectories, verdicts, make_params())["reference_logprobs"].null_count == 12
    params = make_params(training={"divergence": {"coefficient": 0.1}, "grpo": {}})
    with pytest.raises(AssembleError, match="needs policy 0"):
        assemble_batch(trajectories, verdicts, params)
    batch = assemble_batch(trajectories, verdicts, params, reference=policy)
    whole = compute_logprobs(policy, Streams.from_table(trajectories), params)
    for row, kept in enumerate(batch["kept"].to_pylist()):
        expected = whole[row].tolist() if kept else None
        found = batch["reference_logprobs"][row].as_py()
        assert found == (pytest.approx(expected, abs=1e-5) if kept else None)


@pytest.mark.parametrize(("options", "key"), [
    ({"training": {"divergence": {"coefficient": 0.1}}}, "training.divergence.coefficient is above 0, which"),
    ({"training": {"advantage": {"type": "reinforce_plus_plus"}}, "rewards": {"reference_penalty": 0.1}}, "rewards.reference_penalty is"),
    ({"training": {"rehearsal": {"generator": "js_definition"}}, "presample": {"enabled": True}}, "training.rehearsal.generator is js_def"),
])  # fmt: skip
def test_who_asks_for_policy_0_is_named(options, key):
    trajectories = make_trajectories(1, 4)
    with pytest.raises(AssembleError, match=f"^{key.replace('.', '[.]')}.* needs policy 0"):
        assemble_batch(trajectories, make_verdicts(trajectories, [1, 0, 0, 1]), make_params(**options))


def test_mismatch_filter(tmp_path):
    policy = make_policy(tmp_path / "policy")
    trajectories = make_trajectories(1, 4)
    params = make_params(filter={"max_mismatch": 0.01})
    exact = compute_logprobs(policy, Streams.from_table(trajectories), params)
    for row in range(4):
        shift = 0.02 if row == 2 else 0.001
        trajectories = replaced(trajectories, "sampled_logprobs", row, (exact[row] + shift).tolist())
    verdicts = make_verdicts(trajectories, [1, 0, 1, 0])
    batch = assemble_batch(trajectories, verdicts, params, policy=policy)
    assert batch["drop_reason"].to_pylist() == [None, None, "mismatch", None]
    with pytest.raises(FilterError, match="needs the policy that sampled"):
        assemble_batch(trajectories, verdicts, params)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, v: (t, v.slice(1)), "has no verdict of role rule"),
        (lambda t, v: (t, pa.concat_tables([v, v.slice(0, 1)])), "several verdicts of role rule"),
        (lambda t, v: (replaced(t, "loss_mask", 1, [True] * 9), v), "9 loss_mask"),
        (lambda t, v: (replaced(t, "prompt_ids", 1, []), v), "prompt_ids is empty"),
        (
            lambda t, v: (replaced(t, "sampled_logprobs", 1, [float("nan")] * len(t["completion_ids"][1])), v),
            "not finite",
        ),
        (lambda t, v: (make_trajectories(2, 4, temperature=0.7), v), "sampled at temperature 0.7"),
        (lambda t, v: (t, replaced(v, "observed_reward", 0, None)), "observed_reward is null"),
    ],
)
def test_bad_input(change, message):
    trajectories = make_trajectories(2, 4)
    trajectories, verdicts = change(trajectories, make_verdicts(trajectories, [1, 0, 0, 1] * 2))
    with pytest.raises(AssembleError, match=message):
        assemble_batch(trajectories, verdicts, make_params())


def test_nothing_left_says_why():
    trajectories = make_trajectories(2, 4)
    with pytest.raises(FilterError, match=r"all 8 rows were dropped \(2 abstained, 6 zero_variance\).*sampling.group_size"):
        assemble_batch(trajectories, make_verdicts(trajectories, [1] * 8, abstain=(0, 4)), make_params())


def test_a_round_may_be_solved_but_not_be_without_verdicts():
    trajectories = make_trajectories(2, 4)
    for denominator in ("kept", "all"):
        params = make_params(filter={"denominator": denominator})
        batch = assemble_batch(trajectories, make_verdicts(trajectories, [1] * 4 + [0] * 4), params, may_be_solved=True)
        assert batch["drop_reason"].to_pylist() == ["zero_variance"] * 8
        assert batch["step"].null_count == batch["denominator_rows"].null_count == 8
    abstained = make_verdicts(trajectories, [1] * 8, abstain=(0, 1, 2, 3, 4))
    with pytest.raises(FilterError, match=r"all 8 rows were dropped \(5 abstained, 3 zero_variance\).*verifier fails"):
        assemble_batch(trajectories, abstained, make_params(), may_be_solved=True)


@pytest.mark.parametrize(("solutions", "critiques", "steps"), [(128, 16, 8), (1024, 128, 9), (16, 2, 4)])
def test_every_optimizer_step_has_its_share_of_critiques(solutions, critiques, steps):
    """Paper of RISE, Alg. 1: both kinds are trained together; the sampler plans critiques after all solutions."""
    rows = make_trajectories(solutions + critiques, 2).to_pylist()
    for row in rows[2 * solutions :]:
        row["kind"] = "critique"
    trajectories = to_table("trajectories", rows)
    params = make_params(training={"steps_per_iteration": steps}, sampling={"group_size": 2, "tasks_per_iteration": solutions})
    batch = assemble_batch(trajectories, make_verdicts(trajectories, [1, 0] * (solutions + critiques)), params).to_pylist()
    count = np.zeros((steps, 2), dtype=int)
    for row, own in zip(batch, rows, strict=True):
        count[row["step"], int(own["kind"] == "critique")] += 1
    assert np.ptp(count.sum(1)) <= 2 and (abs(count[:, 1] - 2 * critiques / steps) < 2).all()
    order = [row["step"] for row, own in zip(batch, rows, strict=True) if own["kind"] == "solution"]
    assert order == sorted(order)


def test_ragged_rows():
    rows = from_column(pa.chunked_array([[[1, 2], [], [3, 4, 5]]], pa.list_(pa.int32())))
    taken = rows.take(np.array([2, 1, 0, 2]))
    assert [taken[i].tolist() for i in range(4)] == [[3, 4, 5], [], [1, 2], [3, 4, 5]]
    assert rows.sums().tolist() == [3, 0, 12]
    assert [rows.blanked(np.array([True, True, False]))[i].tolist() for i in range(3)] == [[1, 2], [], []]
    assert isinstance(taken, Ragged) and rows.rows.tolist() == [0, 0, 2, 2, 2]
