"""Tasks made for a model that `policy.base` names: what it could not be shown is no task."""

import json
import re
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from assay.environments import TaskError, tasks_from_table
from assay.params import Params, stage_view
from assay.params.schema import PARTIAL
from assay.rounds import first_policy, further, generate_tasks, make_tasks
from assay.rounds.further import level_pool, own_levels
from assay.trajectories import read_table, schema
from assay.verifiers import verify_trajectories

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


SOURCE = "def score(completions, answer, unit, **kwargs):\n    return [float(completions[0] == answer[0] + unit[0])]\n"


def with_function(tmp_path, **sections) -> Params:
    """A data set with a function of its own, beside another environment."""
    rows = [{"prompt": f"How far is {n}?", "gold": str(n), "unit": " km"} for n in range(40)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Params.model_validate({
        "environments": {
            "own": {"type": "dataset", "path": "own.jsonl", "verifier": "mine"}, "sums": {"type": "rational_arithmetic"},
        },
        "verification": {"functions": {"mine": {"name": "score", "source": SOURCE}}, "reference": "none", "oracle": False},
        "tasks": {"train": 20, "eval": 6, "ood": 0, "demonstrations": 20},
    } | sections)  # fmt: skip


def test_a_dataset_names_a_function_of_the_user_beside_other_environments(tmp_path, monkeypatch):
    params = with_function(tmp_path)
    generate_tasks(params, tmp_path, tmp_path / "tasks", tmp_path / "gates")
    table = read_table("tasks", tmp_path / "tasks/tasks.parquet")
    tasks = tasks_from_table(table)
    assert {task.environment: task.verifier for task in tasks.values()} == {"own": "mine", "sums": "string_match"}
    said = {task_id: task.gold + " km" * (task.environment == "own") for task_id, task in tasks.items()}
    names = ("trajectory_id", "iteration", "round", "task_id", "kind", "policy", "text")
    rows = [dict(zip(names, (task_id, 0, 0, task_id, "solution", "p", text), strict=True)) for task_id, text in said.items()]
    solutions = pa.Table.from_pylist(rows, pa.schema([schema("trajectories").field(name) for name in names]))
    found = verify_trajectories(tasks, solutions, params.verification, 1)
    assert set(zip(found["verifier"].to_pylist(), found["verdict"].to_pylist(), strict=True)) == {
        ("mine", "correct"), ("string_match", "correct"),
    }  # fmt: skip
    assert set(own_levels(solutions, tasks, params, 1)) == {1.0}
    with level_pool(tasks, params, 1) as pool:
        monkeypatch.setattr(further, "level_pool", None)  # an open one is used
        assert own_levels(solutions, tasks, params, 1, pool) == own_levels(solutions, tasks, params, 1, pool) == [1.0] * len(solutions)

    def checked(params, rows, demonstrations, out, scratch, is_correct, **others):
        return {"right": all(is_correct(row, said[row["task_id"]]) for row in rows.to_pylist())}

    monkeypatch.setattr("assay.training.warm_start.warm_start", checked)
    seen = Params.model_validate(stage_view(params, "warm_start"), context=PARTIAL)
    assert first_policy(seen, tmp_path / "tasks", tmp_path / "out", tmp_path) == {"right": True}


def test_counts_name_the_commit_of_a_hub_dataset(tmp_path, monkeypatch):
    params = with_function(tmp_path, environments={"own": {"type": "dataset", "path": "own.jsonl", "verifier": "string_match"}})
    generate_tasks(params, tmp_path, tmp_path / "local", tmp_path / "gates")
    monkeypatch.setattr("assay.environments.dataset_files._commit", lambda loaded: "0" * 40)
    generate_tasks(params, tmp_path, tmp_path / "hub", tmp_path / "gates")
    local, hub = (json.loads((tmp_path / name / "counts.json").read_text())["own"] for name in ("local", "hub"))
    assert hub == local | {"source": {"commit": "0" * 40}}


def test_stages_see_the_functions_that_they_ask(tmp_path):
    def seen(**sections):
        params = with_function(tmp_path, **sections)
        return [stage for stage in ("warm_start", "rollout") if stage_view(params, stage)["verification"]["functions"]]

    base, judging = {"base": "a-model"}, {"share": 0.5, "selection": "stratified"}
    assert seen() == ["warm_start"] and seen(policy=base) == [] and seen(policy=base, self_verification=judging) == ["rollout"]
    assert seen(environments={"sums": {"type": "rational_arithmetic"}}, self_verification=judging) == []


def test_a_verifier_that_a_dataset_cannot_name_is_refused(tmp_path):
    for name in ("reasoning_gym", "other"):
        own = {"own": {"type": "dataset", "path": "own.jsonl", "verifier": name}}
        said = rf"environments\.own\.verifier is '{name}', expected one of string_match, numeric, math_verify, mine"
        with pytest.raises(ValueError, match=said):
            with_function(tmp_path, environments=own)


def test_what_becomes_of_long_prompts_concerns_the_stage_that_makes_tasks_alone():
    views = {stage: stage_view(Params(), stage)["policy"] for stage in ("generate", "pretrain", "warm_start", "rollout", "evaluate")}
    assert [stage for stage, policy in views.items() if "too_long" in policy] == ["generate"]
