"""Corrected advantages in the training batch: from estimates to streams, with the matched control and the audit beside them."""

import numpy as np
import pyarrow as pa
import pytest
from trainer_fixtures import make_params, make_policy, make_trajectories, make_verdicts

from assay.training.assemble import assemble_batch
from assay.training.corrected import CorrectionInputError, Noise
from assay.training.update import update
from assay.trajectories import schema, to_table

REWARDS = [1, 0, 0, 0] + [0] * 4 + [1] * 4
GIVEN = {"false_positive_rate": 0.1, "false_negative_rate": 0.2}
APPEALS = {"appeals": {"enabled": True}, "oracle": True}


def params_with(advantage, **more):
    return make_params(training={"advantage": advantage, "grpo": {}}, **more)


def estimates(**columns):
    row = dict.fromkeys(schema("noise_estimates").names) | {
        "iteration": 0, "round": 0, "environment": "sums", "verifier": "string_match", "against": "judge", "n": 1, "rule_positives": 1,
        "rule_negatives": 1, "examined_negatives": 1, "false_negatives": 1.0,
    }  # fmt: skip
    return to_table("noise_estimates", [row | columns])


def noise_of(trajectories, verdicts, **columns):
    table = estimates(**columns)
    verifier = verdicts["verifier"][0].as_py()
    table = table.set_column(table.schema.get_field_index("verifier"), table.schema.field("verifier"), pa.array([verifier]))
    return Noise(dict.fromkeys(trajectories["task_id"].to_pylist(), "sums"), table)


def batch_with(advantage, rewards=REWARDS, noise_columns=None, abstain=(), **more):
    trajectories = make_trajectories(3, 4)
    verdicts = make_verdicts(trajectories, rewards, abstain=abstain)
    noise = None if noise_columns is None else noise_of(trajectories, verdicts, **noise_columns)
    lines = []
    batch = assemble_batch(trajectories, verdicts, params_with(advantage, **more), noise=noise, note=lines.append)
    return batch, lines


def test_given_rates_give_the_papers_numbers():
    """A6, tests 6 and 9."""
    batch, _ = batch_with({"type": "backward", **GIVEN})
    assert batch["advantage"].to_pylist()[:4] == pytest.approx([1.428571, -0.476190, -0.476190, -0.476190], abs=1e-6)
    assert batch["control_advantage"].to_pylist()[:4] == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3], abs=1e-6)
    assert batch["drop_reason"].to_pylist()[4:] == ["zero_variance"] * 8
    batch, _ = batch_with({"type": "forward", **GIVEN})
    assert batch["advantage"].to_pylist() == pytest.approx([0.2, -0.8, -0.8, -0.8] + [-0.8] * 4 + [0.2] * 4, abs=1e-6)
    assert batch["control_advantage"].to_pylist() == pytest.approx(REWARDS, abs=1e-6)
    assert all(batch["kept"].to_pylist())  # groups without variance have a gradient here


def test_older_recipes_are_the_z_score_of_uncorrected_rewards():
    """A6, test 7: nothing is corrected, and the audit says so."""
    plain, _ = batch_with({"type": "group_zscore"})
    for kind in ("backward_zscored", "forward_zscored"):
        batch, _ = batch_with({"type": kind, **GIVEN})
        assert batch["advantage"].to_pylist() == pytest.approx(plain["advantage"].to_pylist(), abs=1e-5)
        assert batch["control_advantage"].to_pylist() == pytest.approx(plain["advantage"].to_pylist(), abs=1e-7)
        assert batch["kept"].to_pylist() == plain["kept"].to_pylist()


def test_estimated_rates_are_those_of_the_rows_environment():
    columns = {"smoothed_rate": 0.2, "carried_rate": 0.4, "smoothed_false_positive_rate": 0.1, "carried_false_positive_rate": 0.2}
    now, _ = batch_with({"type": "backward"}, noise_columns=columns, verification=APPEALS)
    given, _ = batch_with({"type": "backward", **GIVEN})
    assert now["advantage"].equals(given["advantage"])
    lagging, _ = batch_with({"type": "forward", "lag": 1}, noise_columns=columns, verification=APPEALS)
    assert lagging["advantage"].to_pylist()[:2] == pytest.approx([0.4, -0.6], abs=1e-6)
    remaining = columns | {"residual_false_negative_rate": 0.05, "residual_false_positive_rate": 0.1}
    recovered, _ = batch_with({"type": "forward"}, noise_columns=remaining, verification=APPEALS)
    assert recovered["advantage"].to_pylist()[:2] == pytest.approx([0.05, -0.95], abs=1e-6)
    with pytest.raises(CorrectionInputError, match="no noise_estimates are given"):
        batch_with({"type": "forward"}, verification=APPEALS)
    with pytest.raises(CorrectionInputError, match="noise_estimates has no row for sums, verifier test"):
        batch_with({"type": "forward"}, noise_columns=columns | {"environment": "other"}, verification=APPEALS)


def test_without_an_estimate_rows_get_their_controls_advantage_and_it_is_said():
    batch, lines = batch_with({"type": "forward"}, noise_columns={}, verification=APPEALS)
    assert batch["advantage"].to_pylist() == pytest.approx(REWARDS)
    assert any("no estimate of test's error rates yet" in line for line in lines)
    assert batch["used_false_negative_rate"].null_count == 12
    # A false-positive rate that is not known yet keeps nobody from forward weights.
    columns = {"smoothed_rate": 0.2}
    batch, lines = batch_with({"type": "forward", "false_positive_rate": "estimated"}, noise_columns=columns, verification=APPEALS)
    assert batch["advantage"].to_pylist()[:2] == pytest.approx([0.2, -0.8], abs=1e-6) and lines == []
    # Nor is one that recovery found unknown taken for 0.
    columns |= {"residual_false_negative_rate": 0.1}
    batch, lines = batch_with({"type": "backward"}, noise_columns=columns, verification=APPEALS)
    assert batch["advantage"].equals(batch["control_advantage"]) and len(lines) == 1


def test_an_estimated_determinant_below_its_minimum_is_raised_and_said():
    """A6, test 14."""
    columns = {"smoothed_rate": 0.7, "smoothed_false_positive_rate": 0.4}
    batch, lines = batch_with({"type": "backward"}, noise_columns=columns, verification=APPEALS)
    assert batch["advantage"][0].as_py() == pytest.approx(1 / 0.05, rel=1e-5)
    assert lines == ["sums: minimum_determinant 0.05 stands in for 1 - the error rates, which is -0.100"]
    assert batch["used_determinant"].to_pylist() == pytest.approx([0.05] * 12)
    assert batch["used_false_negative_rate"].to_pylist() == pytest.approx([0.7] * 12)
    # Forward weights divide by nothing, but for their scales, which have the same floor.
    almost, scaled = {"smoothed_rate": 0.9999997}, {"type": "forward", "scale": "one_minus_false_negative_rate"}
    batch, lines = batch_with(scaled, noise_columns=almost, verification=APPEALS)
    assert batch["advantage"][0].as_py() == pytest.approx(0.9999997 / 0.05) and "stands in for 1 - the error rates" in lines[0]
    _, lines = batch_with({"type": "forward"}, noise_columns=columns, verification=APPEALS)
    assert lines == []


def test_scales_divide_advantage_and_control_alike():
    columns = {"smoothed_rate": 0.2, "smoothed_false_positive_rate": 0.1, "smoothed_deviation": 0.35}
    batch, _ = batch_with({"type": "backward", "scale": "ema"}, noise_columns=columns, verification=APPEALS)
    assert batch["advantage"][0].as_py() == pytest.approx(1 / 0.7 / (0.35 / 0.7), rel=1e-6)
    # The scale is a deviation of corrected rewards, the control's one of observed ones: the correction divides out.
    assert batch["control_advantage"].equals(batch["advantage"])
    lagging = columns | {"carried_rate": 0.2, "carried_false_positive_rate": 0.1, "carried_deviation": 0.7}
    batch, _ = batch_with({"type": "backward", "scale": "ema", "lag": 1}, noise_columns=lagging, verification=APPEALS)
    assert batch["advantage"][0].as_py() == pytest.approx(1 / 0.7, rel=1e-6)
    for scale, value in (("determinant", 0.7), ("one_minus_false_negative_rate", 0.8), (2.0, 2.0)):
        batch, _ = batch_with({"type": "forward", "scale": scale, **GIVEN})
        assert batch["advantage"].to_pylist()[:2] == pytest.approx([0.2 / value, -0.8 / value], rel=1e-6)
        assert batch["control_advantage"][0].as_py() == pytest.approx(1 / value, rel=1e-6)
    batch, _ = batch_with({"type": "direct", "scale": 2.0})
    assert batch["advantage"].to_pylist() == pytest.approx([reward / 2 for reward in REWARDS])
    assert batch["control_advantage"].null_count == 12


def test_penalty_and_clip_change_no_advantage(tmp_path):
    """A6, test 15: the correction comes before them."""
    plain, _ = batch_with({"type": "forward", **GIVEN})
    trajectories = make_trajectories(3, 4)
    options = {"advantage": {"type": "forward", **GIVEN}, "grpo": {}, "loss": {"clip_low": 0.5, "clip_high": 0.9}}
    params = make_params(training=options | {"divergence": {"coefficient": 0.3}})
    reference = make_policy(tmp_path / "policy")
    batch = assemble_batch(trajectories, make_verdicts(trajectories, REWARDS), params, reference=reference)
    assert batch["reference_logprobs"].null_count == 0
    assert batch["advantage"].equals(plain["advantage"]) and batch["token_advantages"].null_count == 12


def test_abstained_rows_have_neither_advantage_nor_control():
    batch, _ = batch_with({"type": "forward", **GIVEN}, abstain=(1, 5, 6, 7))
    for name in ("advantage", "control_advantage"):
        assert [row for row, value in enumerate(batch[name].to_pylist()) if value is None] == [1, 5, 6, 7]
    lonely, _ = batch_with({"type": "backward", **GIVEN}, abstain=(5, 6, 7))
    assert lonely["advantage"][4].as_py() == 0  # nothing to be compared with


def test_a_correction_that_is_off_changes_no_bit():
    """Rates of 0: backward is leave-one-out, element by element."""
    plain, _ = batch_with({"type": "leave_one_out"})
    off, _ = batch_with({"type": "backward", "false_positive_rate": 0.0, "false_negative_rate": 0.0})
    of_corrections = [name for name in off.column_names if name.startswith(("control_", "used_"))]
    assert off.drop_columns(of_corrections).equals(plain.drop_columns(of_corrections))
    assert all(plain[name].null_count == len(plain) for name in of_corrections)


def test_updates_carry_the_audit(tmp_path):
    """A1.9, over tokens: for leave-one-out rewards the correction is a factor, for direct ones it is not."""
    policy = make_policy(tmp_path / "policy")
    found = {}
    for kind in ("backward", "forward", "leave_one_out"):
        rates = {} if kind == "leave_one_out" else GIVEN
        trajectories = make_trajectories(3, 4)
        rewards = [1, 0, 0, 0, 1, 1, 0, 0, 1, 0, 1, 1]
        params = params_with({"type": kind, **rates})
        batch = assemble_batch(trajectories, make_verdicts(trajectories, rewards), params)
        table = update(policy, None, batch, params, out=tmp_path / kind, scratch=tmp_path / f"{kind}-scratch").updates
        found[kind] = table.select(["audit_mean_difference", "audit_max_difference", "audit_cosine"]).to_pylist()
        tokens = np.asarray([sum(mask) for mask in batch["loss_mask"].to_pylist()])
        if rates:
            one, other = (np.repeat(batch[name].to_numpy().astype(np.float64), tokens) for name in ("advantage", "control_advantage"))
            step = np.repeat(batch["step"].to_numpy(), tokens)
            for row, number in zip(found[kind], sorted(set(step)), strict=True):
                a, b = one[step == number], other[step == number]
                assert row["audit_mean_difference"] == pytest.approx(np.abs(a - b).mean(), rel=1e-9)
                assert row["audit_max_difference"] == pytest.approx(np.abs(a - b).max(), rel=1e-9)
                assert row["audit_cosine"] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-9)
    assert all(row["audit_cosine"] == pytest.approx(1) and row["audit_mean_difference"] > 0.1 for row in found["backward"])
    assert all(row["audit_cosine"] < 0.9 for row in found["forward"])
    assert all(value is None for row in found["leave_one_out"] for value in row.values())
