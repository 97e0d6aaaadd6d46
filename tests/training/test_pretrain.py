"""Pre-training on plain texts: it learns, survives a kill, is gone on from, and can be left out."""

import json

import pytest
import yaml

from assay.environments import Task, TaskError, generate
from assay.params import ParameterError, Params, load_params
from assay.rounds import first_policy, pretrained_policy
from assay.training.demonstrations import WarmStartError
from assay.training.pretrain import pretrain
from assay.training.warm_start import warm_start
from assay.trajectories import to_table, tree_digest, write_shard

SHAPE = {
    "hidden_size": 32, "intermediate_size": 64, "layers": 1, "heads": 2, "key_value_heads": 2, "head_dim": 16, "vocabulary": 300,
    "max_positions": 64,
}  # fmt: skip
TASKS = [Task.create("copy", "train", f"{n} = ?", str(n), "string_match") for n in range(100)]
DEMONSTRATIONS = to_table("demonstrations", [
    {"task_id": t.task_id, "environment": "copy", "prompt": [dict(m) for m in t.prompt], "completion": t.gold} for t in TASKS
])  # fmt: skip
TEXTS = to_table("texts", [{"environment": "copy", "text": f"The number {n} is {n}."} for n in range(80)])


def params(steps=60, **options):
    reading = {"max_steps": steps, "batch_size": 16, "learning_rate": 5e-3, "warmup_steps": 5, "report_every": 20}
    start = {"check_tasks": 16, "pretraining": reading} | options
    return Params.model_validate({
        "policy": {"shape": SHAPE}, "sampling": {"max_tokens": 6}, "tasks": {"texts": 80}, "warm_start": start,
    })  # fmt: skip


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    folder = tmp_path_factory.mktemp("read")
    (folder / "scratch").mkdir()
    return folder / "out", pretrain(params(), DEMONSTRATIONS, TEXTS, folder / "out", folder / "scratch", lambda line: None)


def test_the_loss_falls_and_a_whole_policy_is_published(read):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, summary = read
    losses = [one["loss"] for one in summary["losses"]]
    assert len(losses) == 3 and losses[-1] < 0.7 * losses[0] and summary == json.loads((folder / "pretraining.json").read_text())
    model, tokenizer = (kind.from_pretrained(folder / "policy") for kind in (AutoModelForCausalLM, AutoTokenizer))
    assert model.config.vocab_size == len(tokenizer)


def test_an_interrupted_run_goes_on_to_the_same_policy(read, tmp_path):
    def killed(line):
        if "40/60" in line:
            raise KeyboardInterrupt

    arguments = (params(), DEMONSTRATIONS, TEXTS, tmp_path / "out", tmp_path)
    with pytest.raises(KeyboardInterrupt):
        pretrain(*arguments, killed)
    lines: list[str] = []
    pretrain(*arguments, lines.append)
    assert "going on from step 20" in lines[0]
    assert tree_digest([tmp_path / "out"]) == tree_digest([read[0]])


def test_the_warm_start_goes_on_from_it_and_may_itself_be_left_out(read, tmp_path):
    from safetensors.torch import load_file

    tasks = to_table("tasks", [task.to_row() for task in TASKS])
    kept = params(max_steps=0)
    summary = warm_start(kept, tasks, DEMONSTRATIONS, tmp_path / "kept", tmp_path, lambda task, text: False, pretrained=read[0] / "policy")
    assert summary["steps"] == 0 and summary["checks"] == [{"step": 0, "loss": 0.0, "pass_at_1": 0.0}]
    before = load_file(read[0] / "policy/model.safetensors")
    assert all((value == before[name]).all() for name, value in load_file(tmp_path / "kept/policy/model.safetensors").items())
    assert (tmp_path / "kept/policy/tokenizer.json").read_bytes() == (read[0] / "policy/tokenizer.json").read_bytes()
    further = params(max_steps=2, batch_size=16)
    warm_start(further, tasks, DEMONSTRATIONS, tmp_path / "on", tmp_path, lambda task, text: False, pretrained=read[0] / "policy")
    after = load_file(tmp_path / "on/policy/model.safetensors")
    assert not all((value == before[name]).all() for name, value in after.items())


def test_left_out_it_publishes_nothing_and_the_policy_is_as_without_the_stage(tmp_path):
    write_shard(tmp_path / "tasks/tasks.parquet", "tasks", [task.to_row() for task in TASKS])
    write_shard(tmp_path / "tasks/demonstrations.parquet", "demonstrations", DEMONSTRATIONS.to_pylist())
    plain = params(0, max_steps=2, batch_size=16)
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    assert pretrained_policy(plain, tmp_path / "tasks", tmp_path / "none", tmp_path / "a")["steps"] == 0
    assert [file.name for file in (tmp_path / "none").iterdir()] == ["pretraining.json"]
    first_policy(plain, tmp_path / "tasks", tmp_path / "with", tmp_path / "b", tmp_path / "none")
    first_policy(plain, tmp_path / "tasks", tmp_path / "without", tmp_path / "c")
    assert tree_digest([tmp_path / "with"]) == tree_digest([tmp_path / "without"])


def test_texts_come_from_the_demonstrated_tasks_alone(tmp_path):
    sizes = {"train": 20, "eval": 20, "ood": 0, "demonstrations": 100, "texts": 60}
    made = generate(Params.model_validate({"environments": {"bench": {"type": "protocols"}}, "tasks": sizes}), tmp_path)
    texts = [row["text"] for row in made.texts]
    assert len(texts) == len(set(texts)) == 60 and all(text.endswith(".") for text in texts)
    assert generate(Params.model_validate({"environments": {"bench": {"type": "protocols"}}, "tasks": sizes}), tmp_path).texts == made.texts
    with pytest.raises(TaskError, match=r"tasks.texts is 60, but none of the environments \(sums\) has plain texts"):
        generate(Params.model_validate({"environments": {"sums": {"type": "rational_arithmetic"}}, "tasks": sizes}), tmp_path)


@pytest.mark.parametrize(("own", "said"), [
    ({"warm_start": {"pretraining": {"max_steps": 9}}}, "warm_start.pretraining.max_steps is 9, but tasks.texts is 0"),
    ({"warm_start": {"max_steps": 0}}, "warm_start.max_steps and warm_start.pretraining.max_steps are 0: policy 0 would know nothing"),
])  # fmt: skip
def test_phases_that_cannot_be_are_refused(tmp_path, own, said):
    for kind in ("scale", "environment", "method"):
        (tmp_path / "conf" / kind).mkdir(parents=True)
        (tmp_path / "conf" / kind / "p.yaml").write_text("{}")
    base = {"scale": "p", "environment": "p", "method": "p", "iterations": [{"k": 0, "next": 1}], "last_policy": 1}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(base | own))
    with pytest.raises(ParameterError) as caught:
        load_params(tmp_path)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_without_texts_there_is_one_clear_sentence(tmp_path):
    with pytest.raises(WarmStartError, match="there are no texts to pre-train on"):
        pretrain(params(), DEMONSTRATIONS, TEXTS.slice(0, 0), tmp_path / "out", tmp_path)
