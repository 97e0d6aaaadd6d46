import math
import random
from dataclasses import replace

import pytest
from teacher import largest_difference
from tiny_policies import make_model, save_policy

from assay.engines import EngineError, Request, open_engine
from assay.engines.transformers_engine import sample_tokens
from assay.params.execution import ExecutionParams
from assay.params.sampling import TransformersEngine


def opened(policy, batch_size=64, max_model_tokens=80, **options):
    return open_engine(
        TransformersEngine(batch_size=batch_size, device="cpu", **options),
        policy,
        stop_ids=(2,),
        dtype="float32",
        max_model_tokens=max_model_tokens,
        execution=ExecutionParams(),
    )


@pytest.fixture(scope="module")
def engine(policy):
    return opened(policy)


@pytest.fixture(scope="module")
def completions(engine, requests_mixed):
    return engine.generate(requests_mixed)


def test_logprobs_are_those_of_one_plain_forward_pass(completions, requests_mixed):
    assert largest_difference(make_model(0), requests_mixed, completions) < 1e-5


def test_the_end_token_is_part_of_the_completion_and_nothing_follows_it(completions, requests_mixed):
    reasons = {completion.finish_reason for completion in completions}
    assert reasons == {"stop", "length"}
    for request, completion in zip(requests_mixed, completions, strict=True):
        assert 2 not in completion.ids[:-1]
        assert (completion.ids[-1] == 2) == (completion.finish_reason == "stop")
        if completion.finish_reason == "length":
            assert len(completion.ids) == request.max_tokens


def test_equal_requests_give_equal_bits_and_other_seeds_other_completions(engine, completions, requests_mixed):
    assert engine.generate(requests_mixed) == completions
    reseeded = engine.generate([replace(request, seed=request.seed + 1) for request in requests_mixed])
    for request, before, after in zip(requests_mixed, completions, reseeded, strict=True):
        if request.temperature == 0:
            assert after.ids == before.ids
    assert (
        sum(before.ids != after.ids for before, after in zip(completions, reseeded, strict=True)) > len(completions) / 3
    )


def test_a_rows_sample_hangs_on_its_own_seed_not_on_its_batch(policy, completions, requests_mixed):
    alone = opened(policy, batch_size=1).generate(requests_mixed)
    for together, single in zip(completions, alone, strict=True):
        assert together.ids == single.ids  # no digit happens to decide here
        assert max(abs(a - b) for a, b in zip(together.logprobs, single.logprobs, strict=True)) < 1e-5


def test_swapped_weights_sample_as_a_fresh_start_does(policy, other_policy, requests_mixed):
    engine = opened(policy)
    before = engine.generate(requests_mixed)
    engine.load_policy(other_policy)
    after = engine.generate(requests_mixed)
    assert after != before
    assert after == opened(other_policy).generate(requests_mixed)


def test_progress_counts_every_completion_and_token(engine, completions, requests_mixed):
    calls = []
    engine.generate(requests_mixed, lambda *counts: calls.append(counts))
    assert len(calls) == 2  # 96 requests in batches of 64
    assert sum(count for count, _ in calls) == len(requests_mixed)
    assert sum(tokens for _, tokens in calls) == sum(len(completion.ids) for completion in completions)


def test_no_request_no_work(engine):
    assert engine.generate([]) == []


def test_tokens_are_drawn_with_their_probabilities():
    import torch

    probability = torch.tensor([0.5, 0.3, 0.15, 0.05])
    count = 40_000
    logits = probability.log().repeat(count, 1) * 2  # temperature 2 undoes the factor
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ones = torch.ones(count)
    token, logprob = sample_tokens(logits, ones * 2, ones, uniform)
    for index, expected in enumerate(probability.tolist()):
        share = (token == index).double().mean().item()
        assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / count)
    assert torch.allclose(logprob, probability.log()[token], atol=1e-6)


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    import torch

    logits = torch.tensor([[0.05, 0.5, 0.15, 0.3]]).log().repeat(1000, 1)
    uniform = torch.linspace(0, 1 - 1e-9, 1000, dtype=torch.float64)
    ones = torch.ones(1000)
    for top_p, kept in (
        (0.01, {1}),
        (0.49, {1}),
        (0.51, {1, 3}),
        (0.79, {1, 3}),
        (0.81, {1, 2, 3}),
        (1.0, {0, 1, 2, 3}),
    ):
        token, logprob = sample_tokens(logits, ones, ones * top_p, uniform)
        assert set(token.tolist()) == kept
        mass = {index: logprob[token == index][0].exp().item() for index in kept}
        assert sum(mass.values()) == pytest.approx(1, abs=1e-5)


def test_greedy_rows_ignore_seed_and_top_p():
    import torch

    logits = torch.tensor([[0.0, 3.0, 1.0]]).repeat(3, 1)
    token, logprob = sample_tokens(
        logits, torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.1, 1.0, 1.0]), torch.tensor([0.9, 0.1, 0.0]).double()
    )
    assert token.tolist() == [1, 1, 0]
    assert logprob[0] == logprob[1] == logits[0].log_softmax(-1)[1]


def test_a_prompt_that_does_not_fit_is_refused_before_sampling(engine):
    with pytest.raises(EngineError, match=r"request 1: 70 prompt tokens and 11 completion tokens are 81"):
        engine.generate([Request((3,), 0, 1.0, 1.0, 1), Request((3,) * 70, 0, 1.0, 1.0, 11)])
    with pytest.raises(EngineError, match="request 0: the prompt holds no token"):
        engine.generate([Request((), 0, 1.0, 1.0, 1)])


def test_bad_folders_are_named(tmp_path, policy):
    with pytest.raises(EngineError, match="no such policy folder"):
        opened(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EngineError, match=r"config\.json is missing"):
        opened(tmp_path / "empty")
    for name, content in (("config.json", (policy / "config.json").read_bytes()), ("model.safetensors", b"x" * 40)):
        (tmp_path / "empty" / name).write_bytes(content)
    with pytest.raises(EngineError, match=r"model\.safetensors: not a safetensors file"):
        opened(tmp_path / "empty")
    with pytest.raises(EngineError, match=r"256 positions, but what is sampled needs up to 300"):
        opened(policy, max_model_tokens=300)


def test_weights_of_another_shape_are_refused_and_the_engine_stays_usable(
    engine, completions, requests_mixed, tmp_path
):
    other = save_policy(tmp_path / "deeper", seed=0, layers=3)
    with pytest.raises(EngineError, match=r"deeper: another model than the one in the engine"):
        engine.load_policy(other)
    assert engine.generate(requests_mixed) == completions


def test_no_end_token_is_refused(policy):
    with pytest.raises(EngineError, match="no end token is known"):
        open_engine(
            TransformersEngine(), policy, stop_ids=(), dtype="float32", max_model_tokens=80, execution=ExecutionParams()
        )


def test_a_random_batch_keeps_the_order_of_its_requests(engine):
    generator = random.Random(3)
    requests = [
        Request(tuple([5] * generator.randrange(1, 30)), 7, 1.0, 1.0, generator.randrange(1, 4)) for _ in range(150)
    ]
    for request, completion in zip(requests, engine.generate(requests), strict=True):
        assert len(completion.ids) <= request.max_tokens
    twice = engine.generate(requests + requests[::-1])
    assert [c.ids for c in twice[:150]] == [c.ids for c in twice[150:]][::-1]
