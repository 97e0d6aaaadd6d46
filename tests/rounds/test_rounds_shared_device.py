"""Sampler and trainer of fused rounds on one card."""

from assay.engines.device_memory import BESIDE, GIB
from assay.engines.folder import parameter_count
from assay.params.execution import ExecutionParams
from assay.params.training import CriticParams
from assay.rounds import train as rounds
from assay.rounds.shared_device import beside_trainer, kept_by_trainer


def test_the_trainer_keeps_weights_and_moments_or_the_frozen_base_and_a_critic_the_same_again(iteration):
    assert kept_by_trainer(1000, iteration.params()) == 12_000
    assert kept_by_trainer(1000, iteration.params(training={"lora": {"rank": 4}})) == 4_000
    params = iteration.params()
    with_critic = params.training.model_copy(update={"critic": CriticParams()})
    assert kept_by_trainer(1000, params.model_copy(update={"training": with_critic})) == 24_000


def test_a_share_that_nobody_gave_is_what_fits(iteration):
    execution, policy = ExecutionParams(), iteration.places.model / "policy"
    params = iteration.params(sampling={"engine": {"type": "vllm"}})
    # A card on which the trainer of this tiny policy, and what is beside it, take half.
    card = 2 * (12 * parameter_count(policy) + BESIDE) + GIB
    assert beside_trainer(execution, policy, params, card).gpu_memory_share == 0.55
    assert beside_trainer(ExecutionParams(gpu_memory_share=0.7), policy, params, card).gpu_memory_share == 0.7
    assert beside_trainer(execution, policy, params, None) is execution
    assert beside_trainer(execution, policy, iteration.params(), card) is execution  # plain transformers
    local = {"appeals": {"enabled": True, "judge": {"type": "local", "model": "judge"}}}
    kept = 12 * parameter_count(policy)
    only_judge = beside_trainer(execution, policy, iteration.params(verification=local), 80 * GIB).gpu_memory_share
    assert only_judge is not None and only_judge <= 0.85 and only_judge * 80 * GIB + kept < 80 * GIB  # plain transformers sample
    with_judge = iteration.params(sampling={"engine": {"type": "vllm"}}, verification=local)
    assert beside_trainer(execution, policy, with_judge, 80 * GIB).gpu_memory_share == 0.42


def test_the_sampler_is_paused_before_the_trainer_is_made(iteration, monkeypatch):
    from assay.engines.transformers_engine import TransformersSampler
    from assay.training.session import UpdateSession

    calls = []
    monkeypatch.setattr(TransformersSampler, "pause", lambda self: calls.append("pause"))
    monkeypatch.setattr(TransformersSampler, "resume", lambda self: calls.append("resume"))
    opened = UpdateSession.__init__
    monkeypatch.setattr(UpdateSession, "__init__", lambda self, *a, **b: calls.append("trainer") or opened(self, *a, **b))
    assert rounds.card_bytes() is None
    iteration.train(iteration.params(fused={"rounds": 1, "tasks_per_round": 2, "steps_per_round": 1}))
    assert calls == ["pause", "trainer", "resume", "pause"]
