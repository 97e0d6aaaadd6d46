"""A language model as the backend of the stages: repair, drop, cache."""

import json
import threading
import time
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tools_written import CODES, ENVIRONMENT, TIDES, reply_to, stage_of

from assay.engines import EngineError
from assay.engines.chat import Teacher
from assay.environments.asking import Asker, FolderCache, Invalid, StageDropped, Stopped
from assay.environments.tools.backends import ModelBackend
from assay.environments.tools.build import build
from assay.environments.tools.config import FULL, Shape, Spread
from assay.environments.tools.construct import construct
from assay.environments.tools.environment import ToolsEnvironment
from assay.environments.tools.execution import ToolExecutor
from assay.params.execution import TeacherAccess
from assay.params.tools import Tools

SHAPE = Shape(Spread(3, 3, 3), Spread(1, 1, 1), Spread(1, 1, 1), 0.0)
CONFIG = replace(FULL, scenarios=("multi_hop",), shapes={"multi_hop": SHAPE}, topics=("music", "towns"))


@pytest.fixture(scope="module")
def executor():
    with ToolExecutor(1, 5.0) as made:
        yield made


class Model:
    """Answers as written, but for the replies that a test puts in: stage -> replies given first."""

    def __init__(self, **first):
        self.first, self.prompts = {stage: list(replies) for stage, replies in first.items()}, []

    def __call__(self, prompt):
        self.prompts.append(prompt)
        waiting = self.first.get(stage_of(prompt))
        return waiting.pop(0) if waiting else reply_to(prompt)


def made(executor, model, cache=None):
    return construct(ModelBackend(CONFIG, Asker(model, "a model", cache), executor), CONFIG, "multi_hop", 1)


def test_the_worked_example_is_built_stage_by_stage(executor):
    model = Model()
    environment = made(executor, model)
    assert [stage_of(prompt) for prompt in model.prompts] == [
        "decompose", "document", "document", "document", "integrate", "scale", "scale", "extend", "deploy", "deploy", "deploy",
    ]  # fmt: skip
    assert sorted(environment.names) == sorted(ENVIRONMENT.names) and environment.unsolved == ENVIRONMENT.unsolved
    assert (environment.calls, environment.answer, environment.codes) == (ENVIRONMENT.calls, "brelite", CODES)
    assert (environment.difficulty.merges, environment.difficulty.distractors) == (1, 1)
    found = build(CONFIG, ModelBackend(CONFIG, Asker(Model(), "m"), executor), executor, [0, 1], 1)
    assert len(found.environments) == 2 and found.refused.total() == 0  # the gate finds no fault with them


NO_JSON, NO_NODES = "I would rather talk about it.", json.dumps({"question": "Where?", "answer": "brelite"})


def test_two_repairs_are_made_with_the_reason_and_no_third(executor):
    model = Model(decompose=[NO_JSON, NO_NODES])
    assert made(executor, model).answer == "brelite"
    assert "Because: the reply is no JSON" in model.prompts[1] and NO_JSON in model.prompts[1]
    assert "Because: the reply has no 'subquestions' of type list" in model.prompts[2]
    stubborn = Model(decompose=[NO_JSON] * 9)
    with pytest.raises(StageDropped, match="decompose: the reply is no JSON"):
        made(executor, stubborn)
    assert len(stubborn.prompts) == 3
    with pytest.raises(StageDropped, match="half a character"):  # JSON, but no text that a table could hold
        made(executor, Model(decompose=['{"question": "\\ud800"}'] * 3))


@pytest.mark.parametrize(
    ("stage", "reply", "word"),
    [
        ("document", {"name": "a b", "description": "x", "parameters": {"type": "object", "properties": {}}}, "no name of a function"),
        ("document", {"name": "brelite", "description": "x", "parameters": {"type": "object", "properties": {}}}, "gives away"),
        ("document", {"name": "t", "description": "x"}, "no 'parameters'"),
        ("integrate", {"documents": []}, "expected each sub-question once"),
        ("integrate", {"documents": [7]}, "no 'subquestions'"),
        ("scale", TIDES, "renamed"),
        ("extend", {"documents": [TIDES, TIDES]}, "expected 1 documents"),
        ("deploy", {"source": "import os\n", "calls": []}, "one function"),
        ("deploy", [1], "no 'source'"),
    ],
)
def test_invalid_replies_of_every_stage_are_told_to_the_model_then_dropped(stage, reply, word, executor):
    with pytest.raises(StageDropped, match=word) as caught:
        made(executor, Model(**{stage: [json.dumps(reply)] * 3}))
    assert caught.value.stage == stage
    model = Model(**{stage: [json.dumps(reply)]})
    assert made(executor, model).answer == "brelite"
    assert sum(word in prompt for prompt in model.prompts) == 1


def test_functions_whose_intended_calls_do_not_answer_are_refused(executor):
    def model(prompt):
        reply = reply_to(prompt)
        return reply.replace('\\"Kestwick\\"', '\\"Elsewhere\\"') if stage_of(prompt) == "deploy" else reply

    with pytest.raises(StageDropped, match="not 'Kestwick'"):
        made(executor, model)


def test_an_endpoint_that_is_invalid_for_ever_leaves_places_empty_with_the_reason(executor):
    model = Model(decompose=[NO_JSON] * 99)
    found = build(CONFIG, ModelBackend(CONFIG, Asker(model, "m"), executor), executor, range(3), 1, attempts=2)
    assert (found.environments, found.empty, dict(found.refused)) == ([], [0, 1, 2], {"decompose": 6})
    assert "no JSON" in found.examples["decompose"] and len(model.prompts) == 3 * 2 * 3


def test_a_tool_that_repeats_its_arguments_does_not_pass_the_gate(executor):
    echoing = "def tide_table(port=None, day=None):\n    return 'no tides at ' + str(port)\n"

    def model(prompt):
        if stage_of(prompt) == "deploy" and '"tide_table"' in prompt:
            return json.dumps({"source": echoing, "calls": []})
        return reply_to(prompt)

    found = build(CONFIG, ModelBackend(CONFIG, Asker(model, "m"), executor), executor, [0], 1, attempts=1)
    assert found.refused == {"gate": 1} and found.examples["gate"].startswith("tide_table gives 'brelite'")


def test_replies_are_remembered_by_content_on_disk(tmp_path, executor):
    first, second = Model(), Model()
    one = made(executor, first, FolderCache(tmp_path / "cache"))
    two = made(executor, second, FolderCache(tmp_path / "cache"))
    assert one.env_id == two.env_id and (len(first.prompts), len(second.prompts)) == (11, 0)
    cache = FolderCache(tmp_path / "cache")
    assert len(cache) == 11 == len(list(cache))
    with pytest.raises(KeyError):
        cache["never asked"]
    key = next(iter(cache))
    del cache[key]
    assert key not in cache and len(cache) == 10


def test_another_model_or_payload_is_asked_anew():
    asked = []
    complete = lambda prompt: asked.append(prompt) or "{}"  # noqa: E731
    cache = {}
    for name, payload in (("a", {"x": 1}), ("a", {"x": 1}), ("b", {"x": 1}), ("a", {"x": 2})):
        assert Asker(complete, name, cache).ask("document", "Write.", payload, lambda reply: reply) == {}
    assert len(asked) == 3 == len(cache)


def test_what_the_client_raises_is_not_taken_for_a_bad_reply():
    def gone(prompt):
        raise ConnectionError("refused")

    def never(reply):
        raise Invalid("no")

    with pytest.raises(ConnectionError, match="refused"):
        Asker(gone, "m").ask("document", "Write.", {}, never)
    asker = Asker(lambda prompt: "{}", "m")
    with pytest.raises(StageDropped):
        asker.ask("document", "Write.", {}, never)
    assert (asker.calls, asker.repairs) == (3, 2)


class Served(ThreadingHTTPServer):
    """A language model behind a chat endpoint: takes its time, remembers how many were asked at once. From a given question on it is out of
    order."""

    daemon_threads = True

    def __init__(self, fails_from=10_000):
        self.asked, self.now, self.most, self.fails_from, self.count = [], 0, 0, fails_from, threading.Lock()
        super().__init__(("127.0.0.1", 0), _Answering)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def teacher(self):
        return Teacher(TeacherAccess(urls=(self.url,), retries=0, timeout=5), "m", 0.0, 100)


class _Answering(BaseHTTPRequestHandler):
    server: Served

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
        server = self.server
        with server.count:
            server.asked.append(asked)
            server.now += 1
            server.most, refused = max(server.most, server.now), len(server.asked) >= server.fails_from
        # The later the question, the shorter it takes: replies of one round arrive in another order than they were asked in.
        time.sleep(max(0.002, 0.03 - 0.001 * len(server.asked)))
        with server.count:
            server.now -= 1
        body = json.dumps({"choices": [{"message": {"content": reply_to(asked)}}]}).encode()
        self.send_response(400 if refused else 200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def test_a_teacher_is_asked_several_questions_at_once_and_no_result_depends_on_it(executor):
    found, servers = {}, {}
    for threads in (1, 4):
        servers[threads] = server = Served()
        backend = ModelBackend(CONFIG, Asker(server.teacher().complete, "m"), executor)
        found[threads] = build(CONFIG, backend, executor, range(4), 1, threads=threads)
    assert (servers[1].most, servers[4].most > 1, servers[4].most <= 4) == (1, True, True)
    assert found[1].environments == found[4].environments and len(found[4].environments) == 4
    assert len({one.seed for one in found[4].environments}) == 4 and found[1].digest == found[4].digest
    for server in servers.values():  # equal questions once, also those that are asked at the same time
        assert set(Counter(server.asked).values()) == {1}
    assert sorted(servers[1].asked) == sorted(servers[4].asked)


def test_batches_grow_up_to_what_is_asked_at_once(tmp_path):
    section = {"backend": {"type": "endpoint"}, "ood": False, "scenarios": ["multi_hop"], "scaling": {"distractors": [1, 1]}}
    server = Served()
    made = ToolsEnvironment("t", Tools.model_validate(section), 0, tmp_path, 1, ("m", server.teacher().complete), concurrency=3)
    candidates = made.candidates("train")
    offered = [next(candidates) for _ in range(3)]
    made.close()
    assert [one.origin for one in offered] == [f"environment {place} of split train" for place in range(3)]
    assert sum(stage_of(prompt) == "decompose" for prompt in server.asked) == 3  # in batches of 1 and 2


def test_a_teacher_that_fails_ends_the_build_and_the_threads_beside(executor):
    server = Served(fails_from=9)
    asker = Asker(server.teacher().complete, "m")
    with pytest.raises(EngineError, match="the server refuses"):
        build(CONFIG, ModelBackend(CONFIG, asker, executor), executor, range(40), 1, threads=4)
    assert len(server.asked) < 20 and server.now == 0  # 40 places have more than 200 questions
    with pytest.raises(Stopped):
        asker.ask("document", "Write.", {}, lambda reply: reply)
