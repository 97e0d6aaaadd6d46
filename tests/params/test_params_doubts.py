"""Parameters that are not refused, but will most likely not do what is meant."""

from assay.params import Params
from assay.params.doubts import parameter_doubts

LONG = {"training": {"learning_rate": 1e-6}, "sampling": {"max_tokens": 3072}, "policy": {"base": "a-model", "max_prompt_tokens": 512}}


def doubts(**sections):
    return list(parameter_doubts(Params.model_validate(LONG | sections)))


def test_lengths_of_small_policies_are_doubted_for_a_base_model():
    assert doubts() == []
    (sentence,) = doubts(sampling={"max_tokens": 32})
    assert "sampling.max_tokens is 32" in sentence and "set it in params.yaml" in sentence
    assert len(doubts(sampling={"max_tokens": 32}, policy={"base": "a-model", "max_prompt_tokens": 64})) == 2
    assert doubts(sampling={"max_tokens": 32}, policy={"max_prompt_tokens": 64}) == []


def test_a_rate_of_small_policies_is_doubted_for_reinforcing_a_base_model():
    (sentence,) = doubts(training={"learning_rate": 3e-4})
    assert "training.learning_rate is 0.0003" in sentence and "scale gpu" in sentence
    assert doubts(training={"learning_rate": 1e-4, "lora": {}}) == doubts(training={"learning_rate": 3e-4}, policy={}) == []


def test_a_rate_at_which_an_adapter_is_rounded_away_is_doubted():
    (sentence,) = doubts(training={"learning_rate": 1e-6, "lora": {}})
    assert "training.lora is set, but training.learning_rate is 1e-06" in sentence and "set it to 1e-05 to 1e-4" in sentence
    assert doubts(training={"learning_rate": 1e-5, "lora": {}}) == []
    scratch = {"max_prompt_tokens": 64}
    assert doubts(training={"learning_rate": 1e-6, "lora": {}}, policy=scratch) == []  # float32
    assert len(doubts(training={"learning_rate": 1e-6, "lora": {}}, policy=scratch | {"dtype": "bfloat16"})) == 1


def test_rates_of_small_policies_are_doubted_for_fine_tuning():
    policy = LONG["policy"] | {"fine_tune": True}
    (sentence,) = doubts(policy=policy)
    assert "warm_start.learning_rate is 0.003" in sentence and "without lora" in sentence
    (sentence,) = doubts(policy=policy, warm_start={"lora": {}})
    assert "above about 0.001 a base model with lora" in sentence
    assert doubts(policy=policy, warm_start={"learning_rate": 3e-4, "lora": {}}) == []
    reading = {"learning_rate": 1e-5, "pretraining": {"max_steps": 10}}
    (sentence,) = doubts(policy=policy, warm_start=reading, tasks={"texts": 9})
    assert "warm_start.pretraining.learning_rate is 0.003" in sentence


def test_a_given_rate_beside_recovery_is_doubted():
    rates = {"type": "forward", "false_negative_rate": 0.2}
    appeals = {"appeals": {"enabled": True, "recover": True}}
    (sentence,) = doubts(training={"advantage": rates, "learning_rate": 1e-6}, verification=appeals)
    assert "must be the one after recovery" in sentence
    assert doubts(training={"advantage": {"type": "forward"}, "learning_rate": 1e-6}, verification=appeals) == []


def test_more_tokens_than_a_column_of_a_table_holds_are_doubted():
    """2^31 - 1, which Arrow would say in its own words after all of them were sampled."""
    fits = {"sampling": {"max_tokens": 2048, "group_size": 8, "tasks_per_iteration": 2**17 - 1}}
    assert doubts(**fits) == []
    fits["sampling"]["tasks_per_iteration"] += 1
    (sentence,) = doubts(**fits)
    assert sentence.startswith("a batch may have 2,147,483,648 tokens, but a column of a table ends at 2,147,483,647")
    (sentence,) = doubts(tasks={"eval": 100_000}, evaluation={"samples": 64})
    assert sentence.startswith("the evaluation samples of all policies may have ") and "lower tasks.eval" in sentence
    tools = {"environments": {"own": {"type": "tools"}}, "sampling": {"max_tokens": 2048, "tasks_per_iteration": 2**14}}
    tools["sampling"]["episodes"] = {"max_tokens": 2**14, "max_turns": 15}
    assert any(sentence.startswith("a batch may have") for sentence in doubts(**tools))


def test_episodes_without_room_for_the_longest_prompt_are_doubted():
    tools = {"environments": {"own": {"type": "tools"}}, "sampling": {"max_tokens": 1024, "episodes": {"max_tokens": 1536}}}
    assert doubts(**tools) == []
    tools["sampling"]["episodes"]["max_tokens"] = 1535
    (sentence,) = doubts(**tools)
    assert "sampling.episodes.max_tokens is 1535, but policy.max_prompt_tokens and sampling.max_tokens together are 1536" in sentence
