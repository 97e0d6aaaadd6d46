"""What is checked where parameters are read: room for all that is sampled, and methods that tasks with tools do not go with."""

import pytest
import yaml

from assay.params import load_params
from benchmarks.workspace import ROOT


def loaded(tmp_path, **values):
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    own = {"scale": "tiny", "iterations": [{"k": 0, "next": 1}], "last_policy": 1, **values}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(own))
    return load_params(tmp_path)


@pytest.mark.parametrize(("values", "message"), [
    ({"sampling": {"max_tokens": 100}}, r"policy.max_prompt_tokens and sampling.max_tokens together are 164, but .*max_positions is 128"),
    ({"method": "rise", "self_verification": {"max_prompt_tokens": 120}}, r"self_verification.max_prompt_tokens and sampling.max_tokens"),
    ({"method": "vsrm", "environment": "overthinking", "stepwise": {"max_tokens": 90}}, r"sampling.max_tokens and stepwise.max_tokens"),
    ({"environment": "tools", "sampling": {"episodes": {"max_tokens": 400}}}, r"sampling.episodes.max_tokens is 400, but"),
])  # fmt: skip
def test_what_has_no_room_is_named_before_anything_runs(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        loaded(tmp_path, **values)


def test_a_model_that_is_given_has_positions_of_its_own(tmp_path):
    assert loaded(tmp_path, policy={"base": "somewhere"}, sampling={"max_tokens": 4000}).sampling.max_tokens == 4000


@pytest.mark.parametrize("method", ["rise", "vsrm", "appeals", "backward", "dph_js", "outcome"])
def test_methods_for_single_answers_are_refused_for_tasks_with_tools(tmp_path, method):
    with pytest.raises(ValueError, match=r"is played with tools, but .* leave one of them out"):
        loaded(tmp_path, method=method, environment="tools", policy={"base": "somewhere"})


@pytest.mark.parametrize("method", [
    "grpo", "dapo", "dr_grpo", "rloo", "reinforce_plus_plus", "gspo", "clip_higher", "kl_cov", "entropy_bonus", "lp_reg", "top_entropy",
    "reverse_kl_k3", "score", "ftrl", "ftrl_reinforce",
])  # fmt: skip
def test_all_families_are_mixed_in_one_run_under_every_method_that_asks_rewards_alone(tmp_path, method):
    params = loaded(tmp_path, method=method, environment="mixed_all")
    assert [section.type for section in params.environments.values()] == [
        "rational_arithmetic", "reasoning_gym", "text_to_sql", "protocols", "tools",
    ]  # fmt: skip
    episodes = params.sampling.episodes
    assert params.policy.max_prompt_tokens + params.sampling.max_tokens < episodes.max_tokens <= params.policy.shape.max_positions


@pytest.mark.parametrize(("method", "own", "message"), [
    ("rise", {"self_verification": {"levels": [1.0, 0.0, 0.0]}}, "a critique must give what its solution earns"),
    ("rise", {"self_verification": {"boxed": True}}, "a critique must give what its solution earns"),
    ("rise", {"self_verification": {"levels": [1.0, 1 / 3, 0.0]}}, "at most six decimals"),
    ("rise", {"fused": {"max_staleness": 1}}, "set max_staleness to 0"),
    ("ppo", {"training": {"critic": {"warmup_steps": 10_000}}}, "the policy would never learn"),
])  # fmt: skip
def test_settings_under_which_a_reward_would_be_wrong_are_refused(tmp_path, method, own, message):
    with pytest.raises(ValueError, match=message):
        loaded(tmp_path, method=method, **own)
