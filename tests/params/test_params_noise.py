"""Noise, appeals and corrections in params.yaml: what the theory or plain sense forbids is refused, with the reason."""

import pytest
import yaml

from assay.params import ParameterError, load_params
from assay.params.stage_views import read_stage_view, write_stage_views

ESTIMATED = {"type": "forward"}
APPEALS = {"enabled": True}
NUMERIC = {"enabled": True, "judge": {"type": "symbolic", "verifier": "numeric"}}
KNOWN = {"type": "backward", "false_positive_rate": 0.1, "false_negative_rate": 0.2}


def load(tmp_path, verification=None, advantage=None, **more):
    for kind in ("scale", "environment", "method"):
        (tmp_path / "conf" / kind).mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / kind / "p.yaml").write_text("{}")
    own = {
        "scale": "p", "environment": "p", "method": "p", "iterations": [{"k": 0, "next": 1}], "last_policy": 1,
        "verification": verification or {}, "training": {"advantage": advantage or {"type": "group_zscore"}}, **more,
    }  # fmt: skip
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(own))
    return load_params(tmp_path)


@pytest.mark.parametrize(
    ("verification", "advantage", "fragments"),
    [
        ({"noise": {"type": "independent", "false_positive_rate": 0.5, "false_negative_rate": 0.5}}, None,
         ["verification.noise: false_positive_rate and false_negative_rate are 0.5 and 0.5, whose sum", "no correction exists"]),
        ({"noise": {"type": "format", "high_false_negative_rate": 0.9}}, None, ["high_false_negative_rate are 0.2 and 0.9"]),
        ({}, {"type": "backward", "false_positive_rate": 0.6, "false_negative_rate": 0.4}, ["training.advantage", "are 0.6 and 0.4"]),
        ({"appeals": {"probability": 0}}, None, ["verification.appeals.probability is 0", "greater than 0"]),
        ({"appeals": {"probability": 1.5}}, None, ["verification.appeals.probability is 1.5", "less than or equal to 1"]),
        ({}, ESTIMATED, ["training.advantage.false_negative_rate is estimated, but verification.appeals.enabled is false"]),
        ({"appeals": APPEALS | {"recover": True}}, ESTIMATED | {"lag": 1}, ["training.advantage.lag is 1 and verification.appeals."]),
        ({"rule": "math_verify", "appeals": APPEALS}, None, ["judge.verifier is math_verify, the rule itself, which would"]),
        ({"oracle": False, "appeals": APPEALS | {"judge_rates": "measured"}}, None, ["judge_rates is measured"]),
        ({"oracle": False, "appeals": APPEALS | {"judge": {"type": "simulated"}}}, None, ["judge.type is simulated, which"]),
        ({"appeals": {"judge_rates": {"true_positive": 0.3, "false_positive": 0.4}}}, None, ["a judge that accepts wrong answers"]),
        ({}, {"type": "backward", "scale": 0}, ["scale is 0, expected a number above 0 or ema"]),
        ({}, {"type": "forward", "scale": "group"}, ["training.advantage.scale"]),
        ({}, {"type": "backward", "scale": float("nan")}, ["training.advantage: scale is nan, expected a number above 0 or ema"]),
        ({}, {"type": "backward", "scale": float("inf")}, ["training.advantage: scale is inf, expected a number above 0 or ema"]),
        ({}, {"type": "forward", "scale": float("nan")}, ["scale is nan, expected a number above 0, determinant or"]),
        ({}, {"type": "forward", "baseline": float("nan")}, ["training.advantage.baseline is nan: input should be a finite number"]),
        ({}, {"type": "forward", "baseline": float("-inf")}, ["training.advantage.baseline is -inf: input should be a finite number"]),
        ({}, {"type": "direct", "scale": float("inf")}, ["training.advantage.scale is inf: input should be a finite number"]),
        ({}, {"type": "group_zscore", "epsilon": float("inf")}, ["training.advantage.epsilon is inf"]),
        ({}, KNOWN | {"false_negative_rate": float("nan")}, ["training.advantage.false_negative_rate", "is nan"]),
        ({"appeals": {"alpha": float("inf")}}, None, ["verification.appeals.alpha is inf"]),
        ({"appeals": {"assumed_false_positive_rate": 0.5, "initial_false_negative_rate": 0.6}}, None,
         ["verification.appeals: assumed_false_positive_rate and initial_false_negative_rate are 0.5 and 0.6, whose sum"]),
        ({}, KNOWN | {"lag": 1}, ["training.advantage: lag is 1, but both rates are given as numbers"]),
        ({}, KNOWN | {"minimum_determinant": 0.1}, ["training.advantage: minimum_determinant is 0.1, but both rates are given as"]),
        ({}, KNOWN | {"scale": "ema", "minimum_determinant": 0.1}, ["minimum_determinant is 0.1, but both rates are given as numbers"]),
        ({"appeals": APPEALS | {"judge": {"type": "endpoint"}}}, None,
         ["verification.appeals.judge.type is endpoint, but execution.judge.urls is empty: list"]),
        ({"rule": "numeric", "appeals": NUMERIC, "noise": {"type": "independent", "false_positive_rate": 0, "false_negative_rate": 0}},
         None, ["judge.verifier is numeric, the rule itself"]),
        ({}, {"type": "forward", "divide_by_std": True}, ["training.advantage.divide_by_std, which belongs to another type"]),
    ],
)  # fmt: skip
def test_what_could_not_mean_anything_is_refused(tmp_path, verification, advantage, fragments):
    with pytest.raises(ParameterError) as refusal:
        load(tmp_path, verification, advantage)
    assert all(fragment in str(refusal.value) for fragment in fragments), refusal.value


@pytest.mark.parametrize("method", ["backward_zscored", "forward_zscored"])
def test_older_recipes_need_groups(tmp_path, method):
    rates = {"false_positive_rate": 0.1, "false_negative_rate": 0.2}
    with pytest.raises(ParameterError, match=rf"training\.advantage\.type {method} compares the completions"):
        load(tmp_path, advantage={"type": method, **rates}, sampling={"group_size": 1})


def test_groups_of_one_are_allowed_where_nothing_is_compared(tmp_path):
    for kind in ("backward", "forward"):
        rates = {"false_positive_rate": 0.1, "false_negative_rate": 0.2}
        assert load(tmp_path, advantage={"type": kind, **rates}, sampling={"group_size": 1}).sampling.group_size == 1


@pytest.mark.parametrize("noise", [{"type": "independent"}, {"type": "format", "false_positive_rate": 0, "low_false_negative_rate": 0}])
def test_the_rule_may_judge_what_injected_noise_turned_round(tmp_path, noise):
    params = load(tmp_path, {"rule": "numeric", "noise": noise, "appeals": NUMERIC})
    assert params.verification.appeals.judge.verifier == params.verification.rule == "numeric"


def test_an_average_deviation_may_lag_though_the_rates_are_given(tmp_path):
    assert load(tmp_path, advantage=KNOWN | {"scale": "ema", "lag": 1}).training.advantage.lag == 1


def test_an_endpoint_with_an_address_is_read_by_the_stages_that_do_not_see_it(tmp_path):
    verification = {"appeals": APPEALS | {"judge": {"type": "endpoint"}}}
    params = load(tmp_path, verification, KNOWN, execution={"judge": {"urls": ["http://127.0.0.1:1/v1"]}})
    write_stage_views(params, tmp_path)
    for stage in ("verify", "filter", "train"):
        seen = read_stage_view(tmp_path / f"{stage}.json")
        assert seen.verification.appeals.judge.type == "endpoint" and seen.execution.judge.urls == ()
    assert read_stage_view(tmp_path / "filter.json").training.advantage == params.training.advantage


def test_an_endpoint_that_is_not_enabled_needs_no_address(tmp_path):
    assert load(tmp_path, {"appeals": {"judge": {"type": "endpoint"}}}).verification.appeals.judge.type == "endpoint"


PROTOCOLS = {"bench": {"type": "protocols"}}
SAID = "environments.bench is judged by protocol_score, whose score is the reward, but "


@pytest.mark.parametrize(("verification", "advantage", "said"), [
    ({"noise": {"type": "independent", "false_negative_rate": 0.1}}, None, SAID + "verification.noise.type independent takes"),
    ({"appeals": APPEALS}, None, SAID + "verification.appeals.enabled takes rewards for 0 or 1: leave one of them out"),
    ({}, KNOWN, SAID + "training.advantage.type backward takes"),
    ({"rule": "protocol_score"}, KNOWN, "verification.rule is protocol_score, whose score is the reward, but training.advantage.type"),
])  # fmt: skip
def test_a_rule_whose_score_is_the_reward_is_refused_where_rewards_are_taken_for_0_or_1(tmp_path, verification, advantage, said):
    with pytest.raises(ParameterError) as caught:
        load(tmp_path, verification, advantage, environments=PROTOCOLS)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_with_another_rule_protocols_may_be_noisy_and_their_score_be_plainly_scaled(tmp_path):
    assert load(tmp_path, {"rule": "string_match", "appeals": APPEALS}, KNOWN, environments=PROTOCOLS).environments["bench"].steps == (2, 4)
    options = load(tmp_path, {"protocol": {"order": "lcs"}}, {"type": "direct"}, environments=PROTOCOLS).verification.protocol
    assert options.order == "lcs" and options.maximum == 2.5
