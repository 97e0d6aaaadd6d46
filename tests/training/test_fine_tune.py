"""Both supervised phases on a base model of another architecture, published in half precision: whole, by adapters, after a kill."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from assay.engines import PLAIN_TEMPLATE, load_renderer
from assay.environments import Task, generate
from assay.params import Params, stage_view
from assay.params.training import TrainingParams
from assay.rounds import first_policy, pretrained_policy
from assay.training.base import BaseError
from assay.training.beginnings import from_base
from assay.training.demonstrations import IGNORED, encode, encode_rows
from assay.training.supervised import make_optimizer, one_step, parts_of
from assay.training.tokenizer import train_tokenizer
from assay.trajectories import read_table, tree_digest, write_shard

TASKS = [Task.create("copy", "train", f"{n} = ?", str(n), "string_match") for n in range(60)]
LORA = {"rank": 4, "alpha": 8}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A random Llama in bfloat16, with a tokenizer and a file that no library knows."""
    folder = tmp_path_factory.mktemp("models") / "base"
    texts = [f"<|im_start|>user\n{n} = ?<|im_end|>\n<|im_start|>assistant\n{n}<|im_end|> The number {n} is {n}.\n" for n in range(60)]
    tokenizer = train_tokenizer(texts, 300, PLAIN_TEMPLATE, 64)
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, eos_token_id=tokenizer.eos_token_id, pad_token_id=None,
    ))  # fmt: skip
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "LICENSE").write_text("keep me")
    return folder


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    write_shard(folder / "tasks.parquet", "tasks", [task.to_row() for task in TASKS])
    write_shard(folder / "demonstrations.parquet", "demonstrations", [
        {"task_id": t.task_id, "environment": "copy", "prompt": [dict(m) for m in t.prompt], "completion": t.gold} for t in TASKS
    ])  # fmt: skip
    write_shard(folder / "texts.parquet", "texts", [{"environment": "copy", "text": f"The number {n} is {n}."} for n in range(40)])
    return folder


def params(base, lora=None, **start):
    common = {"batch_size": 16, "learning_rate": 1e-2, "warmup_steps": 2, "lora": lora}
    reading = common | {"max_steps": 20, "report_every": 10}
    return Params.model_validate({
        "policy": {"base": str(base), "fine_tune": True}, "sampling": {"max_tokens": 6}, "tasks": {"texts": 40},
        "warm_start": common | {"max_steps": 20, "check_every": 10, "check_tasks": 8, "target": 0.99, "pretraining": reading} | start,
    })  # fmt: skip


@pytest.mark.parametrize("lora", [None, LORA])
def test_both_phases_train_the_base_and_keep_all_that_is_not_weights(base, tasks, tmp_path, lora):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    own = params(base, lora, micro_batch_size=5)
    read = pretrained_policy(own, tasks, tmp_path / "read", tmp_path / "a")
    summary = first_policy(own, tasks, tmp_path / "first", tmp_path / "b", tmp_path / "read")
    assert read["losses"][-1]["loss"] < (0.8 if lora is None else 0.99) * read["losses"][0]["loss"]
    assert [check["step"] for check in summary["checks"]] == [0, 10, 20] and summary["checks"][-1]["loss"] < summary["checks"][1]["loss"]
    folders = base, tmp_path / "read/policy", tmp_path / "first/policy"
    before, between, after = (load_file(folder / "model.safetensors") for folder in folders)
    assert before.keys() == between.keys() == after.keys()
    for one, other in ((before, between), (between, after)):
        assert any((one[name] != other[name]).any() for name in one)
        assert {value.dtype for value in other.values()} == {torch.bfloat16}
        embeddings = (one["model.embed_tokens.weight"] == other["model.embed_tokens.weight"]).all()
        assert bool(embeddings) == (lora is not None)  # adapters are in linear layers
    for file in sorted(base.iterdir()):
        if file.suffix != ".safetensors":
            assert (tmp_path / "first/policy" / file.name).read_bytes() == file.read_bytes(), file.name
    assert {file.name for file in (tmp_path / "first/policy").iterdir()} == {file.name for file in base.iterdir()}
    AutoModelForCausalLM.from_pretrained(tmp_path / "first/policy")


@pytest.mark.parametrize("lora", [None, LORA | {"dropout": 0.3}])
def test_an_interrupted_run_goes_on_to_the_same_policy(base, tasks, tmp_path, monkeypatch, lora):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    own = params(base, lora)
    first_policy(own, tasks, tmp_path / "whole", tmp_path / "a")
    from assay.training import warm_start

    real, calls = warm_start.one_step, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(warm_start, "one_step", killed)
    with pytest.raises(KeyboardInterrupt):
        first_policy(own, tasks, tmp_path / "resumed", tmp_path / "b")
    saved = torch.load(tmp_path / "b/checkpoint.pt", weights_only=True)["model"]
    assert all("lora_" in name for name in saved) == (lora is not None)  # of adapters, not the base again
    monkeypatch.setattr(warm_start, "one_step", real)
    first_policy(own, tasks, tmp_path / "resumed", tmp_path / "b")
    assert tree_digest([tmp_path / "resumed"]) == tree_digest([tmp_path / "whole"])


def test_a_base_that_knows_enough_is_not_trained_and_without_the_option_it_is_copied(base, tasks, tmp_path, monkeypatch):
    from assay.training.warm_start import WarmStartRun

    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(WarmStartRun, "pass_at_1", lambda self: 1.0)
        summary = first_policy(params(base), tasks, tmp_path / "able", tmp_path / "a")
    assert (summary["steps"], summary["reached"], summary["checks"][0]["pass_at_1"]) == (0, True, 1.0)
    found, given = (load_file(folder / "model.safetensors") for folder in (tmp_path / "able/policy", base))
    assert found.keys() == given.keys() and all(found[name].equal(given[name]) for name in found)
    plain = Params.model_validate({"policy": {"base": str(base)}})
    assert pretrained_policy(plain, tasks, tmp_path / "none", tmp_path / "b")["steps"] == 0
    first_policy(plain, tasks, tmp_path / "copied", tmp_path / "c", tmp_path / "none")
    assert tree_digest([tmp_path / "copied/policy"]) == tree_digest([base])


def test_the_loss_is_that_of_the_whole_model_in_any_micro_batches(base, tasks):
    """Against a plain loop over rows; the demonstrations end as the template ends a turn."""
    own, rows = params(base), read_table("demonstrations", tasks / "demonstrations.parquet").to_pylist()[:7]
    start = from_base(own, base, "warm_start", own.warm_start)
    assert start.end == "<|im_end|>" and start.limit.tokens == 64
    data = encode_rows(start.renderer, rows, start.prompts(own, rows), start.limit, start.end)
    model, losses = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), []
    renderer, tokenizer = load_renderer(base, own.policy), AutoTokenizer.from_pretrained(base)
    for row in rows:
        prompt, answer = renderer.prompt_ids(row["prompt"]), tokenizer(f"{row['completion']}<|im_end|>")["input_ids"]
        whole = torch.log_softmax(model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1], -1)
        losses += (-whole[torch.arange(len(answer)), torch.tensor(answer)]).tolist()
    import numpy as np

    for most in (None, 2, 5):
        start = from_base(own, base, "warm_start", own.warm_start)
        found = one_step(start.network, make_optimizer(start.model, own.warm_start), 1e-3, parts_of(np.arange(7), data, most))
        assert found == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_prompts_are_those_of_sampling_also_where_the_template_writes_a_start_token(base, tasks, tmp_path):
    """Llama's form: `bos_token` in the template, and before every plain text."""
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] + eos_token }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    own, rows = params(folder), read_table("demonstrations", tasks / "demonstrations.parquet").to_pylist()[:3]
    start = from_base(own, folder, "warm_start", own.warm_start)
    data = encode_rows(start.renderer, rows, start.prompts(own, rows), start.limit, start.end)
    for index, row in enumerate(rows):
        prompt = start.renderer.prompt_ids(row["prompt"])
        assert prompt[0] == tokenizer.bos_token_id and tuple(data.ids[index, : len(prompt)]) == prompt
    texts = encode(start.tokenizer, ["", ""], ["one", "two"], start.limit, ["", ""], (7, 8))
    assert texts.ids[:, :2].tolist() == [[7, 8]] * 2 and (texts.labels[:, :2] == IGNORED).all() and (texts.labels[:, 2] != IGNORED).all()


def test_stages_see_how_the_base_is_loaded_but_no_other_training_option(base):
    own = params(base).model_copy(update={"training": TrainingParams(grpo={"bf16": False})})
    for stage in ("pretrain", "warm_start"):
        assert stage_view(own, stage)["training"] == {"grpo": {"bf16": False}}
        assert stage_view(Params(training=own.training), stage)["training"] == {}


def test_demonstrations_are_made_for_a_base_that_is_fine_tuned(tmp_path):
    sizes = {"train": 20, "eval": 20, "ood": 0, "demonstrations": 30}
    common = {"environments": {"sums": {"type": "rational_arithmetic"}}, "tasks": sizes}
    for fine_tune, count in ((True, 30), (False, 0)):
        own = Params.model_validate(common | {"policy": {"base": "somewhere", "fine_tune": fine_tune}})
        assert len(generate(own, tmp_path).demonstrations) == count


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"policy": {"fine_tune": True}}, "policy.fine_tune is true, but policy.base is null"),
        ({"policy": {"revision": "main"}}, "policy.revision is set, but policy.base is null"),
        ({"warm_start": {"lora": LORA}}, "warm_start.lora is set, but policy.base is null"),
        ({"warm_start": {"pretraining": {"lora": LORA}}}, "warm_start.pretraining.lora is set, but policy.base is null"),
        ({"policy": {"base": "x", "fine_tune": True}, "warm_start": {"max_steps": 0}}, "policy.fine_tune would do nothing"),
    ],
)
def test_what_does_not_go_together_is_refused(own, said):
    with pytest.raises(ValueError, match=said):
        Params.model_validate(own)


def test_a_hub_model_of_one_revision_says_which_commit_it_is(base, tasks, tmp_path, monkeypatch):
    """Whether it is taken as it is, pre-trained first, or trained on demonstrations."""
    commit, asked = "0123456789abcdef" * 2 + "01234567", []
    cached = tmp_path / "models--some--model/snapshots" / commit
    shutil.copytree(base, cached)

    def download(name, revision=None, **options):
        asked.append((name, revision))
        return str(cached)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    own = params("some/model", max_steps=1, pretraining={"max_steps": 1, "batch_size": 2})
    own = own.model_copy(update={"policy": own.policy.model_copy(update={"revision": "v1"})})
    plain = own.model_copy(update={"policy": own.policy.model_copy(update={"fine_tune": False})})
    for name in "abcd":
        (tmp_path / name).mkdir()
    first_policy(plain, tasks, tmp_path / "plain", tmp_path / "a")
    pretrained_policy(own, tasks, tmp_path / "read", tmp_path / "b")
    first_policy(own, tasks, tmp_path / "both", tmp_path / "c", tmp_path / "read")
    first_policy(own, tasks, tmp_path / "one", tmp_path / "d")
    for file in ("plain/warm_start.json", "read/pretraining.json", "both/warm_start.json", "one/warm_start.json"):
        summary = json.loads((tmp_path / file).read_text())
        assert (summary["base"], summary["commit"]) == ("some/model", commit), file
    assert set(asked) == {("some/model", "v1")}
    local = plain.model_copy(update={"policy": plain.policy.model_copy(update={"base": str(base)})})
    with pytest.raises(BaseError, match=r"policy\.revision is 'v1', but policy\.base, .* is a local folder"):
        first_policy(local, tasks, tmp_path / "local", tmp_path / "a")


def test_the_summary_is_stored(base, tasks, tmp_path):
    (tmp_path / "a").mkdir()
    summary = first_policy(params(base, max_steps=10), tasks, tmp_path / "first", tmp_path / "a")
    assert json.loads((tmp_path / "first/warm_start.json").read_text()) == summary
