"""What published models have and ours do not: generation configurations that contradict themselves, halves for images."""

import json

import pytest
from trainer_fixtures import batch_of, files_of, make_params, make_policy

from assay.training.base import BaseError, base_folder, check_folder
from assay.training.update import update


@pytest.mark.parametrize("own", [{"temperature": 0.9, "top_p": 0.6}, {"do_sample": False, "temperature": 0.6, "top_k": 20}])
def test_a_generation_configuration_that_contradicts_itself_is_passed_on(tmp_path, own):
    policy = make_policy(tmp_path / "policy")
    (policy / "generation_config.json").write_text(json.dumps(own | {"eos_token_id": 1}))
    update(policy, None, batch_of(make_params()), make_params(), out=tmp_path / "next", scratch=tmp_path / "s")
    before, after = files_of(policy), files_of(tmp_path / "next/policy")
    assert [name for name in before if before[name] != after.get(name)] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"vision_config": {"depth": 1}}, r"Qwen3ForCausalLM, which also takes images or sound \(vision_config in its config.json\)"),
        ({"audio_config": {}}, "audio_config in its config.json"),
        ({"architectures": ["Qwen3ForSequenceClassification"]}, "it would be loaded as Qwen3ForCausalLM, with other weights"),
        ({"model_type": "qwen3_5", "architectures": ["Qwen3_5ForConditionalGeneration"]}, "it would be loaded as Qwen3_5ForCausalLM"),
    ],
)
def test_a_model_of_more_than_text_is_refused_before_any_work(tmp_path, more, message):
    policy = make_policy(tmp_path / "policy")
    params = make_params(policy={"base": "policy"})
    assert base_folder(params, tmp_path) == policy
    config = json.loads((policy / "config.json").read_text())
    (policy / "config.json").write_text(json.dumps(config | more))
    with pytest.raises(BaseError, match=message):
        check_folder(policy, "policy")
    with pytest.raises(BaseError, match=message):
        base_folder(params, tmp_path, weights=False)


@pytest.mark.parametrize(
    "own", [{"architectures": ["Qwen3forCausalLM"]}, {"architectures": None}, {"model_type": "unheard", "architectures": ["X"]},
            {"vision_config": None}, {"auto_map": {"AutoModelForCausalLM": "a.B"}, "architectures": ["B"]}],
)  # fmt: skip
def test_a_model_of_text_is_taken(tmp_path, own):
    policy = make_policy(tmp_path / "policy")
    config = json.loads((policy / "config.json").read_text())
    (policy / "config.json").write_text(json.dumps(config | own))
    check_folder(policy, "policy")
