"""The warm start: tokenizer, model and supervised training, on a problem that is learned in seconds."""

import json
import shutil
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.engines import PLAIN_TEMPLATE, EngineMistake
from assay.environments import Task
from assay.params import Params
from assay.training.base import BaseError, base_policy
from assay.training.demonstrations import IGNORED, Limit, batches, by_width, encode
from assay.training.tokenizer import TokenizerError, train_tokenizer
from assay.training.warm_start import WarmStartError, WarmStartRun, warm_start
from assay.trajectories import to_table, tree_digest

TEXTS = [f"<|im_start|>user\n{a} + {b} = ?<|im_end|>\n<|im_start|>assistant\n{a + b}<|im_end|>" for a in range(9) for b in range(9)]
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "layers": 1,
    "heads": 1,
    "key_value_heads": 1,
    "head_dim": 32,
    "vocabulary": 300,
    "max_positions": 64,
}


LIMIT = Limit(64, "policy.shape.max_positions")
TASKS = to_table("tasks", [
    {"task_id": "long", "environment": "sums", "split": "eval", "prompt": [{"role": "user", "content": "1 + 2 = ?"}], "gold": "3",
     "verifier": "numeric", "meta": "{}", "difficulty": None},
])  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 300, PLAIN_TEMPLATE, 64)


@settings(deadline=None, max_examples=200)
@given(text=st.text())
def test_any_text_round_trips(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    plain = [i for i in ids if i not in tokenizer.all_special_ids]
    if plain == ids:
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


@settings(deadline=None, max_examples=50)
@given(number=st.integers(min_value=0))
def test_each_digit_is_one_token(tokenizer, number):
    assert len(tokenizer(str(number), add_special_tokens=False)["input_ids"]) == len(str(number))


def test_a_vocabulary_that_is_too_small_or_no_text_is_said():
    with pytest.raises(TokenizerError, match="needs at least"):
        train_tokenizer(TEXTS, 100, PLAIN_TEMPLATE, 64)
    with pytest.raises(TokenizerError, match="no text"):
        train_tokenizer([], 300, PLAIN_TEMPLATE, 64)


def test_the_tokenizer_is_the_same_under_another_hash_seed(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "here")
    code = (
        "import sys; sys.path.insert(0, '.'); from tests.training.test_warm_start import TEXTS, PLAIN_TEMPLATE, train_tokenizer; "
        f"train_tokenizer(TEXTS, 300, PLAIN_TEMPLATE, 64).save_pretrained({str(tmp_path / 'there')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONHASHSEED": "7", "PATH": "/usr/bin:/bin"})
    assert tree_digest([tmp_path / "here"]) == tree_digest([tmp_path / "there"])


def copying(max_steps: int = 400, target: float = 0.6) -> tuple[Params, list, list]:
    """Tasks "n = ?" with answer n, which one layer learns at once."""
    params = Params.model_validate({
        "policy": {"shape": SHAPE},
        "sampling": {"max_tokens": 6},
        "warm_start": {
            "target": target, "max_steps": max_steps, "batch_size": 32, "learning_rate": 5e-3, "check_every": 40,
            "check_tasks": 16, "warmup_steps": 5,
        },
    })  # fmt: skip
    tasks = [Task.create("copy", "train", f"{n} = ?", str(n), "string_match", {}, None) for n in range(100)]
    rows = [{"task_id": t.task_id, "environment": "copy", "prompt": [dict(m) for m in t.prompt], "completion": t.gold} for t in tasks]
    return params, to_table("tasks", [t.to_row() for t in tasks]), to_table("demonstrations", rows)


def right(task, text):
    return text == task["gold"]


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned")
    params, tasks, demonstrations = copying()
    (folder / "scratch").mkdir()
    return folder, warm_start(params, tasks, demonstrations, folder / "models", folder / "scratch", right)


def test_it_stops_at_its_target_and_publishes_a_complete_policy(learned):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, summary = learned
    assert summary["reached"] and summary["checks"][-1]["pass_at_1"] >= 0.6
    assert all(check["pass_at_1"] < 0.6 for check in summary["checks"][:-1])
    model = AutoModelForCausalLM.from_pretrained(folder / "models/policy")
    tokenizer = AutoTokenizer.from_pretrained(folder / "models/policy")
    assert model.config.vocab_size == len(tokenizer)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert json.loads((folder / "models/warm_start.json").read_text()) == summary


def test_a_run_that_was_interrupted_goes_on_to_the_same_policy(learned, tmp_path):
    """Interrupted after the first check, by an exception as rude as a kill: the checkpoint is all that is left."""
    params, tasks, demonstrations = copying()
    calls = []

    def interrupted(task, text):
        calls.append(text)
        if len(calls) > 20:
            raise KeyboardInterrupt
        return right(task, text)

    with pytest.raises(KeyboardInterrupt):
        warm_start(params, tasks, demonstrations, tmp_path / "models", tmp_path, interrupted)
    assert not (tmp_path / "models").exists()
    warm_start(params, tasks, demonstrations, tmp_path / "models", tmp_path, right)
    assert tree_digest([tmp_path / "models"]) == tree_digest([learned[0] / "models"])


def test_missing_the_target_is_a_warning_and_the_policy_is_there(tmp_path):
    params, tasks, demonstrations = copying(max_steps=2, target=0.99)
    lines: list[str] = []
    summary = warm_start(params, tasks, demonstrations, tmp_path / "models", tmp_path, right, lines.append)
    assert not summary["reached"] and any(line.startswith("warning: ") and "warm_start.target" in line for line in lines)
    assert (tmp_path / "models/policy/model.safetensors").is_file()


def test_no_demonstrations_is_said(tmp_path):
    params, tasks, demonstrations = copying()
    with pytest.raises(WarmStartError, match=r"tasks\.demonstrations"):
        warm_start(params, tasks, demonstrations.slice(0, 0), tmp_path / "models", tmp_path, right)


def test_a_demonstration_longer_than_the_model_names_its_task(tokenizer):
    with pytest.raises(ValueError, match=r"task long-one has .* tokens"):
        encode(tokenizer, ["1", "2" * 100], ["3", "4"], LIMIT, ["short", "long-one"])


def test_batches_see_every_row_once_an_epoch_and_can_be_entered_anywhere(tokenizer):
    rows = encode(tokenizer, ["1"] * 20, ["2"] * 20, LIMIT, [""] * 20)
    whole = [next_batch.tolist() for next_batch, _ in zip(batches(rows, 5, 0, 0), range(8), strict=False)]
    assert sorted(chain(*whole[:4])) == sorted(chain(*whole[4:])) == list(range(20))
    assert [b.tolist() for b, _ in zip(batches(rows, 5, 0, 3), range(5), strict=False)] == whole[3:]


@pytest.mark.parametrize(
    ("missing", "message"),
    [("config.json", "config.json is missing"), ("model.safetensors", "no \\*.safetensors"), ("tokenizer.json", "without tokenizer")],
)
def test_an_incomplete_base_model_is_refused(learned, tmp_path, missing, message):
    base = tmp_path / "base"
    shutil.copytree(learned[0] / "models/policy", base)
    (base / missing).unlink()
    params = Params.model_validate({"policy": {"base": str(base)}})
    with pytest.raises(BaseError, match=message):
        base_policy(params, TASKS, tmp_path / "models", tmp_path)
    assert not (tmp_path / "models").exists()


def test_a_base_model_is_copied_as_it_is(learned, tmp_path):
    base = learned[0] / "models/policy"
    base_policy(Params.model_validate({"policy": {"base": str(base)}}), TASKS, tmp_path / "models", tmp_path)
    assert tree_digest([tmp_path / "models/policy"]) == tree_digest([base])


def test_an_unknown_hub_name_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BaseError, match="no such local folder"):
        base_policy(Params.model_validate({"policy": {"base": "nobody/nothing"}}), TASKS, tmp_path / "models", tmp_path)


def test_a_prompt_that_is_too_long_for_a_base_model_is_said_before_anything_is_sampled(learned, tmp_path):
    params = Params.model_validate({"policy": {"base": str(learned[0] / "models/policy"), "max_prompt_tokens": 4}})
    said = r"1 of 1 prompts are longer than policy\.max_prompt_tokens \(4\), first: task long has \d+ tokens"
    with pytest.raises(EngineMistake, match=said):
        base_policy(params, TASKS, tmp_path / "models", tmp_path)
    assert not (tmp_path / "models").exists()


def test_long_rows_are_computed_apart_and_change_no_loss_but_its_last_digits(tmp_path):
    """The gradient of two parts is that of one padded batch."""
    import torch

    lengths = np.array([5, 4, 6, 5, 40, 5])
    parts = by_width(np.array([5, 4, 2, 0]), lengths)
    assert [part.tolist() for part in parts] == [[5, 2, 0], [4]]
    assert [part.tolist() for part in by_width(np.array([0, 1, 2]), lengths)] == [[0, 1, 2]]
    torch.manual_seed(0)
    ids, labels = torch.randint(3, 40, (4, 40)), torch.full((4, 40), IGNORED)
    labels[:, 2:5] = ids[:, 2:5]
    labels[3] = ids[3]
    weights = []
    for split in ([(ids, labels)], [(ids[:3, :6], labels[:3, :6]), (ids[3:], labels[3:])]):
        run = WarmStartRun(*copying(), tmp_path, right)
        weights.append((run.one_step(0, split), {name: value.clone() for name, value in run.model.state_dict().items()}))
    assert weights[0][0] == pytest.approx(weights[1][0], rel=1e-6)
    assert all(torch.allclose(weights[0][1][name], weights[1][1][name], atol=1e-6) for name in weights[0][1])
