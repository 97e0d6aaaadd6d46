"""Combinations of estimators, token rewards, critics and critiques that would lose a reward or do nothing are refused."""

import pytest
from pydantic import ValidationError

from assay.params import Params
from assay.params.doubts import parameter_doubts
from assay.params.rewards import Levels
from assay.params.self_verification import SelfVerification
from assay.params.stepwise import Stepwise


def refused(**sections):
    with pytest.raises(ValidationError) as found:
        Params.model_validate(sections)
    return str(found.value)


@pytest.mark.parametrize("kind", ["group_zscore", "leave_one_out", "direct"])
def test_step_rewards_need_an_estimator_that_keeps_them(kind):
    said = refused(stepwise={"continuations": 5}, training={"advantage": {"type": kind}})
    assert f"training.advantage.type {kind} sums the rewards of a row" in said and "reinforce_plus_plus or generalized" in said
    Params.model_validate({"stepwise": {"continuations": 5}, "training": {"advantage": {"type": "reinforce_plus_plus"}}})


def test_ppo_and_its_critic_come_together():
    assert "needs the values of a critic" in refused(training={"advantage": {"type": "generalized"}})
    assert "reads no values" in refused(training={"critic": {}})
    both = {"advantage": {"type": "generalized"}, "critic": {}}
    assert "set one" in refused(training=both | {"lora": {}})
    assert Params.model_validate({"training": both}).training.critic.clip == 0.5


def test_a_penalty_of_tokens_needs_rewards_of_tokens():
    assert "is a reward of each token" in refused(rewards={"reference_penalty": 0.01})


@pytest.mark.parametrize("section", [{"levels": {"wrong": -0.5}}, {"length_penalty": 0.1}])
def test_corrections_know_rewards_of_one_and_nothing(section):
    backward = {"type": "backward", "false_positive_rate": 0.1, "false_negative_rate": 0.2}
    assert "corrects rewards of 1 and 0" in refused(rewards=section, training={"advantage": backward})


def test_critiques_under_a_correction_are_unbiased_or_refused():
    backward = {"type": "backward", "false_positive_rate": 0.1, "false_negative_rate": 0.2}
    assert "reaches critiques" in refused(self_verification={"share": 0.5}, training={"advantage": backward})
    assert "takes the rates" in refused(self_verification={"share": 0.5, "reward": "unbiased"})
    assert "scale is ema" in refused(
        self_verification={"share": 0.5, "reward": "unbiased"}, training={"advantage": backward | {"scale": "ema"}}
    )
    Params.model_validate({"self_verification": {"share": 0.5, "reward": "unbiased"}, "training": {"advantage": backward}})


def test_there_are_no_more_critiques_than_solutions():
    assert "only 8 solutions to judge" in refused(self_verification={"share": 8.5})
    assert "compares the critiques of one solution" in refused(self_verification={"share": 1, "group_size": 1})
    assert "compares the critiques" not in str(Params.model_validate(
        {"self_verification": {"share": 1, "group_size": 1}, "training": {"advantage": {"type": "reinforce_plus_plus"}}}
    ))  # fmt: skip


def test_step_rewards_without_thinking_are_doubted():
    vsrm = {"stepwise": {"continuations": 5}, "training": {"advantage": {"type": "reinforce_plus_plus"}}}

    def doubts(kind, **sections):
        return list(parameter_doubts(Params.model_validate(vsrm | {"environments": {"own": {"type": kind}}} | sections)))

    (sentence,) = doubts("rational_arithmetic")
    assert "no demonstration of own thinks between <think> and </think>" in sentence and "environment overthinking" in sentence
    assert doubts("chain_arithmetic") == doubts("rational_arithmetic", stepwise={}) == []
    long = {"policy": {"base": "a-model", "max_prompt_tokens": 512}, "sampling": {"max_tokens": 3072}}
    long |= {"training": vsrm["training"] | {"learning_rate": 1e-6}}
    assert doubts("rational_arithmetic", **long) == []


def test_shares_become_numbers_of_prompts():
    assert SelfVerification().prompts(1024) == 0
    assert SelfVerification(share=0.125).prompts(1024) == 128
    assert SelfVerification(share=0.001).prompts(16) == 1


@pytest.mark.parametrize(
    ("section", "values", "word"),
    [
        (SelfVerification, {"levels": (1, 1, 0)}, "levels"), (SelfVerification, {"levels": (1, -1, -0.5)}, "levels"),
        (SelfVerification, {"demonstrations": 1.0}, "less than 1"), (Levels, {"correct": 0}, "correct is 0"),
        (Levels, {"no_format": 2}, "correct is 1"), (Stepwise, {"interval": 0}, "interval"), (Stepwise, {"gamma": 1.5}, "gamma"),
        (Stepwise, {"markers": ()}, "markers"), (Stepwise, {"markers": ("wait", " ")}, r"markers\[1\] is ' ', which stands everywhere"),
        (Stepwise, {"close_tag": "<think>"}, "expected two different texts"), (Stepwise, {"open_tag": " "}, "not blank"),
        (SelfVerification, {"evaluation": 2, "evaluation_temperature": 0}, "would be the same"),
        (Stepwise, {"continuations": -1}, "continuations"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(section, values, word):
    with pytest.raises(ValidationError, match=word):
        section(**values)
