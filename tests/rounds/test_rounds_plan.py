"""The estimate of a run: exact where it counts, and stated for every stage."""

import json
import re
from pathlib import Path

import pytest

from assay.engines import PLAIN_TEMPLATE
from assay.params import ParameterError, Params, load_params
from assay.rounds.plan import estimate_appeals, estimate_run, format_estimate, policy_parameters
from assay.rounds.plan_models import adapter_parameters, matrices, model_gib
from assay.training.model import make_model
from assay.training.tokenizer import train_tokenizer
from assay.verifiers.judges import Case
from assay.verifiers.judges.prompt import messages

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


def test_critiques_and_continuations_are_counted():
    sections = {
        "sampling": {"tasks_per_iteration": 16, "group_size": 4, "max_tokens": 30}, "tasks": {"eval": 10, "ood": 0},
        "evaluation": {"samples": 2, "pass_at": [1]}, "training": {"steps_per_iteration": 1, "advantage": {"type": "reinforce_plus_plus"}},
        "iterations": [{"k": 0, "next": 1}],
    }  # fmt: skip
    judging = {"self_verification": {"share": 0.5, "group_size": 3, "evaluation": 1, "max_tokens": 5}}
    steps = {"stepwise": {"continuations": 5, "unit": "tokens", "opening": 10, "interval": 5, "max_tokens": 7}}
    rows = {}
    for name, more in (("plain", {}), ("judging", judging), ("steps", steps)):
        rows[name] = {line.stage: line for line in estimate_run(Params.model_validate(sections | more)).lines}
    plain = rows["plain"]
    assert (plain["rollout"].rows, plain["finish"].rows, plain["update"].rows) == (64 + 20, 20, 64)
    judged = rows["judging"]
    assert (judged["rollout"].rows, judged["finish"].rows, judged["update"].rows) == (64 + 20 + 24 + 20, 40, 64 + 24)
    assert judged["rollout"].tokens == plain["rollout"].tokens + (24 + 20) * 5
    stepped = rows["steps"]  # at most four splits: five states of five continuations each
    assert stepped["rollout"].rows == 84 + 64 * 25 and stepped["rollout"].tokens == plain["rollout"].tokens + 64 * 25 * 7
    assert stepped["update"].rows == 64


@pytest.mark.parametrize(
    ("unit", "trained", "tokens", "collected"),
    [
        # 8 of 32 tasks have tools. Of each, one episode, and a group of 4 at each of up to 6 states; or a group of 4 whole episodes.
        ("turn", 24 * 4 + 8 * 6 * 4, (24 * 4 + 8 * 6 * 4) * 30, (8, 8 * 400)),
        ("episode", 24 * 4 + 8 * 4, 24 * 4 * 30 + 8 * 4 * 400, (0, 0)),
    ],
)
def test_episodes_are_counted_with_all_the_turns_that_they_may_have(unit, trained, tokens, collected):
    sections = {
        "sampling": {"tasks_per_iteration": 32, "group_size": 4, "max_tokens": 30,
                     "episodes": {"unit": unit, "max_turns": 5, "max_tokens": 400}},
        "environments": {"sums": {"type": "rational_arithmetic", "share": 3}, "bench": {"type": "tools"}},
        "tasks": {"eval": 12, "ood": 0}, "evaluation": {"samples": 2, "pass_at": [1]}, "iterations": [{"k": 0, "next": 1}],
    }  # fmt: skip
    lines = {line.stage: line for line in estimate_run(Params.model_validate(sections)).lines}
    evaluated = 18 * 30 + 6 * 400  # what tools say is in them
    assert (lines["finish"].rows, lines["finish"].tokens) == (24, evaluated)
    assert (lines["update"].rows, lines["update"].tokens) == (trained, tokens)
    assert lines["rollout"].rows == trained + collected[0] + 24 and lines["rollout"].tokens == tokens + collected[1] + evaluated


def test_the_plan_says_what_does_not_fit_into_a_table():
    params = load_params(ROOT)
    assert "warning" not in format_estimate(estimate_run(params, ROOT))
    large = params.model_copy(update={"sampling": params.sampling.model_copy(update={"tasks_per_iteration": 10**9})})
    assert "warning: a batch may have 96,000,000,000 tokens" in format_estimate(estimate_run(large, ROOT))
    assert "warning" not in format_estimate(estimate_run(large, ROOT, fused=True)), "a round has its own size"


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "down_proj"]])
@pytest.mark.parametrize("base", [False, True])
def test_an_adapter_has_as_many_parameters_as_peft_makes(tmp_path, targets, base):
    from peft import LoraConfig, get_peft_model

    shape = {"hidden_size": 48, "intermediate_size": 80, "layers": 2, "heads": 3, "key_value_heads": 1, "head_dim": 32}
    params = Params.model_validate({"policy": {"shape": shape}, "training": {"lora": {"rank": 3, "targets": targets}}})
    model = make_model(params.policy, train_tokenizer(["1 + 2 = ?"], 300, PLAIN_TEMPLATE, 64), 0)
    if base:
        model.save_pretrained(tmp_path / "base")
        params = params.model_copy(update={"policy": params.policy.model_copy(update={"base": "base"})})
    wrapped = get_peft_model(model, LoraConfig(r=3, target_modules=targets, task_type="CAUSAL_LM"))
    expected = sum(one.numel() for one in wrapped.parameters() if one.requires_grad)
    assert adapter_parameters(params.training.lora, matrices(params, tmp_path)) == expected


@pytest.mark.parametrize(
    ("sections", "policy", "trainer"),
    [
        ({}, 4, 8),
        ({"policy": {"dtype": "bfloat16"}}, 2, 12),
        ({"training": {"critic": {}, "advantage": {"type": "generalized"}}}, 4, 20),
        ({"policy": {"base": "half"}}, 2, 12),
        ({"policy": {"base": "single"}}, 4, 8),
        ({"policy": {"base": "single", "dtype": "bfloat16"}}, 2, 12),
    ],
)
def test_bytes_of_a_parameter_on_disk(tmp_path, sections, policy, trainer):
    for name, dtype in (("half", "bfloat16"), ("single", "float32")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"dtype": dtype}))
    assert model_gib(Params.model_validate(sections), 2**30, tmp_path) == (policy, trainer)


def test_a_fused_iteration_has_the_rows_of_all_its_rounds():
    params = load_params(ROOT)
    lines = {line.stage: line for line in estimate_run(params, ROOT, fused=True).lines}
    held_out = (params.tasks.eval + params.tasks.ood) * params.evaluation.samples
    assert params.fused.tasks_per_round is not None
    rows = params.fused.rounds * params.fused.tasks_per_round * params.sampling.group_size
    assert lines["train"].rows == rows + held_out and lines["train"].runs == len(params.iterations)
    assert "rollout" not in lines


@pytest.mark.parametrize(
    ("appeals", "share", "each"),
    [
        ({"probability": 0.1, "audit_probability": 0.3}, 0.3, None),
        ({"probability": 1.0, "audit_probability": 1.0}, 1.0, None),
        ({"probability": 0.5, "judge": {"type": "local", "model": "some/judge", "max_prompt_tokens": 500, "max_tokens": 6}}, 0.5, 506),
    ],
)
def test_a_row_is_put_before_the_judge_once_at_most(appeals, share, each):
    given = {"iterations": [{"k": 0, "next": 1}, {"k": 1, "next": 2}], "verification": {"appeals": {"enabled": True, **appeals}}}
    found = estimate_appeals(Params.model_validate(given), 1000)
    calls = int(1000 * share)
    assert (found.runs, found.calls, found.tokens) == (2, calls, each and calls * each)


def test_tokens_of_an_endpoint_hold_its_whole_question():
    texts = {"question": "Q" * 50, "gold": "1/2", "answer": "0.5"}
    judge = {"type": "endpoint", "system_prompt": "S" * 600, "max_tokens": 8}
    given = {"policy": {"max_prompt_tokens": 50}, "sampling": {"max_tokens": 16}, "execution": {"judge": {"urls": ["http://x/v1"]}}}
    given["verification"] = {"appeals": {"enabled": True, "probability": 1.0, "judge": judge}}
    tokens = estimate_appeals(Params.model_validate(given), 1).tokens
    asked = messages(Case("t", **texts), judge["system_prompt"])
    words = sum(len(re.findall(r"\w+|[^\w\s]", message["content"])) for message in asked)
    characters = sum(len(message["content"]) for message in asked)
    assert words + 8 < tokens < characters


def test_the_plan_has_a_line_for_appeals_where_they_are_enabled():
    params = load_params(ROOT)
    assert "appeals" not in format_estimate(estimate_run(params, ROOT))
    appeals = params.verification.appeals.model_copy(update={"enabled": True, "probability": 0.25})
    verification = params.verification.model_copy(update={"appeals": appeals})
    calls = params.sampling.tasks_per_iteration * params.sampling.group_size // 4
    table = format_estimate(estimate_run(params.model_copy(update={"verification": verification}), ROOT))
    wanted = f"at most {calls:,} answers an iteration go before the judge (symbolic math_verify), {calls * len(params.iterations):,} in all"
    assert wanted in table and "reads and writes" not in table


def test_an_incomplete_base_model_is_said(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ParameterError, match=r"config\.json is missing"):
        policy_parameters(Params.model_validate({"policy": {"base": "model"}}), tmp_path)
