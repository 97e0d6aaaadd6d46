"""Published protocols: what of a file becomes a task, and what is said about the rest."""

import json

import pytest

from assay.environments import TaskError
from assay.environments.protocols.records import SYSTEM, PublishedProtocolsEnvironment, read_records
from assay.params.protocols import ProtocolReward, PublishedProtocols
from assay.rewards.protocol import read_gold, validate

KEY = """Step 1: {"action": "add", "objects": ["buffer"], "parameters": ["5 ml"]}
Step 2: {"action": "mix", "objects": ["tube"], "parameters": []}"""
ORC = "Step 1: Add 5 ml of buffer.\nStep 2: Mix the tube."
QA = {
    "id": "p1", "type": "planning", "level": "problem solving", "question": "How is the tube prepared?",
    "think": "Buffer first.", "key": KEY, "orc": ORC, "note": "Wear gloves.",
    "action": ["mix", "add", "add"], "action_new": ["add", "mix", "burn"],
}  # fmt: skip
GOLD = f"<think>t</think>\n<key>\n{KEY}\n</key>\n<orc>\n{ORC}\n</orc>\n<note>n</note>"


def file_of(folder, rows, name="records.jsonl"):
    path = folder / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def environment(folder, share=0.3, reward=None, **options):
    return PublishedProtocolsEnvironment("published", PublishedProtocols(path="records.jsonl", **options), 0, folder, share, reward)


def test_all_kinds_of_records_are_read(tmp_path):
    rows = [
        QA,
        {"system": "Be brief.", "query": "Prepare it. Only add, mix.", "response": GOLD},
        {"conversations": [{"from": "human", "value": "Prepare the tube."}, {"from": "gpt", "value": GOLD}]},
        {"system": "As asked.", "conversations": [{"from": "human", "value": "Prepare it."}, {"from": "gpt", "value": GOLD}]},
        {"instruction": "Prepare the tube.", "input": "It is cold.", "output": GOLD, "system": ""},
    ]
    records, rejected = read_records(file_of(tmp_path, rows))
    assert rejected == [] and [record.system for record in records] == [None, "Be brief.", None, "As asked.", None]
    assert [record.actions for record in records] == [("add", "burn", "mix"), *[("add", "mix")] * 4]
    assert records[4].question == "Prepare the tube.\nIt is cold."
    assert (records[0].identity, records[0].kind, records[0].level) == ("p1", "planning", "problem solving")
    assert all(validate(record.gold) == [] for record in records)
    assert read_records(file_of(tmp_path, [QA]), distractors=False)[0][0].actions == ("add", "mix")


def test_an_array_and_blocks_as_lists_are_read_too(tmp_path):
    as_objects = QA | {"key": [json.loads(line.split(": ", 1)[1]) for line in KEY.split("\n")], "orc": ORC.split("\n")}
    as_lines = QA | {"id": "p2", "key": KEY.split("\n")}
    path = tmp_path / "records.json"
    path.write_text("\ufeff" + json.dumps([as_objects, as_lines], indent=1), encoding="utf-8")
    records, rejected = read_records(path)
    assert rejected == [] and records[0].gold == records[1].gold and len(read_gold(records[0].gold)) == 2


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{not json", "is not JSON"),
        ("[" * 3000 + "]", "is not JSON"),
        (["a", "list"], "is list"),
        (QA | {"question": " "}, "question is blank"),
        (QA | {"note": None}, "note is missing"),
        (QA | {"think": 3}, "think is no text"),
        (QA | {"key": [1, 2]}, "neither texts nor objects"),
        (QA | {"key": KEY.replace("Step 2", "Step 3")}, "not numbered"),
        (QA | {"key": KEY.replace('"buffer"', '"Buffer"')}, "not lowercase"),
        (QA | {"key": KEY.replace('["buffer"]', '"buffer"')}, "not exactly action"),
        (QA | {"orc": ORC.replace("5 ml", "some")}, "does not mention '5 ml'"),
        (QA | {"orc": ORC + "\nStep 3: Rest."}, "2 lines and <orc> 3"),
        (QA | {"note": "<note>"}, "<note> where"),
        (QA | {"action": [], "action_new": None}, "no list of texts"),
        (QA | {"action": ["add"], "action_new": None}, "uses 'mix'"),
        ({"system": "s", "query": "q", "response": GOLD.replace("</note>", "")}, "</note> is missing"),
        ({"query": "q", "response": GOLD}, "system is missing"),
        ({"conversations": [{"from": "human", "value": "q"}]}, "one turn of human"),
        ({"conversations": "q"}, "one turn of human"),
        (QA, "'p1' occurs before"),
    ],
)
def test_a_record_that_breaks_a_rule_is_left_out_with_its_place_and_reason(tmp_path, row, problem):
    records, rejected = read_records(file_of(tmp_path, [QA, row if isinstance(row, str) else json.dumps(row)]))
    assert len(records) == 1 and len(rejected) == 1
    assert rejected[0].where == "records.jsonl, record 2" and problem in rejected[0].problem


def test_files_without_records_are_errors(tmp_path):
    with pytest.raises(TaskError, match="no records"):
        read_records(file_of(tmp_path, ["", " "]))
    with pytest.raises(TaskError, match="not a JSON array"):
        read_records(file_of(tmp_path, ["[1,"]))
    with pytest.raises(TaskError, match="cannot be read"):
        read_records(tmp_path / "nothing.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(TaskError, match="cannot be read"):
        read_records(tmp_path / "bytes.jsonl")
    file_of(tmp_path, [QA | {"note": ""}])
    with pytest.raises(TaskError, match=r"none of 1 records can be used: records\.jsonl, record 1"):
        environment(tmp_path).check()


def test_records_become_tasks_of_two_splits_and_the_rest_is_noted(tmp_path):
    good = [QA | {"id": f"p{i}", "question": f"How is tube {i} prepared?"} for i in range(40)]
    file_of(tmp_path, [*good, QA | {"id": "bad", "orc": "x"}])
    made = environment(tmp_path)
    made.check()
    assert made.notes and "1 of 41 records are not used: records.jsonl, record 41" in made.notes[0]
    pools = {split: [candidate.task for candidate in made.candidates(split)] for split in ("train", "eval")}
    assert len(pools["train"]) + len(pools["eval"]) == 40 and 4 <= len(pools["eval"]) <= 20 and not made.has("ood")
    assert [task.task_id for task in pools["train"]] == [c.task.task_id for c in environment(tmp_path).candidates("demonstration")]
    task = pools["eval"][0]
    assert task.prompt[0] == {"role": "system", "content": SYSTEM} and task.difficulty == 2.0 and "oracle" not in task.meta
    orders = {tuple(task.meta["actions"]) for pool in pools.values() for task in pool}
    assert len(orders) == 6 and all(set(order) == {"add", "mix", "burn"} for order in orders)
    assert task.prompt[1]["content"].endswith(f"Only these actions may be used: {', '.join(task.meta['actions'])}.")


def test_a_gold_that_would_be_no_correct_answer_to_its_own_question_is_left_out_with_the_reason(tmp_path):
    wordy = QA | {"id": "p2", "orc": ORC.replace("buffer.", f"buffer{' well' * 70}.")}
    file_of(tmp_path, [QA, wordy])
    made = environment(tmp_path, reward=ProtocolReward())
    made.check()
    assert "1 of 2 records are not used: records.jsonl, record 2: the gold earns 1.92 of 2.5 against itself: its orc has" in made.notes[0]
    unlimited = environment(tmp_path, reward=ProtocolReward(length_penalty=False))
    unlimited.check()
    assert unlimited.notes == [] and len(read_records(tmp_path / "records.jsonl")[0]) == 2


def test_records_can_be_read_about_too(tmp_path):
    file_of(tmp_path, [QA])
    made = environment(tmp_path)
    task = next(iter(made.candidates("eval"))).task
    assert made.pretraining_text(task) == "How is the tube prepared? Add 5 ml of buffer. Mix the tube."


def test_one_record_is_enough_for_a_held_out_task(tmp_path):
    file_of(tmp_path, [QA])
    assert len(list(environment(tmp_path, share=0.01).candidates("eval"))) == 1
