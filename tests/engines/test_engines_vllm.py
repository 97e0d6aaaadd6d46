"""Real vLLM, started once. What another start would have given comes from a process of its own."""

import os
import pickle
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from teacher import largest_difference
from tiny_policies import make_model, save_policy

from assay.engines import EngineError, Request
from assay.engines.vllm_engine import engine_arguments
from assay.params.execution import ExecutionParams
from assay.params.sampling import VllmEngine

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def completions(vllm_engine, requests_mixed):
    return vllm_engine.generate(requests_mixed)


def test_logprobs_are_those_of_transformers(completions, requests_mixed):
    assert largest_difference(make_model(0), requests_mixed, completions) < 1e-4


def test_the_end_token_is_part_of_the_completion_and_nothing_follows_it(completions, requests_mixed):
    assert {completion.finish_reason for completion in completions} == {"stop", "length"}
    for request, completion in zip(requests_mixed, completions, strict=True):
        assert 2 not in completion.ids[:-1]
        assert (completion.ids[-1] == 2) == (completion.finish_reason == "stop")
        assert len(completion.ids) == len(completion.logprobs)
        if completion.finish_reason == "length":
            assert len(completion.ids) == request.max_tokens


def test_equal_requests_give_equal_bits_whatever_was_sampled_before(vllm_engine, completions, requests_mixed):
    vllm_engine.generate(requests_mixed[::3])
    assert vllm_engine.generate(requests_mixed) == completions


def test_other_seeds_give_other_completions(vllm_engine, completions, requests_mixed):
    reseeded = vllm_engine.generate([replace(request, seed=request.seed + 1) for request in requests_mixed])
    pairs = list(zip(requests_mixed, completions, reseeded, strict=True))
    assert all(before.ids == after.ids for request, before, after in pairs if request.temperature == 0)
    assert sum(before.ids != after.ids for _, before, after in pairs) > len(pairs) / 3


def test_swapped_weights_give_the_bits_of_a_fresh_start(
    vllm_engine, completions, requests_mixed, policy, other_policy, tmp_path
):
    asked, answered = tmp_path / "requests", tmp_path / "completions"
    asked.write_bytes(pickle.dumps(requests_mixed))
    script = Path(__file__).with_name("fresh_start.py")
    subprocess.run([sys.executable, script, asked, other_policy, answered], check=True, timeout=300)
    fresh = pickle.loads(answered.read_bytes())
    try:
        vllm_engine.load_policy(other_policy)
        swapped = vllm_engine.generate(requests_mixed)
    finally:
        vllm_engine.load_policy(policy)
    assert swapped == fresh
    assert sum(a.ids != b.ids for a, b in zip(swapped, completions, strict=True)) > len(completions) / 2
    assert vllm_engine.generate(requests_mixed) == completions


def test_weights_of_another_shape_are_refused(vllm_engine, completions, requests_mixed, tmp_path):
    with pytest.raises(EngineError, match="deeper: another model than the one in the engine"):
        vllm_engine.load_policy(save_policy(tmp_path / "deeper", layers=3))
    assert vllm_engine.generate(requests_mixed) == completions


def test_random_states_of_the_process_are_left_alone(vllm_engine, requests_mixed):
    import numpy
    import torch

    random.seed(5), numpy.random.seed(5), torch.manual_seed(5)
    expected = random.random(), numpy.random.rand(), torch.rand(1)
    random.seed(5), numpy.random.seed(5), torch.manual_seed(5)
    vllm_engine.generate(requests_mixed)
    assert (random.random(), numpy.random.rand(), torch.rand(1)) == expected
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)


def test_a_shard_that_the_cache_cannot_hold_is_refused_with_the_size_it_needs(vllm_engine):
    blocks = vllm_engine._llm.llm_engine.vllm_config.cache_config.num_gpu_blocks
    request = Request((5,) * 70, 0, 1.0, 1.0, 10)  # three blocks of 32 tokens
    fitting = (blocks - 1) // 3
    assert fitting < 1024, "more sequences fit than vLLM runs at once: nothing can overflow"
    with pytest.raises(
        EngineError, match=r"execution\.vllm_memory_gib is 0\.05, but .* need 0\.05 GiB: raise it to 0\.06"
    ):
        vllm_engine.generate([request] * (fitting + 1))
    assert len(vllm_engine.generate([request] * fitting)) == fitting


def test_an_interrupted_batch_leaves_an_idle_engine(vllm_engine, completions, requests_mixed):
    def interrupt(finished, tokens):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vllm_engine.generate(requests_mixed, interrupt)
    assert vllm_engine.generate(requests_mixed) == completions


def test_two_engines_live_beside_each_other_and_tied_weights_are_swapped_whole(vllm_engine, completions, requests_mixed, tmp_path):
    """A judge that is a model beside the policy: what vLLM keeps for the process goes with the last engine alone. And an output layer
    that shares the embedding's weights, as small models have: the swap reaches both."""
    from assay.engines import open_engine

    folders = [save_policy(tmp_path / str(seed), seed, tied=True) for seed in (1, 2)]
    execution = ExecutionParams(vllm_memory_gib=0.1)
    engine = open_engine(VllmEngine(), folders[0], stop_ids=(2,), dtype="float32", max_model_tokens=80, execution=execution)
    for seed in (2, 1):
        engine.load_policy(folders[seed - 1])
        assert largest_difference(make_model(seed, tied=True), requests_mixed, engine.generate(requests_mixed)) < 1e-4
    engine.close()
    assert vllm_engine.generate(requests_mixed) == completions


def test_progress_counts_every_completion_and_token(vllm_engine, completions, requests_mixed):
    calls = []
    vllm_engine.generate(requests_mixed, lambda *counts: calls.append(counts))
    assert len(calls) > 3
    assert sum(count for count, _ in calls) == len(requests_mixed)
    assert sum(tokens for _, tokens in calls) == sum(len(completion.ids) for completion in completions)


def test_arguments_of_the_user_win_except_where_the_record_rests_on_them(policy):
    def arguments(on_gpu=False, **given):
        return engine_arguments(VllmEngine(arguments=given), policy, "float32", 100, ExecutionParams(), on_gpu)

    assert arguments()["max_num_seqs"] == 1024
    assert arguments(max_num_seqs=7)["max_num_seqs"] == 7
    assert arguments(enable_prefix_caching=True)["enable_prefix_caching"] is True
    assert "kv_cache_memory_bytes" not in arguments(on_gpu=True, tensor_parallel_size=2)
    assert arguments(on_gpu=True)["gpu_memory_utilization"] == 0.85
    with pytest.raises(EngineError, match=r"sampling\.engine\.arguments\.logprobs_mode: set by Assay"):
        arguments(logprobs_mode="raw_logprobs")


def test_a_missing_vllm_is_said_so(policy, tmp_path):
    (tmp_path / "vllm.py").write_text("raise ImportError('no vllm here')\n")
    code = (
        "from pathlib import Path; from assay.engines import open_engine; from assay.params.execution import "
        "ExecutionParams;"
        "from assay.params.sampling import VllmEngine; import sys;"
        "open_engine(VllmEngine(), Path(sys.argv[1]), stop_ids=(2,), dtype='float32', max_model_tokens=80,"
        " execution=ExecutionParams())"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(policy)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert "vLLM cannot be imported (no vllm here): install requirements/cpu.txt" in done.stderr
    assert "or set sampling.engine.type to transformers" in done.stderr
