"""Against a real `vllm serve`, started once."""

import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from loopback import Scripted
from teacher import largest_difference
from tiny_policies import make_model

from assay.engines import EngineError, EngineMistake, open_engine
from assay.engines.server_engine import read_choice
from assay.engines.serving import CPU_ARGUMENTS, serve
from assay.params.execution import ExecutionParams
from assay.params.sampling import ServerEngine


def opened(*urls, policy, model=None, **options):
    return open_engine(
        ServerEngine(model=model),
        policy,
        stop_ids=(2,),
        dtype="float32",
        max_model_tokens=80,
        execution=ExecutionParams(server={"urls": urls, **options}),
    )


@pytest.fixture(scope="module")
def server(policy, tmp_path_factory):
    """A server as others start it: it takes what requests leave out from generation_config.json."""
    folder = tmp_path_factory.mktemp("server")
    served, log = folder / "policy", folder / "log"
    shutil.copytree(policy, served)
    own = {"top_k": 1, "min_p": 0.5, "repetition_penalty": 3.0, "eos_token_id": 2}
    (served / "generation_config.json").write_text(json.dumps(own))
    arguments = (*CPU_ARGUMENTS, "--kv-cache-memory-bytes", str(64 * 2**20), "--generation-config", "auto")
    with serve(served, dtype="float32", max_model_tokens=80, arguments=arguments, log=log) as url:
        yield url


@pytest.mark.engine
def test_a_real_server_gives_token_ids_and_processed_logprobs(server, policy, other_policy, requests_mixed):
    engine = opened(server, policy=policy)
    calls = []
    completions = engine.generate(requests_mixed, lambda *counts: calls.append(counts))
    assert largest_difference(make_model(0), requests_mixed, completions) < 1e-4
    for request, completion in zip(requests_mixed, completions, strict=True):
        assert (completion.ids[-1] == 2) == (completion.finish_reason == "stop")
        assert 2 not in completion.ids[:-1]
        assert len(completion.ids) == request.max_tokens or completion.finish_reason == "stop"
    assert {completion.finish_reason for completion in completions} == {"stop", "length"}
    assert (sum(n for n, _ in calls), sum(t for _, t in calls)) == (96, sum(len(c.ids) for c in completions))

    # Seeds count: the same ones give the same tokens (digits aside), others do not.
    again = engine.generate(requests_mixed)
    assert sum(a.ids == b.ids for a, b in zip(completions, again, strict=True)) > 90
    reseeded = engine.generate([replace(request, seed=request.seed + 1) for request in requests_mixed])
    assert sum(a.ids != b.ids for a, b in zip(completions, reseeded, strict=True)) > len(completions) / 3

    # Given another policy, it samples that one; opening an engine gives it the policy that was asked for.
    engine.load_policy(other_policy)
    assert largest_difference(make_model(1), requests_mixed, engine.generate(requests_mixed)) < 1e-4
    reopened = opened(server, policy=policy)
    assert largest_difference(make_model(0), requests_mixed, reopened.generate(requests_mixed)) < 1e-4
    assert reopened.version == engine.version != "unknown"

    with pytest.raises(EngineError, match=r"sampling\.engine\.model is absent"):
        opened(server, policy=policy, model="absent")
    engine.close()
    reopened.close()


def models(root):
    return [(200, {"data": [{"id": "served", "root": str(root)}]})]


def test_a_server_that_cannot_change_weights_must_serve_the_policy(policy, other_policy, caplog):
    url = Scripted({"/v1/models": models(policy)}).url
    engine = opened(url, policy=policy)
    assert engine.version == "unknown"
    with pytest.raises(EngineError, match=r"offers no way to change its weights, so it cannot be given .*one"):
        engine.load_policy(other_policy)
    with pytest.raises(EngineError, match=r"serves .*zero, not .*one\. Start it with VLLM_SERVER_DEV_MODE=1"):
        opened(url, policy=other_policy)
    opened(url, policy=other_policy, model="served")
    assert "nobody can check that served is the policy" in caplog.text


def reports(best):
    """A server whose best token has these log-probabilities at each probe in turn."""

    def choice(value):
        logprobs = {"token_logprobs": [value], "top_logprobs": [{"token_id:5": value}]}
        return 200, {"choices": [{"logprobs": logprobs, "finish_reason": "length", "token_ids": [5]}]}

    return [choice(value) for value in best]


@pytest.mark.parametrize(
    ("best", "message"),
    [
        ([-0.7, -0.7], "those before temperature and top_p, not those of what was sampled; start the server with"),
        ([-0.7, -0.701], "start the server with --logprobs-mode processed_logprobs"),  # bfloat16 is not exact
        ([-0.001] * 16, "one token has nearly all probability"),  # a thinking model's first token
        ([-0.001, -0.7, -0.69], "start the server with --logprobs-mode processed_logprobs"),
    ],
)
def test_logprobs_before_temperature_are_refused(policy, requests_mixed, best, message):
    server = Scripted({"/v1/models": models(policy), "/v1/completions": reports(best)})
    engine = opened(server.url, policy=policy)
    with pytest.raises(EngineMistake, match=message):
        engine.generate(requests_mixed)
    asked = len(server.asked)
    plain = [replace(request, temperature=1.0, top_p=1.0, max_tokens=1) for request in requests_mixed[:5]]
    assert [completion.ids for completion in engine.generate(plain)] == [(5,)] * 5  # no probe is needed at temperature 1
    assert len(server.asked) == asked + 5


def test_every_server_is_asked_what_its_logprobs_are(policy, requests_mixed):
    good = Scripted({"/v1/models": models(policy), "/v1/completions": reports([-0.7, -0.0])})
    bad = Scripted({"/v1/models": models(policy), "/v1/completions": reports([-0.7, -0.7])})
    with pytest.raises(EngineMistake, match=f"{bad.url}: log-probabilities are those before temperature"):
        opened(good.url, bad.url, policy=policy).generate(requests_mixed)


def test_as_many_requests_are_under_way_at_each_server_as_one_may_have(policy, requests_mixed):
    """None is answered before all are: fewer at once would never be."""
    together = threading.Barrier(2 * 80)

    def late(body):
        together.wait(timeout=30)
        return 200, answer(prompt_token_ids=body["prompt"])

    servers = [Scripted({"/v1/models": models(policy), "/v1/completions": late}) for _ in range(2)]
    engine = opened(*(server.url for server in servers), policy=policy, concurrency=80, retries=0)
    completions = engine.generate([replace(requests_mixed[0], temperature=1.0, top_p=1.0, max_tokens=2)] * 160)
    engine.close()
    assert [len(completion.ids) for completion in completions] == [2] * 160
    assert [server.asked.count("/v1/completions") for server in servers] == [80, 80]
    assert ExecutionParams().server.concurrency == 256


def test_connections_are_as_many_as_the_process_may_have_open():
    """In a process of its own, as a limit that was lowered stays."""
    program = (
        "import resource; from assay.engines.server_engine import _possible; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (300, 1000)); "
        "print(_possible(10), resource.getrlimit(resource.RLIMIT_NOFILE)[0], "
        "_possible(512), resource.getrlimit(resource.RLIMIT_NOFILE)[0], _possible(2048), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert said == ["10", "300", "512", "768", "744", "1000"]


def test_a_refused_request_ends_the_batch_with_the_servers_words(policy, requests_mixed):
    answers = {
        "/v1/models": models(policy),
        "/v1/completions": [(400, {"error": {"message": "prompt is too long"}})],
    }
    server = Scripted(answers)
    engine = opened(server.url, policy=policy, concurrency=2)
    plain = [replace(request, temperature=1.0, top_p=1.0) for request in requests_mixed]
    with pytest.raises(EngineError, match=r"the server refuses \(HTTP 400: prompt is too long\)"):
        engine.generate(plain)
    assert server.asked.count("/v1/completions") < len(plain)


def test_an_error_waits_for_no_answer_to_the_other_requests(policy, requests_mixed):
    first, never = threading.Lock(), threading.Event()

    def one_is_refused(_body):
        if first.acquire(blocking=False):
            never.wait()
        return 400, {"error": {"message": "prompt is too long"}}

    server = Scripted({"/v1/models": models(policy), "/v1/completions": one_is_refused})
    engine = opened(server.url, policy=policy, concurrency=2)
    plain = [replace(request, temperature=1.0, top_p=1.0) for request in requests_mixed[:2]]
    with pytest.raises(EngineError, match="prompt is too long"):
        engine.generate(plain)
    assert not never.is_set()
    never.set()


def answer(**changes):
    choice = {
        "token_ids": [7, 2],
        "finish_reason": "stop",
        "logprobs": {"token_logprobs": [-1.0, -0.5], "tokens": ["token_id:7", "token_id:2"]},
        "prompt_token_ids": [3, 4],
    }
    return {"choices": [choice | changes]}


@pytest.fixture(scope="module")
def request_small(requests_mixed):
    return replace(requests_mixed[0], prompt_ids=(3, 4))


def test_an_answer_is_read_token_for_token(request_small):
    completion = read_choice(answer(), request_small, (2,))
    assert (completion.ids, completion.logprobs, completion.finish_reason) == ((7, 2), (-1.0, -0.5), "stop")
    assert read_choice(answer(token_ids=None), request_small, (2,)) == completion


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"token_ids": None, "logprobs": {"token_logprobs": [-1.0], "tokens": ["a"]}},
            "returns text without token ids",
        ),
        ({"prompt_token_ids": [1, 3, 4]}, "changed the prompt's token ids"),
        ({"token_ids": [7, 9]}, r"stopped after token 9, which is none of the end tokens \[2\]"),
        ({"logprobs": {"token_logprobs": [-1.0]}}, "2 tokens, 1 log-probabilities"),
        ({"logprobs": {"token_logprobs": [-1.0, None]}}, "gave 2 tokens, 2 log-probabilities"),
        ({"finish_reason": "abort"}, "finish reason 'abort'"),
        ({"logprobs": None}, "holds no completion with log-probabilities"),
    ],
)
def test_answers_that_are_not_what_was_sampled_are_refused(changes, message, request_small):
    with pytest.raises(EngineError, match=message):
        read_choice(answer(**changes), request_small, (2,))
