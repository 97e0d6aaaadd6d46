"""A language model as the backend of the stages: repair, drop, cache."""

import json
from dataclasses import replace

import pytest
from tools_written import CODES, ENVIRONMENT, TIDES, reply_to, stage_of

from assay.environments.asking import Asker, FolderCache, Invalid, StageDropped
from assay.environments.tools.backends import ModelBackend
from assay.environments.tools.build import build
from assay.environments.tools.config import FULL, Shape, Spread
from assay.environments.tools.construct import construct
from assay.environments.tools.execution import ToolExecutor

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
