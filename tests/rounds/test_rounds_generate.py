"""Tasks made for a model that `policy.base` names: what it could not be shown is no task."""

import json
import re
import sys
from pathlib import Path

import pytest

from assay.environments import TaskError
from assay.params import Params, stage_view
from assay.rounds import make_tasks

sys.path.append(str(Path(__file__).parents[1] / "engines"))
from tiny_policies import make_tokenizer

SIZES = {"train": 40, "eval": 10, "ood": 0, "demonstrations": 60}
LIMIT = 60


def write(path: Path, *questions: str) -> dict:
    path.write_text("".join(json.dumps({"prompt": question, "gold": "1"}) + "\n" for question in questions))
    return {"type": "dataset", "path": path.name, "verifier": "string_match"}


@pytest.fixture
def made(tmp_path):
    """What is made of as many questions that fit as questions that do not."""
    make_tokenizer().save_pretrained(tmp_path / "model")
    own = write(tmp_path / "own.jsonl", *(f"{'1' * (LIMIT * (n % 2))} {n}" for n in range(120)))

    def of(environments=None, policy=None, **sizes):
        base = {"base": "model", "fine_tune": True, "max_prompt_tokens": LIMIT} | (policy or {})
        return make_tasks(Params(environments=environments or {"own": own}, tasks=SIZES | sizes, policy=base), tmp_path)

    return of


def test_prompts_that_are_too_long_are_dropped_before_splits_are_filled(made):
    found = made()
    counts = found.counts["own"]
    assert (counts["train"]["kept"], counts["eval"]["kept"]) == (40, 10)
    assert all(len(task.prompt[0]["content"]) < LIMIT for task in found.tasks)
    assert all(len(row["prompt"][0]["content"]) < LIMIT for row in found.demonstrations)
    for what, count in counts.items():
        assert 0 < count["too_long"] < count["generated"]
        assert (
            f"environments.own: {what}: {count['too_long']} of {count['generated']} candidates are dropped, as their prompts are longer "
            f"than policy.max_prompt_tokens ({LIMIT})"
        ) in found.notes


def test_a_dataset_whose_rows_are_nearly_all_too_long_is_read_to_its_end(made, tmp_path):
    rare = write(tmp_path / "rare.jsonl", *(f"{'1' * (LIMIT * (n % 60 > 0))} {n}" for n in range(3000)))
    count = made({"rare": rare}, {"fine_tune": False}, train=100).counts["rare"]
    assert count["train"]["kept"] + count["eval"]["kept"] == 50, "all that fit"
    assert count["train"]["too_long"] > 1000


def test_they_may_be_an_error_that_counts_and_names_them(made):
    with pytest.raises(TaskError) as caught:
        made(policy={"too_long": "error"}, train=100)
    first, *named, last = str(caught.value).split("\n")
    assert re.fullmatch(rf"\d\d of 1\d\d prompts are longer than policy\.max_prompt_tokens \({LIMIT}\), first:", first)
    assert len(named) == 5 and all(line.startswith("  own: own.jsonl, row ") and line.endswith(" tokens") for line in named)
    assert last == "Raise it, remove them, or set policy.too_long to drop"


def test_a_split_is_empty_because_all_are_too_long(made, tmp_path):
    long = write(tmp_path / "long.jsonl", *(f"{'1' * LIMIT} {n}" for n in range(20)))
    with pytest.raises(TaskError, match=r"split eval is empty: the prompts of all its \d+ candidates are longer than .*\(60\): raise it"):
        made({"long": long})


def test_what_becomes_of_long_prompts_concerns_the_stage_that_makes_tasks_alone():
    views = {stage: stage_view(Params(), stage)["policy"] for stage in ("generate", "pretrain", "warm_start", "rollout", "evaluate")}
    assert [stage for stage, policy in views.items() if "too_long" in policy] == ["generate"]
