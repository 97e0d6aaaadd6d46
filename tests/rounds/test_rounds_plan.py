"""The estimate of a run: exact where it counts, and stated for every stage."""

from pathlib import Path

import pytest

from assay.engines import PLAIN_TEMPLATE
from assay.params import ParameterError, Params, load_params
from assay.rounds.plan import estimate_run, format_estimate, policy_parameters
from assay.training.model import make_model
from assay.training.tokenizer import train_tokenizer

ROOT = Path(__file__).parents[2]


def test_the_number_of_parameters_is_that_of_the_model():
    tokenizer = train_tokenizer(["1 + 2 = ?"], 300, PLAIN_TEMPLATE, 64)
    shape = {"hidden_size": 48, "intermediate_size": 80, "layers": 2, "heads": 3, "key_value_heads": 1, "head_dim": 32}
    params = Params.model_validate({"policy": {"shape": {**shape, "vocabulary": max(300, len(tokenizer))}}})
    model = make_model(params.policy, tokenizer, 0)
    expected = sum(p.numel() for p in model.parameters()) + (params.policy.shape.vocabulary - len(tokenizer)) * 48
    assert policy_parameters(params) == expected


def test_rows_are_those_of_the_plan_and_every_stage_has_a_line():
    params = load_params(ROOT)
    estimate = estimate_run(params, ROOT)
    lines = {line.stage: line for line in estimate.lines}
    rows = params.sampling.tasks_per_iteration * params.sampling.group_size
    held_out = (params.tasks.eval + params.tasks.ood) * params.evaluation.samples
    assert lines["rollout"].rows == rows + held_out and lines["rollout"].runs == len(params.iterations)
    assert lines["finish"].rows == held_out
    table = format_estimate(estimate)
    assert all(stage in table for stage in lines) and "together" in table


def test_a_fused_iteration_has_the_rows_of_all_its_rounds():
    params = load_params(ROOT)
    lines = {line.stage: line for line in estimate_run(params, ROOT, fused=True).lines}
    held_out = (params.tasks.eval + params.tasks.ood) * params.evaluation.samples
    assert params.fused.tasks_per_round is not None
    rows = params.fused.rounds * params.fused.tasks_per_round * params.sampling.group_size
    assert lines["train"].rows == rows + held_out and lines["train"].runs == len(params.iterations)
    assert "rollout" not in lines


def test_an_incomplete_base_model_is_said(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ParameterError, match=r"config\.json is missing"):
        policy_parameters(Params.model_validate({"policy": {"base": "model"}}), tmp_path)
