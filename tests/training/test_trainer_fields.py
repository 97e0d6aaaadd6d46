"""Which fields of GRPOConfig may be set, and what our own parameters refuse before any work."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from trainer_fixtures import make_params, make_policy

from assay.params.grpo import ALLOWED, OWNED, REFUSED
from assay.params.training import TrainingParams
from assay.training.grpo import LaunchError, grpo_config, wants_dvclive
from assay.training.schedule import learning_rate_factor
from assay.training.session import UpdateSession
from assay.training.trl_surface import GRPOConfig

ROOT = Path(__file__).parents[2]


def test_every_named_field_exists():
    names = {field.name for field in dataclasses.fields(GRPOConfig)}
    assert ALLOWED <= names and OWNED.keys() <= names and REFUSED.keys() <= names
    assert not ALLOWED & OWNED.keys() and not REFUSED.keys() & (ALLOWED | OWNED.keys())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learning_rate": 1}, "set by training.learning_rate"),
        ({"num_generations": 4}, "set by sampling.group_size"),
        ({"use_vllm": True}, "not a field of GRPOConfig that an update"),
        ({"gradient_checkpoint": True}, "did you mean gradient_checkpointing"),
        ({"deepspeed": "zero2.json"}, "training.grpo.deepspeed: DeepSpeed keeps the optimizer .* DDP"),
        ({"fp16": True}, "training.grpo.fp16: .* set bf16 instead"),
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


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "accelerate launch was asked for DeepSpeed"),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, "asked for mixed precision fp16, but the parameters say no"),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, "asked for mixed precision bf16, but the parameters say no"),
    ],
)
def test_a_launch_cannot_overrule_the_parameters(tmp_path, monkeypatch, variables, message):
    policy = make_policy(tmp_path / "policy")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LaunchError, match=message):
        grpo_config(make_params(), policy, tmp_path)


@pytest.mark.parametrize(("fields", "variables"), [({"fsdp": "full_shard"}, {}), ({}, {"ACCELERATE_USE_FSDP": "true"})])
def test_an_adapter_is_not_trained_in_shards(tmp_path, monkeypatch, fields, variables):
    policy = make_policy(tmp_path / "policy")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LaunchError, match=r"FSDP was asked for, and training\.lora: an adapter cannot be merged"):
        grpo_config(make_params(training={"lora": {}, "grpo": {"report_to": "none"} | fields}), policy, tmp_path)


def test_one_process_uses_one_of_several_gpus(tmp_path, monkeypatch):
    """As on a machine with two: without a device here, only the count is made up."""
    ready = GRPOConfig.__post_init__

    def two(self):
        ready(self)
        self._n_gpu = 2

    monkeypatch.setattr(GRPOConfig, "__post_init__", two)
    policy, lines = make_policy(tmp_path / "policy"), []
    config = grpo_config(make_params(), policy, tmp_path, lines.append)
    assert config.n_gpu == 1
    assert lines == ["2 GPUs seen, one used: start with accelerate launch to use them all"]
    UpdateSession(policy, None, make_params(), scratch=tmp_path / "s")  # TRL refuses two


@pytest.mark.parametrize("preset", sorted((ROOT / "conf/scale").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_scale_writes_checkpoints(preset):
    training = TrainingParams.model_validate(yaml.safe_load(preset.read_text())["training"])
    assert training.checkpoint_every < training.steps_per_iteration


@pytest.mark.parametrize(("name", "denominator"), [("grpo", "all"), ("dr_grpo", "all"), ("rloo", "all"), ("dapo", "kept")])
def test_presets_divide_as_their_papers_do(name, denominator):
    content = yaml.safe_load((ROOT / f"conf/method/{name}.yaml").read_text())
    assert content["filter"]["denominator"] == denominator


def test_schedules():
    def factors(steps, **training):
        section = make_params(training={**training, "grpo": {}}).training
        return [learning_rate_factor(step, section) for step in steps]

    assert factors(range(4), warmup_steps=2) == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert factors([0, 5, 10, 99], schedule="linear", total_steps=10) == pytest.approx([1, 0.5, 0, 0])
    assert factors([0, 2, 6, 10], schedule="cosine", total_steps=10, warmup_steps=2) == pytest.approx([1 / 3, 1, 0.5, 0])
