"""Overthinking at evaluation: what re-checks of held-out answers do, by the oracle, and what the report says of it."""

import pytest
from hand_made import sample_tables, values

from assay.environments import Task, tasks_to_table
from assay.environments.chain_arithmetic.chains import Chain
from assay.evaluation import evaluate
from assay.evaluation.figures_self_verification import OVERTHINKING, metric_grid
from assay.evaluation.metrics import Lookup
from assay.evaluation.overthinking import prompts_open
from assay.params.sampling import EvaluationParams

CHAIN = Chain(7, (("+", 6),), 10)
TASK = Task.create("chain", "eval", CHAIN.question(), "3", "numeric", CHAIN.meta())
OTHER = Task.create("sums", "eval", "7 + 6", "13", "numeric")
OPTIONS = EvaluationParams(samples=2, pass_at=(1,))
TEXT = "<think>7 + 6 = 4. wait 7 + 6 = 3. but 7 + 6 = 3. hmm 7 + 6 = 9. </think>9"


def evaluated(text, tasks=(TASK,), **options):
    samples = [(0, task.task_id, {"rule": "-"}) for task in tasks for _ in range(2)]
    return evaluate(tasks_to_table(tasks), *sample_tables(samples, text=text), OPTIONS, **options)


def test_what_re_checks_do_is_a_metric_of_chains_alone():
    table = evaluated(TEXT, (TASK, OTHER))
    for environment in ("all", "chain"):
        found = {name: value for name, (value, _) in values(table, environment=environment).items()}
        names = ("overthinking_rate", "rechecks", "rechecks_helpful", "rechecks_harmful", "think_block_share")
        assert [found[name] for name in names] == pytest.approx([2 / 3, 3, 1, 1, 1])
    assert "rechecks" not in values(table, environment="sums")
    grid = metric_grid(Lookup(table), "eval", OVERTHINKING)
    assert grid is not None and [cell.split()[0] for cell in grid.rows[0]] == ["0", "0.667", "3.000", "1.000", "1.000", "1.000"]
    assert metric_grid(Lookup(evaluated("4", (OTHER,))), "eval", OVERTHINKING) is None


def test_answers_without_re_checks_have_no_rate_and_prompts_may_open_the_thinking():
    assert values(evaluated("<think>7 + 6 = 3. </think>3"), environment="all")["overthinking_rate"] == (None, 0)
    begun = TEXT.removeprefix("<think>")
    assert values(evaluated(begun), environment="all")["rechecks"][0] == 0
    assert values(evaluated(begun, opened_by_prompt=True), environment="all")["rechecks"][0] == 3


class Template:
    def __init__(self, end):
        self.end = end

    def text(self, ids):
        return ""

    def rendered(self, messages):
        return f"{messages[-1]['content']}{self.end}"


@pytest.mark.parametrize(("end", "opened"), [("<think>\n", True), ("", False)])
def test_the_template_says_whether_prompts_open_the_thinking(end, opened):
    assert prompts_open(tasks_to_table([OTHER, TASK]), Template(end)) is opened
    assert prompts_open(tasks_to_table([OTHER]), Template("<think>")) is False
