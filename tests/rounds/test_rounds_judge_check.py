"""A judge that could not do its work is found before a run, by its files and addresses alone."""

import json
import shutil

import numpy as np
import pytest

from assay.engines import PLAIN_TEMPLATE
from assay.environments import Task
from assay.params import Params
from assay.rounds.judge_check import check_judge, doubts
from assay.training.tokenizer import train_tokenizer
from assay.verifiers.sql_execution import NEEDS

KEY = r"verification\.appeals\.judge"


def params_with(judge, **more):
    verification = {"appeals": {"enabled": True, "judge": judge} | more.pop("appeals", {})} | more.pop("verification", {})
    return Params.model_validate({"verification": verification, **more})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A model folder with everything that a judge needs, of no sense."""
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("judges") / "whole"
    train_tokenizer(["1 + 2 = ? True or False"], 300, PLAIN_TEMPLATE, 64).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3", "max_position_embeddings": 8192}))
    save_file({"a": np.ones((4, 4), np.float32), "b": np.ones(3, np.float32)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def root(tmp_path, whole, monkeypatch):
    """A project with that folder as models/judge, and an empty cache of the hub, which is not reached."""
    shutil.copytree(whole, tmp_path / "models" / "judge")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path


def local(root, model="models/judge", **more):
    return check_judge(params_with({"type": "local", "model": model, **more}), root)


def test_without_appeals_nothing_is_said_and_other_judges_are_named(tmp_path):
    assert check_judge(Params(), tmp_path) is None
    assert check_judge(params_with({"type": "symbolic", "verifier": "numeric"}), tmp_path) == "judge: the verifier numeric"
    assert "true-positive rate 0.9" in check_judge(params_with({"type": "simulated", "true_positive_rate": 0.9}), tmp_path)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://x/v1", "http://", "http://x:port/v1"])
def test_an_address_that_is_none_is_named_with_its_key(tmp_path, url):
    good = {"judge": {"urls": ["http://127.0.0.1:1/v1"]}}
    assert "http://127.0.0.1:1/v1 (not asked now" in check_judge(params_with({"type": "endpoint"}, execution=good), tmp_path)
    bad = {"judge": {"urls": ["http://127.0.0.1:1/v1", url]}}
    with pytest.raises(ValueError, match=r"execution\.judge\.urls holds '.*', which is no address: expected"):
        check_judge(params_with({"type": "endpoint"}, execution=bad), tmp_path)


def test_a_complete_folder_is_found_beside_params_and_by_its_path(root):
    assert local(root) == "judge: the model in models/judge (complete)"
    assert "complete" in local(root / "elsewhere", str(root / "models" / "judge"))


def test_a_cut_file_of_weights_is_found(root):
    file = root / "models" / "judge" / "model.safetensors"
    content = file.read_bytes()
    for size in (len(content) - 1, len(content) // 2, 4, 0):
        file.write_bytes(content[:size])
        with pytest.raises(ValueError, match=rf"{KEY}\.model is 'models/judge': model\.safetensors is cut off or damaged"):
            local(root)
    file.write_bytes(b"\x08" + b"\0" * 7 + b"not json")
    with pytest.raises(ValueError, match=r"model\.safetensors is no file of weights"):
        local(root)


def test_a_missing_file_is_named(root):
    judge = root / "models" / "judge"
    index = judge / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "c": "model-2.safetensors"}}))
    with pytest.raises(ValueError, match=r"model-2\.safetensors, which its index names, is missing"):
        local(root)
    index.write_text("{")
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json cannot be read"):
        local(root)
    index.unlink()
    assert "complete" in local(root)
    for names, words in (
        (["tokenizer.json", "tokenizer_config.json"], "without tokenizer"),
        (["model.safetensors"], r"no \*\.safetensors in"),
        (["config.json"], r"no config\.json in"),
    ):
        for name in names:
            (judge / name).unlink()
        with pytest.raises(ValueError, match=words):
            local(root)


def test_a_model_that_is_too_short_for_the_question_is_refused(root):
    with pytest.raises(ValueError, match=rf"the question alone has \d+ tokens, but {KEY}\.max_prompt_tokens is 64"):
        local(root, max_prompt_tokens=64)
    with pytest.raises(ValueError, match=r"it has 8192 positions, but .*max_prompt_tokens and max_tokens together are 8193"):
        local(root, max_prompt_tokens=8000, max_tokens=193)
    (root / "models" / "judge" / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"its config\.json cannot be read"):
        local(root)


@pytest.mark.parametrize("model", ["./models/jugde", "/no/such/judge", "models/judges/last", "a judge"])
def test_a_folder_that_is_not_there_and_no_name_of_the_hub_is_refused(root, model):
    with pytest.raises(ValueError, match=rf"{KEY}\.model is '{model}': there is no such folder"):
        local(root, model)


def test_a_name_of_the_hub_is_looked_up_in_the_cache_alone(root, whole, monkeypatch):
    assert local(root, "some/judge") == (
        "judge: the hub's model some/judge, which will be fetched when the first answers are verified (it is not in the local cache)"
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="it is not in the local cache, and the hub is switched off"):
        local(root, "some/judge")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    cached = root / "cache" / "models--some--judge"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    shutil.copytree(whole, cached / "snapshots" / ("0" * 40))
    assert local(root, "some/judge") == "judge: the hub's model some/judge, which is in the local cache"
    (cached / "snapshots" / ("0" * 40) / "model.safetensors").unlink()
    assert "will be fetched when the first answers are verified (no *.safetensors in" in local(root, "some/judge")


def tasks(*verifiers, split="train", meta=None):
    return [
        Task.create(f"of {verifier}", split, f"{number} = ?", "1", verifier, meta or {})
        for number, verifier in enumerate(verifiers)
    ]  # fmt: skip


def test_tasks_whose_own_rule_is_the_judge_are_counted():
    mixed = tasks("math_verify", "numeric", "math_verify", "string_match")
    judge = {"type": "symbolic", "verifier": "math_verify"}
    (found,) = doubts(mixed, params_with(judge))
    assert found.sentence == (
        "verification.appeals.judge.verifier is math_verify, the rule itself of 2 of 4 training tasks (of math_verify): it would uphold "
        "no appeal of theirs; choose another judge"
    )
    assert not found.everywhere
    (all_of_them,) = doubts(tasks("math_verify", "math_verify") + tasks("numeric", split="eval"), params_with(judge))
    assert all_of_them.everywhere and "of all 2 training tasks" in all_of_them.sentence


def test_no_doubt_where_the_rule_is_another_noise_is_injected_or_nothing_is_appealed():
    judge, given = {"type": "symbolic", "verifier": "math_verify"}, tasks("math_verify", "math_verify")
    assert doubts(given, params_with(judge, verification={"rule": "string_match"})) == []
    assert doubts(given, params_with(judge, verification={"noise": {"type": "independent"}})) == []
    assert doubts(given, Params()) == []
    assert doubts(tasks("math_verify", split="eval"), params_with(judge)) == []


def test_a_judge_of_formulas_is_no_judge_of_queries():
    judge, meta = {"type": "symbolic", "verifier": "math_verify"}, dict.fromkeys(NEEDS, "")
    (some,) = doubts(tasks("sql_execution", "numeric", meta=meta), params_with(judge))
    assert not some.everywhere and "in 1 of 2 training tasks (of sql_execution): it abstains" in some.sentence
    (every,) = doubts(tasks("sql_execution", "protocol_score", meta=meta), params_with(judge))
    assert every.everywhere and "in all 2 training tasks" in every.sentence
    assert doubts(tasks("sql_execution", meta=meta | {"oracle": "sql_execution"}), params_with({"type": "simulated"})) == []


def test_a_judge_that_needs_an_oracle_needs_it_of_the_tasks():
    given = tasks("numeric", "numeric") + tasks("string_match", meta={"oracle": "rational"})
    (simulated,) = doubts(given, params_with({"type": "simulated"}))
    assert "judge.type is simulated, but there is no oracle for 2 of 3 training tasks (of numeric)" in simulated.sentence
    symbolic = {"type": "symbolic", "verifier": "math_verify"}
    (measured,) = doubts(given[:2], params_with(symbolic, appeals={"judge_rates": "measured"}))
    assert measured.everywhere and "judge_rates is measured, but there is no oracle for all 2 training tasks" in measured.sentence
    assert doubts(given[2:], params_with({"type": "simulated"})) == []
