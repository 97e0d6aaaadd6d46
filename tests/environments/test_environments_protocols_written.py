"""Protocols that a language model makes questions of, asked over a real HTTP server: repair, review, drop, cache, and an endpoint that is
no good."""

import json
import re
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
from loopback import Scripted

from assay.engines import EngineError
from assay.engines.chat import Teacher
from assay.environments import TaskError, generate
from assay.environments.asking import Asker, StageDropped
from assay.environments.protocols.construct import ASPECTS, build
from assay.environments.protocols.sources import Source, read_sources
from assay.environments.protocols.written import PATIENCE, WrittenProtocolsEnvironment
from assay.params import Params
from assay.params.execution import TeacherAccess
from assay.params.protocols import Protocols, ScoreOptions
from assay.rewards.protocol import read_gold, score
from assay.rounds.generate import make_tasks

TEXT = "Cells are washed: 5 ml of buffer are added, the tube is mixed for 10 s and spun at 300 xg for 5 min. The supernatant is discarded."
STRUCTURE = {
    "name": "Washing cells", "abstract": "Cells are washed.", "materials": ["buffer"], "equipment": [], "procedures": [TEXT], "notes": [],
}  # fmt: skip
KEY = [
    {"action": "add", "objects": ["buffer"], "parameters": ["5 ml"]},
    {"action": "mix", "objects": ["tube"], "parameters": ["10 s"]},
    {"action": "spin", "objects": ["tube"], "parameters": ["300 xg", "5 min"]},
    {"action": "discard", "objects": ["supernatant"], "parameters": []},
]
ORC = [
    "Step 1: Add 5 ml of buffer.", "Step 2: Mix the tube for 10 s.", "Step 3: Spin the tube at 300 xg for 5 min.",
    "Step 4: Discard the supernatant.",
]  # fmt: skip
FINE = dict.fromkeys(ASPECTS, "No issue.")
BENCH = {
    "line": "wash", "sample": "cells", "start": "dry", "goal": "washed", "have": {"buffer": "5 ml"}, "factor": 1, "without": [],
    "sheet": None, "outline": False, "hazards": False, "in": [],
}  # fmt: skip
STAGES = {"Write the text": "write", "Take the protocol": "structure", "Make one question": "question", "Review the question": "review"}


def question(payload, **changed):
    """A question as it should be; its words differ from text to text and type to type."""
    asked = f"How are cells of {payload['protocol']['name']} washed ({payload['type']}, {payload['variation']})?"
    others = ["boil", "freeze", "burn"][: payload["distractors"]]
    return {"question": asked, "think": "Buffer first.", "key": KEY, "orc": ORC, "note": "Wear gloves.", "distractors": others} | changed


def prompt_of(body):
    return body["messages"][0]["content"]


def stage_of(prompt):
    return next(stage for begin, stage in STAGES.items() if prompt.startswith(begin))


def payload_of(prompt):
    return json.loads(re.search(r"Input:\n(.*)\n\nReply with JSON alone", prompt)[1])


class Model:
    """Answers as it should, but for what a test puts in: stage -> function from (payload, its usual answer) to another one."""

    def __init__(self, **other):
        self.other, self.prompts, self.bodies = other, [], []

    def usual(self, stage, payload):
        if stage == "write":
            return {"text": f"{TEXT} {payload['topic']} {payload['variation']}"}
        if stage == "structure":
            return STRUCTURE | {"name": f"Washing {payload['text'].rsplit(' ', 2)[-1]}"}
        return question(payload) if stage == "question" else FINE

    def __call__(self, body):
        prompt = prompt_of(body)
        stage, payload = stage_of(prompt), payload_of(prompt)
        self.prompts.append(prompt)
        self.bodies.append(body)
        answer = self.usual(stage, payload)
        if stage in self.other:
            answer = self.other[stage](payload, answer, sum(stage_of(asked) == stage for asked in self.prompts))
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return 200, {"choices": [{"message": {"role": "assistant", "content": text}}]}

    @property
    def stages(self):
        return Counter(map(stage_of, self.prompts))


def serving(model):
    return Scripted({"/v1/models": [(200, {"data": [{"id": "writer"}]})], "/v1/chat/completions": model})


def access(server):
    return TeacherAccess(urls=(server.url,), retries=0, timeout=10)


def environment(folder, server, *, seed=0, share=0.25, types=("planning", "overview"), bench=None, texts=8, **backend):
    """Of a file of texts in the folder, whose last words differ; or of topics."""
    if not backend.get("topics"):
        rows = [{"id": f"t{n}", "text": f"{TEXT} Batch {n}", **({"bench": bench} if bench else {})} for n in range(texts)]
        (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
        backend["path"] = "texts.jsonl"
    options = Protocols(types=types, steps=(2, 6), backend={"type": "endpoint", **backend})

    def teacher(section):
        found = Teacher(access(server), section.model, section.temperature, section.max_tokens)
        return found.model, found.complete

    return WrittenProtocolsEnvironment("mine", options, seed, folder, share, ScoreOptions(), teacher)


def tasks(made, split, number=None):
    made.check()
    return [candidate.task for candidate in islice(made.candidates(split), number)]


def test_texts_become_tasks_of_every_type_whose_golds_pass_what_every_gold_passes(tmp_path):
    model = Model()
    made = environment(tmp_path, serving(model))
    train, held = tasks(made, "train"), tasks(made, "eval")
    assert len(train) + len(held) == 16 and len(held) >= 2 and Counter(task.meta["type"] for task in train)["planning"] == len(train) / 2
    assert not {task.meta["text"] for task in train} & {task.meta["text"] for task in held}  # a text is held out with all its questions
    for task in train:
        steps = read_gold(task.gold)
        assert score(task.gold, steps, allowed=task.meta["actions"]).total == pytest.approx(2.5) and task.difficulty == 4
        assert {"add", "mix", "spin", "discard"} < set(task.meta["actions"]) and task.verifier == "protocol_score"
        assert task.prompt[1]["content"].endswith(f"Only these actions may be used: {', '.join(task.meta['actions'])}.")
        assert made.demonstration(task, None) == task.gold and "oracle" not in task.meta
    assert made.pretraining_text(train[0]).endswith("Spin the tube at 300 xg for 5 min. Discard the supernatant.")
    assert (made.notes, tasks(made, "demonstration")) == ([], []) and not made.has("ood")
    assert model.stages == {"structure": 8, "question": 16, "review": 16}
    assert {body["temperature"] for body in model.bodies} == {0.6, 0.0} and {body["model"] for body in model.bodies} == {"writer"}


def test_a_reviewer_of_another_name_is_asked_and_replies_are_remembered_on_disk(tmp_path):
    first, second = Model(), Model()
    ids = [task.task_id for task in tasks(environment(tmp_path, serving(first), reviewer="judge"), "train")]
    assert {body["model"] for body in first.bodies if stage_of(prompt_of(body)) == "review"} == {"judge"}
    again = environment(tmp_path, serving(second), reviewer="judge")
    assert [task.task_id for task in tasks(again, "train")] == ids and second.prompts == []


def test_topics_are_written_about_without_end(tmp_path):
    model = Model()
    made = environment(tmp_path, serving(model), topics=["washing", "lysis"], share=0.5)
    train, held = tasks(made, "train", 6), tasks(made, "eval", 4)
    assert len({task.meta["text"] for task in train + held}) == 10 == model.stages["write"]
    assert {payload_of(prompt)["topic"] for prompt in model.prompts if stage_of(prompt) == "write"} == {"washing", "lysis"}


NO_JSON = "Gladly! Here it comes."


def built(model, bench=None, **options):
    """One question over HTTP."""
    teacher = Teacher(access(serving(model)), "writer", 0.6, 100)
    asker = Asker(teacher.complete, "writer")
    chosen = Protocols(steps=(2, 6), backend={"type": "endpoint", "topics": ["x"]}, **options)
    return build(asker, asker, chosen, ScoreOptions(), Source("t", f"{TEXT} Batch 1", bench), "planning", 0, 0)


@pytest.mark.parametrize(
    ("stage", "changed", "why"),
    [
        ("structure", {"materials": [1]}, "'materials' is not a list of texts"),
        ("structure", {"procedures": []}, "'procedures' is empty"),
        ("structure", NO_JSON, "the reply is no JSON"),
        ("structure", [], "has no 'name'"),
        ("question", NO_JSON, "the reply is no JSON"),
        ("question", {"question": " "}, "question is blank"),
        ("question", {"note": ""}, "note is blank"),
        ("question", {"key": "Step 1"}, "has no 'key'"),
        ("question", {"key": ["Step 1"]}, "'key' is not a list of objects"),
        ("question", {"key": KEY[:1], "orc": ORC[:1]}, "the key has 1 steps, expected 2 to 6"),
        ("question", {"key": [*KEY[:3], KEY[3] | {"action": 7}]}, "not exactly action"),
        ("question", {"key": [*KEY[:3], KEY[3] | {"why": "x"}]}, "not exactly action"),
        ("question", {"key": [KEY[0] | {"objects": ["Buffer"]}, *KEY[1:]]}, "'Buffer' is not lowercase"),
        ("question", {"orc": ORC[:3]}, "<key> has 4 lines and <orc> 3"),
        ("question", {"orc": [*ORC[:2], "Step 3: Spin the tube at high speed for 5 min.", ORC[3]]}, "does not mention '300 xg'"),
        ("question", {"think": "</think>"}, "where"),
        ("question", {"distractors": ["mix"] * 9}, "different actions"),
        ("question", {"distractors": [7]}, "'distractors' is not a list of texts"),
        ("question", {"orc": [line + " carefully" * 40 for line in ORC]}, "against itself: its orc has 46 words a step, more than 30"),
        ("review", {"accuracy": 1}, "has no 'accuracy'"),
        ("review", NO_JSON, "the reply is no JSON"),
    ],
)
def test_a_reply_that_breaks_a_rule_is_repaired_with_the_reason_or_dropped_after_two_repairs(stage, changed, why):
    def wrong(payload, usual, number):
        return {**usual, **changed} if isinstance(changed, dict) else changed

    def once(payload, usual, number):
        return wrong(payload, usual, number) if number == 1 else usual

    repaired = Model(**{stage: once})
    assert built(repaired).record.gold.count("Step 4") == 2
    assert sum(f"Because: {why}" in prompt or why in prompt.partition("Because: ")[2] for prompt in repaired.prompts) == 1
    stubborn = Model(**{stage: wrong})
    with pytest.raises(StageDropped, match=re.escape(why)) as caught:
        built(stubborn)
    assert caught.value.stage == stage and stubborn.stages[stage] == 3


def test_one_objection_drops_a_question_with_its_aspect_and_all_are_counted(tmp_path):
    def objecting(payload, usual, number):
        return usual | {"accuracy": "The text says 10 min."} if "planning" in payload["question"] else usual

    made = environment(tmp_path, serving(Model(review=objecting)))
    kept = tasks(made, "train")
    assert kept and {task.meta["type"] for task in kept} == {"overview"}
    assert made.notes == [f"environments.mine: {len(kept)} dropped at stage review, e.g.: accuracy: The text says 10 min."]


def test_where_a_text_has_a_bench_the_gold_must_work_there_and_the_task_has_the_oracle(tmp_path):
    task = tasks(environment(tmp_path, serving(Model()), bench=BENCH), "train")[0]
    assert task.meta["oracle"] == "protocol_executor" and task.meta["bench"]["allowed"] == sorted(task.meta["actions"])
    orc = [ORC[0], "Step 2: Spin the tube at 300 xg for 5 min.", "Step 3: Mix the tube for 10 s.", ORC[3]]
    swapped = {"key": [KEY[0], KEY[2], KEY[1], KEY[3]], "orc": orc}
    assert built(Model(question=lambda payload, usual, number: usual | swapped)).record  # nobody knows better
    with pytest.raises(StageDropped, match="question: the protocol cannot be carried out: step 2: "):
        built(Model(question=lambda payload, usual, number: usual | swapped), BENCH | {"allowed": []})


@pytest.mark.parametrize(("stage", "why"), [("structure", "the reply is no JSON"), ("question", "no JSON"), ("review", "no JSON")])
def test_an_endpoint_that_answers_rubbish_for_ever_ends_with_the_reason_and_what_to_do(tmp_path, stage, why):
    model = Model(**{stage: lambda payload, usual, number: NO_JSON})
    topics = environment(tmp_path, serving(model), topics=["washing"])
    with pytest.raises(TaskError, match=rf"mine: the last {PATIENCE} questions for split train .* '{stage}: .*{why}.*backend\.model"):
        tasks(topics, "train")
    assert model.stages[stage] == PATIENCE * 3
    with pytest.raises(TaskError, match="the last 2 questions for split eval came to nothing"):
        tasks(environment(tmp_path, serving(model), texts=2, types=("planning", "overview")), "eval")


def test_an_endpoint_that_is_not_there_is_told_from_one_that_is_no_good(tmp_path):
    broken = Scripted({"/v1/models": [(200, {"data": [{"id": "writer"}]})], "/v1/chat/completions": [(500, {"detail": "down"})]})
    with pytest.raises(EngineError, match="down"):
        tasks(environment(tmp_path, broken), "train")


def test_files_of_texts(tmp_path):
    rows = [{"text": " one "}, {"text": "two", "id": 7}, {"text": ""}, "{", {"text": "x" * 99}, {"text": "again", "id": 7}]
    rows += [{"text": "b", "bench": {"line": "wash"}}, {"text": "c", "bench": BENCH | {"goal": "moon"}}]
    (tmp_path / "t.jsonl").write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    found, rejected = read_sources(tmp_path / "t.jsonl", 50)
    assert [source.text for source in found] == ["one", "two"] and found[1].identity == "7"
    assert [one.where.split()[-1] for one in rejected] == ["3", "4", "5", "6", "7", "8"]
    for problem, said in zip(rejected, ("no object with", "not JSON", "99 characters", "occurs before", "bench", "unknown"), strict=True):
        assert said in problem.problem
    folder = tmp_path / "texts"
    folder.mkdir()
    with pytest.raises(TaskError, match=r"texts: no file whose name ends in \.txt"):
        read_sources(folder, 50)
    for name in ("b.txt", "a.md", "c.pdf"):
        (folder / name).write_text(name)
    assert [source.identity for source in read_sources(folder, 50)[0]] == ["a", "b"]


def test_what_a_person_can_get_wrong_is_said_before_anything_is_asked(tmp_path):
    made = environment(tmp_path, serving(Model()), texts=1)
    with pytest.raises(TaskError, match=r"mine\.backend\.path: texts\.jsonl has 1 texts that can be used, expected at least 2"):
        made.check()
    options = made.options
    with pytest.raises(TaskError, match=r"execution\.teacher\.urls is empty"):
        WrittenProtocolsEnvironment("mine", options, 0, tmp_path, 0.1, ScoreOptions(), None).check()
    for wrong, said in (
        ({"backend": {"type": "endpoint"}}, "neither is given"),
        ({"backend": {"type": "endpoint", "path": "a", "topics": ["b"]}}, "both are given"),
        ({"backend": {"type": "endpoint", "path": "a"}, "noise": 0.5}, "noise is 0.5"),
    ):
        with pytest.raises(ValidationError, match=said):
            Protocols(**wrong)


def test_params_lead_to_the_endpoint(tmp_path):
    """As the stage `generate` does it, golds checked by their verifier, demonstrations and plain texts with them."""
    environment(tmp_path, serving(Model()))  # writes the texts
    section = {"type": "protocols", "steps": [2, 6], "backend": {"type": "endpoint", "path": "texts.jsonl"}}
    numbers = {"train": 8, "eval": 2, "ood": 0, "demonstrations": 8, "texts": 4}
    execution = {"teacher": {"urls": [serving(Model()).url]}, "verifier_workers": 1}
    params = Params(environments={"mine": section}, tasks=numbers, execution=execution)
    made = make_tasks(params, tmp_path, params.execution)
    assert Counter(task.split for task in made.tasks) == {"train": 8, "eval": 2}
    assert len(made.demonstrations) == 8 and len(made.texts) == 4
    with pytest.raises(TaskError, match="teacher"):
        generate(params.model_copy(update={"execution": params.execution}), tmp_path)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"bench": BENCH | {"have": {"buffer": 5}}}, "have is no object of texts"),
        ({"bench": BENCH | {"sheet": {"mix": [5]}}}, "sheet is no object of lists"),
        ({"bench": BENCH | {"factor": float("inf")}}, "cannot be stored"), ({"id": "\ud800"}, "half a character"),
    ],
)  # fmt: skip
def test_a_text_whose_bench_cannot_be_used_is_left_out_before_anything_is_asked(tmp_path, more, why):
    rows = [{"text": "Mix it."} | more, {"text": "Add it.", "bench": BENCH}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, rejected = read_sources(tmp_path / "t.jsonl", 50)
    assert [source.text for source in found] == ["Add it."]
    assert len(rejected) == 1 and why in rejected[0].problem
