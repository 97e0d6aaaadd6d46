"""With every option off, an optimizer step is that of an unmodified GRPOTrainer on the same tokens."""

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
import torch
from trainer_fixtures import make_params, make_policy, make_trajectories, make_verdicts
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from assay.training.assemble import assemble_batch
from assay.training.session import UpdateSession
from assay.training.trl_surface import GRPOConfig, GRPOTrainer

GROUPS, SIZE = 4, 4
AGGREGATIONS = {"dapo": "token_mean", "grpo": "sequence_mean", "dr_grpo": "token_sum_constant", "luspo": "token_sum"}


class Gradients(TrainerCallback):
    """Gradients of the first optimizer step, as they are before it."""

    def __init__(self):
        self.values = {}

    def on_pre_optimizer_step(self, args, state, control, model=None, **others):
        if not self.values:
            parameters = (model.module if hasattr(model, "module") else model).named_parameters()
            self.values = {name: p.grad.detach().clone() for name, p in parameters if p.grad is not None}


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return make_policy(tmp_path_factory.mktemp("stock") / "policy")


@pytest.fixture(scope="module")
def trajectories():
    return make_trajectories(GROUPS, SIZE, temperature=0.8)


REWARDS = np.array([1, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0, 0, 1, 0], dtype=float)


def stock(policy, trajectories, tmp_path, model=None, **fields):
    """(loss, gradients) of an unmodified GRPOTrainer that gets these rows from its rollout_func."""
    from datasets import Dataset

    rows = defaultdict(list)
    for index, group in enumerate(trajectories["group_id"].to_pylist()):
        rows[group].append(index)

    def rollout(prompts, trainer):
        taken, seen = [], defaultdict(int)
        for prompt in prompts:
            taken.append(rows[prompt][seen[prompt]])
            seen[prompt] += 1
        pick = {name: [trajectories[name][i].as_py() for i in taken] for name in ("prompt_ids", "completion_ids")}
        logprobs = [trajectories["sampled_logprobs"][i].as_py() for i in taken]
        return {**pick, "logprobs": logprobs, "earned": [float(REWARDS[i]) for i in taken]}

    config = GRPOConfig(
        output_dir=str(tmp_path / "stock"), per_device_train_batch_size=GROUPS * SIZE, num_generations=SIZE,
        max_completion_length=6, temperature=0.8, bf16=False, gradient_checkpointing=False, logging_steps=1,
        max_grad_norm=0, max_steps=1, shuffle_dataset=False, report_to="none", save_strategy="no",
        disable_tqdm=True, use_cpu=True, **fields,
    )  # fmt: skip
    gradients = Gradients()
    trainer = GRPOTrainer(
        model or AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32),
        lambda **columns: columns["earned"],
        config,
        train_dataset=Dataset.from_dict({"prompt": list(rows)}),
        processing_class=AutoTokenizer.from_pretrained(policy),
        rollout_func=rollout,
        callbacks=[gradients],
    )
    trainer.train()
    return trainer.state.log_history[0]["loss"], gradients.values


def ours(policy, batch, params, tmp_path):
    session = UpdateSession(policy, None, params, scratch=tmp_path / "ours")
    gradients = Gradients()
    session.trainer.add_callback(gradients)
    result = session.run(batch)
    return result.updates["loss"][0].as_py(), gradients.values


def options(**training):
    """Every option off, TRL's epsilon, one optimizer step, gradients not cut."""
    return make_params(
        sampling={"group_size": SIZE, "tasks_per_iteration": GROUPS, "max_tokens": 6, "temperature": 0.8},
        filter={"zero_variance_groups": False},
        training={
            "advantage": {"type": "group_zscore", "epsilon": 1e-4}, "importance": {"mode": "off"},
            "steps_per_iteration": 1, "max_gradient_norm": 1e9, "grpo": {"report_to": "none", "use_cpu": True},
            **training,
        },
    )  # fmt: skip


def assert_equal(found, expected):
    loss, gradients = found
    assert loss == pytest.approx(expected[0], abs=1e-6)
    assert gradients.keys() == expected[1].keys()
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, expected[1][name], atol=1e-6, rtol=1e-5), name
    assert max(gradient.abs().max() for gradient in gradients.values()) > 1e-3


@pytest.mark.parametrize("loss_type", AGGREGATIONS)
def test_one_step_is_that_of_an_unmodified_trainer(policy, trajectories, tmp_path, loss_type):
    """In one micro-batch, and in micro-batches of 3: 16 rows are five of those and a rest."""
    expected = stock(policy, trajectories, tmp_path, loss_type=loss_type)
    for micro_batch_size in (256, 3):
        params = options(loss={"aggregation": AGGREGATIONS[loss_type]}, micro_batch_size=micro_batch_size)
        batch = assemble_batch(trajectories, make_verdicts(trajectories, REWARDS), params)
        assert_equal(ours(policy, batch, params, tmp_path / str(micro_batch_size)), expected)


def test_dropping_groups_without_variance_changes_nothing_but_the_divisor(policy, trajectories, tmp_path):
    """They have advantage 0: left out with denominator `all`, the step is still the stock trainer's."""
    params = options()
    params = params.model_copy(update={"filter": params.filter.model_copy(update={"zero_variance_groups": True, "denominator": "all"})})
    batch = assemble_batch(trajectories, make_verdicts(trajectories, REWARDS), params)
    assert batch["kept"].to_pylist().count(False) == 4
    assert_equal(ours(policy, batch, params, tmp_path), stock(policy, trajectories, tmp_path, loss_type="dapo"))


def test_entropy_bonus_is_that_of_the_stock_trainer(policy, trajectories, tmp_path):
    params = options(entropy_bonus=0.05)
    batch = assemble_batch(trajectories, make_verdicts(trajectories, REWARDS), params)
    assert_equal(ours(policy, batch, params, tmp_path), stock(policy, trajectories, tmp_path, entropy_coef=0.05))


@pytest.mark.parametrize("loss_type", ["dapo", "grpo"])
def test_k3_penalty_is_that_of_the_stock_trainer(policy, trajectories, tmp_path, loss_type):
    """The stock trainer takes the folder its model came from as reference: policy 0, while the policy has moved."""
    torch.manual_seed(1)
    moved = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    for file in policy.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / "moved").mkdir(exist_ok=True)
            (tmp_path / "moved" / file.name).write_bytes(file.read_bytes())
    moved.save_pretrained(tmp_path / "moved")
    params = options(divergence={"coefficient": 0.3, "estimator": "k3"}, loss={"aggregation": AGGREGATIONS[loss_type]})
    batch = assemble_batch(trajectories, make_verdicts(trajectories, REWARDS), params, reference=policy)
    expected = stock(policy, trajectories, tmp_path, model=moved, loss_type=loss_type, beta=0.3, use_bias_correction_kl=False)
    assert_equal(ours(tmp_path / "moved", batch, params, tmp_path), expected)


def test_inserted_tokens_bear_no_loss(policy, tmp_path):
    """Masked tokens after the only one that bears loss: the step is the same without them."""
    trajectories = make_trajectories(1, 4, temperature=0.8)
    column = trajectories.schema.get_field_index("loss_mask")
    masks = [[True, *([False] * (len(m) - 1))] for m in trajectories["loss_mask"].to_pylist()]
    trajectories = trajectories.set_column(column, trajectories.schema.field(column), pa.array(masks))
    params = options()
    verdicts = make_verdicts(trajectories, [1, 0, 0, 1])
    whole = ours(policy, assemble_batch(trajectories, verdicts, params), params, tmp_path / "a")
    for name in ("completion_ids", "loss_mask", "sampled_logprobs"):
        position = trajectories.schema.get_field_index(name)
        cut = pa.array([row[:1] for row in trajectories[name].to_pylist()], trajectories.schema.field(position).type)
        trajectories = trajectories.set_column(position, trajectories.schema.field(position), cut)
    first_only = ours(policy, assemble_batch(trajectories, verdicts, params), params, tmp_path / "b")
    assert_equal(whole, first_only)
