"""Critiques that the warm start sees: so many, of right and wrong worked answers, with scores that are true as often as asked for."""

from collections import Counter
from random import Random

import pytest

from assay.environments import Task
from assay.params import Params
from assay.rewards.self_verification import SelfVerificationError, read_score
from assay.rounds.critique_demonstrations import critique_demonstrations, misread
from assay.verifiers import Judge

TASKS = {task.task_id: task for task in (Task.create("sums", "train", f"{n} + 1 = ?", str(n + 1), "numeric") for n in range(400))}
ROWS = [
    {"task_id": name, "environment": "sums", "prompt": list(task.prompt), "completion": task.gold} for name, task in TASKS.items()
]


def again(task, random):
    """Right now and then."""
    return task.gold if random.random() < 0.4 else "0"


def made(**own):
    params = Params.model_validate({"self_verification": own})
    with Judge(params.verification) as judge:
        return critique_demonstrations(ROWS, TASKS, params, judge.verdict, again)


def judged(row):
    """The solution in a critique's prompt."""
    return row["prompt"][0]["content"].split("Solution:\n")[1].splitlines()[0].removeprefix(">").strip()


def test_there_are_as_many_as_asked_for():
    assert made() == [] and made(demonstrations=0.0) == []
    rows = made(demonstrations=0.2)
    assert len(rows) == 100 and len(rows) / (len(rows) + len(ROWS)) == pytest.approx(0.2)
    assert rows == made(demonstrations=0.2)


@pytest.mark.parametrize("accuracy", [0.0, 0.5, 1.0])
def test_scores_are_true_as_often_as_asked_for(accuracy):
    rows = made(demonstrations=0.5, demonstrated_accuracy=accuracy)
    true, said = [], Counter()
    for row in rows:
        prompt = row["prompt"][0]["content"]
        shown = judged(row)
        assert TASKS[row["task_id"]].question in prompt
        score = read_score(row["completion"]).value
        level = 1.0 if shown == TASKS[row["task_id"]].gold else -0.5 if shown else -1.0
        true.append(score == level)
        said[level] += 1
    assert sum(true) / len(true) == pytest.approx(accuracy, abs=0.12 if 0 < accuracy < 1 else 0)
    assert min(said[1.0], said[-0.5]) > len(rows) / 4  # both kinds are shown


def test_without_worked_answers_there_is_nothing_to_judge():
    params = Params.model_validate({"self_verification": {"demonstrations": 0.5}})
    with Judge(params.verification) as judge, pytest.raises(SelfVerificationError, match="no worked answer to judge"):
        critique_demonstrations([], {}, params, judge.verdict, again)


def test_many_wrong_ones_are_near_misses():
    """One digit apart, as a policy's own errors are: the score is to be worked out, not guessed from what is plausible."""
    near = other = 0
    for row in made(demonstrations=0.5, demonstrated_accuracy=1.0):
        gold, shown = TASKS[row["task_id"]].gold, judged(row)
        apart = len(gold) == len(shown) and sum(a != b for a, b in zip(gold, shown, strict=True)) == 1
        near, other = near + apart, other + (not apart and shown not in ("", gold))
    assert near > other > 0


def test_a_misread_text_differs_by_a_digit():
    random = Random(0)
    for text in ("7", "59/1", "so it is 3.5"):
        changed = [misread(text, random) for _ in range(50)]
        assert all(len(one) == len(text) and sum(a != b for a, b in zip(one, text, strict=True)) == 1 for one in changed)
        assert {one for one in changed} > {changed[0]}
    assert misread("none", random) == "none"


def test_the_question_is_worked_out_rightly_where_demonstrations_are_not_always_right():
    rows = [{**row, "completion": "0"} if number % 2 else row for number, row in enumerate(ROWS)]
    own = {"demonstrations": 0.3, "demonstrated_accuracy": 1.0, "demonstrated_working": True}
    params = Params.model_validate({"self_verification": own})
    with Judge(params.verification) as judge:
        found = critique_demonstrations(rows, TASKS, params, judge.verdict, again)
    assert {row["completion"].split(" ")[0] == TASKS[row["task_id"]].gold for row in found} == {True}
    assert {read_score(row["completion"]).value for row in found} == {1.0, -0.5, -1.0}


def test_what_has_no_digit_is_judged_against_answers_to_other_tasks():
    words = [{**row, "completion": "abcdefghij"[number % 10] * 3} for number, row in enumerate(ROWS)]
    params = Params.model_validate({"self_verification": {"demonstrations": 0.5}})
    with Judge(params.verification) as judge:
        found = critique_demonstrations(words, TASKS, params, judge.verdict, again)
    own = {row["task_id"]: row["completion"] for row in words}
    shown = [(own[row["task_id"]], judged(row)) for row in found]
    assert 0.3 < sum(one == text for one, text in shown) / len(shown) < 0.65  # without digits 45 % are their own, and a tenth of 45 %
