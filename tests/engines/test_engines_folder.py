"""Policy 0 may be a published model as it came; later policies are what transformers writes of it. Both are one model."""

import json

import pytest
from safetensors.torch import load_file, save_file
from tiny_policies import make_model, save_policy

from assay.engines import EngineError, Request, open_engine
from assay.engines.folder import check_same_shape, read_shape
from assay.params.execution import ExecutionParams
from assay.params.sampling import TransformersEngine
from assay.training.policies import publish_policy

REQUESTS = [Request((5, 6, 7), seed, 1.0, 1.0, 8) for seed in range(8)]


def rewrite(folder, change):
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def with_copies(weights):
    """As hubs hold models: a tied head twice, a buffer, and heads that transformers does not read."""
    more = {"lm_head.weight": weights["model.embed_tokens.weight"].clone(), "mtp.fc.weight": weights["model.norm.weight"].clone()}
    return weights | more | {"model.layers.0.self_attn.rotary_emb.inv_freq": weights["model.norm.weight"].clone()}


def without_prefix(weights):
    return {name.removeprefix("model."): value for name, value in weights.items()}


@pytest.fixture
def published(tmp_path):
    """A published model, and the policy that an update makes of it."""
    source = save_policy(tmp_path / "hub", 0, tied=True)
    rewrite(source, with_copies)
    model = make_model(3, tied=True)
    publish_policy(model, model.state_dict(), source, tmp_path / "next")
    return source, tmp_path / "next"


def opened(policy):
    return open_engine(
        TransformersEngine(device="cpu"), policy, stop_ids=(2,), dtype="float32", max_model_tokens=80, execution=ExecutionParams()
    )


def test_a_policy_made_of_a_published_model_is_loaded_in_its_place(published):
    source, later = published
    assert (source / "config.json").read_bytes() == (later / "config.json").read_bytes()
    assert "lm_head.weight" not in load_file(later / "model.safetensors")
    engine, fresh = opened(source), opened(later).generate(REQUESTS)
    before = engine.generate(REQUESTS)
    engine.load_policy(later)
    assert engine.generate(REQUESTS) == fresh != before
    engine.load_policy(source)
    assert engine.generate(REQUESTS) == before


def test_names_may_lack_the_prefix_of_the_base_model(tmp_path, published):
    source, later = published
    rewrite(source, without_prefix)
    check_same_shape(read_shape(source), later)


def test_files_beside_the_index_are_not_looked_at(published):
    source, later = published
    names = load_file(source / "model.safetensors")
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(names, "model.safetensors")}))
    save_file({"layers.0.attention.wq.weight": names["model.norm.weight"]}, source / "consolidated.safetensors")
    check_same_shape(read_shape(source), later)


@pytest.mark.parametrize("lost", ["model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight"])
def test_a_weight_that_is_missing_is_still_another_model(published, lost):
    source, later = published
    rewrite(later, lambda weights: {name: value for name, value in weights.items() if name != lost})
    with pytest.raises(EngineError, match=rf"next: another model than the one in the engine \({lost.removeprefix('model.')} is missing"):
        check_same_shape(read_shape(source), later)


def test_a_head_of_its_own_may_not_be_missing(tmp_path):
    source, later = save_policy(tmp_path / "hub", 0), save_policy(tmp_path / "next", 1)
    rewrite(later, lambda weights: {name: value for name, value in weights.items() if name != "lm_head.weight"})
    with pytest.raises(EngineError, match=r"lm_head\.weight is missing"):
        check_same_shape(read_shape(source), later)
