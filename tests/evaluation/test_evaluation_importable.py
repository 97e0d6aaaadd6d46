"""What people use of a method in a training script of their own: each name from where design and docs/methods.md say it is."""

from importlib import import_module

import pytest

NAMES = {
    "objectives.advantages": "group_zscore leave_one_out reinforce_plus_plus generalized_advantage",
    "objectives.corrections": "backward forward audit",
    "objectives.lp_reg": "proxy penalty",
    "objectives.divergence": "generator",
    "objectives.entropy": "top_entropy_mask",
    "objectives.policy": "clipped dual_clipped sequence_clipped numerator denominator",
    "verifiers.noise": "Channel AppealsEstimator",
    "rewards.tool_use": "turn_reward episode_metrics",
    "rewards.stepwise": "segment propagate",
    "rewards.protocol": "parse score",
    "rewards.self_verification": "critique_reward weighted_vote",
    "evaluation.estimators": "pass_at_k mean_with_interval keep_rate explore_rate",
}


@pytest.mark.parametrize(("module", "names"), NAMES.items())
def test_names_are_where_they_are_said_to_be(module, names):
    room = import_module(f"assay.{module}")
    assert [name for name in names.split() if not callable(getattr(room, name, None))] == []
