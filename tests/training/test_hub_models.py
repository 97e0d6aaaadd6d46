"""What published models have and ours do not: generation configurations that contradict themselves, halves for images, other types."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file
from trainer_fixtures import batch_of, files_of, make_params, make_policy, weights_of
from transformers import AutoModelForCausalLM

from assay.environments import Task
from assay.training.base import BaseError, base_folder, base_policy, check_folder
from assay.training.beginnings import from_base
from assay.training.grpo import grpo_config
from assay.training.policies import precision
from assay.training.update import update
from assay.trajectories import to_table


@pytest.mark.parametrize("own", [{"temperature": 0.9, "top_p": 0.6}, {"do_sample": False, "temperature": 0.6, "top_k": 20}])
def test_a_generation_configuration_that_contradicts_itself_is_passed_on(tmp_path, own):
    policy = make_policy(tmp_path / "policy")
    (policy / "generation_config.json").write_text(json.dumps(own | {"eos_token_id": 1}))
    update(policy, None, batch_of(make_params()), make_params(), out=tmp_path / "next", scratch=tmp_path / "s")
    before, after = files_of(policy), files_of(tmp_path / "next/policy")
    assert [name for name in before if before[name] != after.get(name)] == ["model.safetensors"]


@pytest.mark.parametrize("left", [0, 4, 2000])
def test_weights_that_are_cut_off_are_found_before_they_are_policy_0(tmp_path, left):
    policy = make_policy(tmp_path / "policy")
    check_folder(policy, "policy")
    os.truncate(policy / "model.safetensors", left)
    with pytest.raises(BaseError, match=r"policy\.base is 'policy': model\.safetensors in .* is cut off or damaged"):
        check_folder(policy, "policy")


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


def policy_0(base, tmp_path, **policy):
    params = make_params(policy={"base": str(base)} | policy)
    tasks = to_table("tasks", [Task.create("own", "train", "w2 w3", "w4", "string_match").to_row()])
    base_policy(params, tasks, tmp_path / "models/0", tmp_path / "scratch")
    return tmp_path / "models/0/policy"


@pytest.mark.parametrize("shards", ["5GB", "4KB"])
def test_a_base_in_float32_is_published_and_trained_as_policy_dtype_says(tmp_path, shards):
    base = make_policy(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    (base / "model.safetensors").unlink()
    model.save_pretrained(base, max_shard_size=shards)
    policy, params = policy_0(base, tmp_path, dtype="bfloat16"), make_params()  # the update does not see `policy`
    found, given = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (policy, base))
    assert all(value.dtype == torch.bfloat16 and torch.equal(value, given[name].bfloat16()) for name, value in found.items())
    before, after = files_of(base), files_of(policy)
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {"config.json", *(name for name in before if "model" in name)}
    assert precision(policy, params) == "bfloat16" and grpo_config(params, policy, tmp_path).bf16
    update(policy, None, batch_of(params), params, out=tmp_path / "models/1", scratch=tmp_path / "s")
    assert {value.dtype for value in weights_of(tmp_path / "models/1/policy").values()} == {torch.bfloat16}
    assert {value.dtype for value in weights_of(tmp_path / "models/1/trainer/weights").values()} == {torch.float32}


@pytest.mark.parametrize(("own", "wanted"), [("float32", "float32"), ("bfloat16", "float32"), ("float16", "bfloat16")])
def test_a_base_is_never_put_into_a_longer_type(tmp_path, own, wanted):
    base = make_policy(tmp_path / "base", dtype=own)
    policy = policy_0(base, tmp_path, dtype=wanted)
    assert files_of(policy) == files_of(base)
    assert precision(policy, make_params()) == (None if own == "float32" else "bfloat16")


@pytest.mark.parametrize(("own", "wanted", "published"), [("float32", "bfloat16", "bfloat16"), ("bfloat16", "float32", "bfloat16")])
def test_a_fine_tuned_base_is_published_in_the_shorter_type(tmp_path, own, wanted, published):
    base = make_policy(tmp_path / "base", dtype=own)
    params = make_params(policy={"base": str(base), "fine_tune": True, "dtype": wanted})
    start = from_base(params, base, "warm_start", params.warm_start)
    start.save(tmp_path / "between", "float32")  # pre-training rounds nothing that it need not
    start.save(tmp_path / "policy", wanted)
    assert {value.dtype for value in load_file(tmp_path / "between/model.safetensors").values()} == {getattr(torch, own)}
    assert {value.dtype for value in load_file(tmp_path / "policy/model.safetensors").values()} == {getattr(torch, published)}
    assert json.loads((tmp_path / "policy/config.json").read_text())["dtype"] == published
