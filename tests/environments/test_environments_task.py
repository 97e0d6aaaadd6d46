"""The task as a value: identity, checks, and the way through the record and back."""

import pytest

from assay.environments import Task, TaskError, tasks_from_table, tasks_to_table
from assay.trajectories import schema


def make(**changes):
    values = {"environment": "mine", "split": "train", "prompt": "1 + 1 = ?", "gold": "2", "verifier": "string_match"}
    return Task.create(**(values | changes))


def test_identity_depends_on_environment_prompt_and_gold_alone():
    task = make()
    assert make(split="eval", verifier="numeric", meta={"a": 1}, difficulty=3.0).task_id == task.task_id
    others = [make(environment="yours"), make(prompt="1 + 1 =?"), make(gold="2.0")]
    assert len({task.task_id, *(other.task_id for other in others)}) == 4
    assert make(prompt=[{"role": "user", "content": "1 + 1 = ?"}]) == task
    assert make(prompt=[{"role": "system", "content": "1 + 1 = ?"}]).task_id != task.task_id


def test_a_task_survives_the_table():
    tasks = [
        make(meta={"oracle": "rational", "nested": {"list": [1, None, "é"]}}, difficulty=2.5),
        make(prompt=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2 = ?"}], gold="4"),
    ]
    table = tasks_to_table(tasks)
    assert table.schema.equals(schema("tasks"))
    assert tasks_from_table(table) == {task.task_id: task for task in tasks}


def test_contamination_ignores_case_and_white_space_only():
    assert make(prompt="What  is\n1 + 1?").contamination_key == make(prompt="what is 1 + 1? ").contamination_key
    assert make(prompt="What is 1 + 1?").contamination_key != make(prompt="What is 1 + 2?").contamination_key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "test"}, "split 'test' is unknown"),
        ({"gold": ""}, "gold is empty"),
        ({"gold": "  "}, "gold is empty"),
        ({"gold": None}, "gold is empty"),
        ({"gold": 5}, "gold is int"),
        ({"prompt": " \n"}, "prompt is empty"),
        ({"prompt": None}, "prompt is missing"),
        ({"prompt": 5}, "prompt is int"),
        ({"prompt": []}, "expected text or a list of messages"),
        ({"prompt": [{"role": "user"}]}, "expected {role: text, content: text}"),
        ({"prompt": ["hello"]}, "expected {role: text, content: text}"),
        ({"prompt": [{"role": "user", "content": " "}]}, "prompt is empty"),
        ({"prompt": [{"role": "user", "content": "a", "tool_calls": ["x"]}]}, "tool_calls, which are not supported"),
        ({"meta": {"a": object()}}, "cannot be stored as JSON"),
        ({"meta": {"a": float("nan")}}, "cannot be stored as JSON"),
    ],
)
def test_what_is_no_task_is_refused(changes, message):
    with pytest.raises(TaskError, match=message):
        make(**changes)


def test_fields_of_a_message_that_are_null_do_not_count():
    """Arrow fills the fields that some messages have and others lack with nulls."""
    assert make(prompt=[{"role": "user", "content": "1 + 1 = ?", "name": None}]) == make()
