"""Which fields of GRPOConfig may be set, and what our own parameters refuse before any work."""

import dataclasses

import pytest
from trainer_fixtures import make_params, make_policy

from assay.params.grpo import ALLOWED, OWNED
from assay.training.grpo import grpo_config, wants_dvclive
from assay.training.schedule import learning_rate_factor
from assay.training.trl_surface import GRPOConfig


def test_every_named_field_exists():
    names = {field.name for field in dataclasses.fields(GRPOConfig)}
    assert ALLOWED <= names and OWNED.keys() <= names
    assert not ALLOWED & OWNED.keys()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learning_rate": 1}, "set by training.learning_rate"),
        ({"num_generations": 4}, "set by sampling.group_size"),
        ({"use_vllm": True}, "not a field of GRPOConfig that an update"),
        ({"gradient_checkpoint": True}, "did you mean gradient_checkpointing"),
    ],
)
def test_refused_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        make_params(training={"grpo": fields})


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"sampling": {"group_size": 1}}, "compares the completions of one task"),
        ({"training": {"divergence": {"coefficient": 0.1, "estimator": "k1"}}}, "gradient of zero mean"),
        ({"training": {"loss": {"clip_high": 2.5, "dual_clip": 3.0}}}, "above 1 \\+ clip_high"),
    ],
)
def test_refused_combinations(sections, message):
    with pytest.raises(ValueError, match=message):
        make_params(**sections)


def test_fields_reach_the_configuration(tmp_path):
    policy, half = make_policy(tmp_path / "full"), make_policy(tmp_path / "half", dtype="bfloat16")
    params = make_params(training={"grpo": {"gradient_checkpointing": True, "report_to": ["dvclive"], "adam_epsilon": 1e-5}})
    config = grpo_config(params, policy, tmp_path)
    assert (config.gradient_checkpointing, config.report_to, config.adam_epsilon) == (True, [], 1e-5)
    assert wants_dvclive(params) and not wants_dvclive(make_params())
    assert (config.bf16, grpo_config(params, half, tmp_path).bf16) == (False, True)


def test_schedules():
    def factors(steps, **training):
        section = make_params(training={**training, "grpo": {}}).training
        return [learning_rate_factor(step, section) for step in steps]

    assert factors(range(4), warmup_steps=2) == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert factors([0, 5, 10, 99], schedule="linear", total_steps=10) == pytest.approx([1, 0.5, 0, 0])
    assert factors([0, 2, 6, 10], schedule="cosine", total_steps=10, warmup_steps=2) == pytest.approx([1 / 3, 1, 0.5, 0])
