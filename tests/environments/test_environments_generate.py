"""The whole of `generate`: splits share nothing, what is removed is counted, equal parameters give equal tasks."""

import json
import os
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.environments import ORACLES, SPLITS, Task, TaskError, describe, generate, tasks_to_table
from assay.environments.candidates import DROPS
from assay.environments.generate import divide
from assay.params import Params
from assay.trajectories import to_table

ROOT = Path(__file__).parents[2]
RATIONAL = {"type": "rational_arithmetic"}
CHAIN = {
    "type": "reasoning_gym", "generator": "chain_sum", "ood_config": {"min_terms": 3, "max_terms": 3},
    "config": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
}  # fmt: skip


def make(environments, root=ROOT, check_golds=None, base=None, seed=0, **tasks):
    sizes = {"train": 300, "eval": 60, "ood": 40, "demonstrations": 500} | tasks
    return generate(Params(environments=environments, tasks=sizes, policy={"base": base}, seed=seed), root, check_golds)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"type": "dataset", "path": path.name}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """All three types, with one-digit sums, whose few different questions force duplicates and contamination."""
    root = tmp_path_factory.mktemp("mixed")
    own = write(root / "own.jsonl", [{"prompt": f"What is {i} + {i}?", "gold": str(2 * i)} for i in range(200)])
    return make({"rational": RATIONAL | {"share": 3}, "chain": CHAIN, "own": own}, root)


def test_shares_and_splits(mixed):
    assert Counter((t.environment, t.split) for t in mixed.tasks if t.environment != "own") == {
        ("rational", "train"): 180, ("rational", "eval"): 36, ("rational", "ood"): 30,
        ("chain", "train"): 60, ("chain", "eval"): 12, ("chain", "ood"): 10,
    }  # fmt: skip
    own = Counter(t.split for t in mixed.tasks if t.environment == "own")
    assert own["train"] == 60 and own["eval"] == 12 and own["ood"] == 0
    assert [split for split, following in pairwise([t.split for t in mixed.tasks]) if split != following] == [
        "train",
        "eval",
    ]
    # Environments are mixed within a split, so that a prefix of it is a sample of all.
    assert Counter(t.environment for t in mixed.tasks[:100]).keys() == {"rational", "chain", "own"}


def test_no_prompt_is_in_two_splits_or_twice_in_one(mixed):
    keys = {split: [t.contamination_key for t in mixed.tasks if t.split == split] for split in SPLITS}
    for split in SPLITS:
        assert len(set(keys[split])) == len(keys[split])
        for other in SPLITS:
            assert split == other or not set(keys[split]) & set(keys[other])


def test_demonstrations_are_right_and_of_no_held_out_task(mixed):
    held_out = {t.contamination_key for t in mixed.tasks if t.split != "train"}
    assert len(mixed.demonstrations) == sum(c["demonstrations"]["kept"] for c in mixed.counts.values()) > 300
    forms = Counter()
    for row in mixed.demonstrations:
        gold = row["completion"] if row["environment"] != "rational" else None
        task = Task.create(row["environment"], "train", row["prompt"], gold or "?", "string_match")
        assert task.contamination_key not in held_out
        if gold is not None:
            assert task.task_id == row["task_id"]
        else:
            forms["/" in row["completion"], "." in row["completion"]] += 1
    assert len(forms) == 3  # fractions, decimals, integers
    to_table("demonstrations", mixed.demonstrations)
    tasks_to_table(mixed.tasks)


def test_counts_add_up(mixed):
    for name, parts in mixed.counts.items():
        for what, count in parts.items():
            reused = count.get("reused", 0)
            assert count["generated"] == count["kept"] - reused + sum(count[reason] for reason in DROPS), (name, what)
    chain = mixed.counts["chain"]
    assert chain["train"]["duplicates"] > 0
    assert chain["train"]["contamination"] > 0
    assert chain["demonstrations"]["contamination"] > 0
    assert "own  " in describe(mixed.counts)
    assert len(describe(mixed.counts).splitlines()) == 1 + sum(map(len, mixed.counts.values()))


def test_shortfalls_are_told(mixed):
    own = mixed.counts["own"]["demonstrations"]
    assert own["requested"] == 100 and own["kept"] == 100  # further rows, then the training tasks
    assert not any("own: train" in note for note in mixed.notes)
    few = make({"r": RATIONAL | {"max_denominator": 1, "max_value": 6}}, ood=0, eval=10, demonstrations=400)
    count = few.counts["r"]
    assert count["train"]["kept"] == 6 * 6 * 2 - 10
    assert count["demonstrations"] == count["demonstrations"] | {"kept": 62 * 4, "reused": 62 * 4}
    assert few.notes == [
        "environments.r: train: 62 instead of 300, it has no more different tasks",
        "environments.r: demonstrations: 248 instead of 400, it has no more different tasks",
    ]


def test_demonstrations_are_right_and_varied():
    made = make({"r": RATIONAL | {"max_denominator": 4}}, demonstrations=3000)
    canonical = 0
    for row in made.demonstrations:
        left, operation, right = row["prompt"][0]["content"].removesuffix(" = ?").split(" ")
        gold = Fraction(left) + Fraction(right) * (1 if operation == "+" else -1)
        assert ORACLES["rational"](row["completion"], str(gold), {}) is True
        canonical += row["completion"] == str(gold)
    assert 0.65 < canonical / 3000 < 0.95


def test_a_trained_base_model_needs_no_demonstrations():
    assert make({"r": RATIONAL}, base="some/model").demonstrations == []
    assert make({"r": RATIONAL}, demonstrations=0).demonstrations == []


def test_seeds_change_tasks_and_sizes_of_one_split_leave_the_held_out_ones():
    first, again, other = make({"r": RATIONAL}), make({"r": RATIONAL}), make({"r": RATIONAL}, seed=1)
    assert (first.tasks, first.demonstrations, first.counts) == (again.tasks, again.demonstrations, again.counts)
    assert {t.task_id for t in first.tasks} != {t.task_id for t in other.tasks}
    larger = make({"r": RATIONAL}, train=400, demonstrations=0)
    assert [t for t in larger.tasks if t.split == "eval"] == [t for t in first.tasks if t.split == "eval"]
    assert {t.task_id for t in larger.tasks} > {t.task_id for t in first.tasks}


SCRIPT = """
import hashlib, json, sys
from pathlib import Path
from assay.environments import generate
from assay.params import Params
environments = json.loads(sys.argv[1])
sizes = dict(train=200, eval=30, ood=10, demonstrations=300)
made = generate(Params(environments=environments, tasks=sizes), Path(sys.argv[2]))
rows = [[t.to_row() for t in made.tasks], made.demonstrations, made.counts, made.notes]
print(hashlib.sha256(json.dumps(rows).encode()).hexdigest())
"""


def test_output_does_not_depend_on_the_process(tmp_path):
    own = write(
        tmp_path / "own.jsonl", [{"prompt": f"{i}?", "gold": str(i), "b": i, "a": {"z": 1, "y": 2}} for i in range(90)]
    )
    environments = json.dumps({"r": RATIONAL, "own": own})
    children = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SCRIPT, environments, str(tmp_path)], stdout=subprocess.PIPE,
            text=True, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed},
        )
        for seed in ("0", "7")
    ]  # fmt: skip
    digests = [child.communicate()[0].strip() for child in children]
    assert all(child.returncode == 0 for child in children)
    assert len(digests[0]) == 64
    assert digests[0] == digests[1]


def test_contamination_is_taken_out_of_train_and_counted(tmp_path):
    rows = [{"prompt": f"Question {i}", "gold": str(i), "part": "train" if i < 60 else "test"} for i in range(80)]
    leaked = [rows[70] | {"part": "train"}, rows[71] | {"part": "train", "prompt": " question  71"}]
    repeated = [rows[3], rows[4] | {"gold": "other"}]
    own = write(tmp_path / "own.jsonl", rows + leaked + repeated) | {"columns": {"split": "part"}}
    made = make({"own": own}, tmp_path, train=100, eval=100, ood=0)
    count = made.counts["own"]
    assert count["eval"]["kept"] == 20
    assert count["train"] == {
        "requested": 100, "kept": 59, "generated": 64, "duplicates": 1, "contamination": 2, "conflicting_gold": 2, "too_long": 0,
        "gold_empty": 0, "gold_unreadable": 0, "prompt_unreadable": 0,
    }  # fmt: skip
    assert {t.gold for t in made.tasks if t.split == "train"} == {str(i) for i in range(60) if i != 4}
    assert made.counts["own"]["demonstrations"]["contamination"] == 2
    assert not {"70", "71"} & {row["completion"] for row in made.demonstrations}


def test_two_environments_never_share_a_prompt():
    small = RATIONAL | {"max_denominator": 1}
    made = make({"one": small, "two": small}, train=80, eval=40, ood=10, demonstrations=0)
    assert len({t.contamination_key for t in made.tasks}) == len(made.tasks) == 130
    assert made.counts["two"]["eval"]["duplicates"] > 0


def test_golds_that_the_verifier_cannot_read_are_named(tmp_path):
    rows = [{"prompt": f"{i}?", "gold": "many" if i % 40 == 7 else str(i)} for i in range(100)]
    own = write(tmp_path / "own.jsonl", rows)
    with pytest.raises(TaskError) as error:
        make({"own": own}, tmp_path, check_golds=lambda tasks: [None if t.gold.isdigit() else "not a number" for t in tasks])
    text = str(error.value)
    assert text.startswith("3 of 100 golds cannot be read")
    for row in (8, 48, 88):
        assert f"own: own.jsonl, row {row}: gold 'many': not a number" in text


def digits(tasks):
    return [None if task.gold.isdigit() else "not a number" for task in tasks]


def test_bad_rows_are_dropped_and_counted_where_that_is_asked_for(tmp_path):
    rows = [{"prompt": f"{i}?", "gold": "many" if i == 48 else "" if i == 7 else str(i)} for i in range(100)]
    rows[13] |= {"prompt": " "}
    own = write(tmp_path / "own.jsonl", rows) | {"bad_rows": "drop"}
    made = make({"own": own}, tmp_path, check_golds=digits)
    assert sorted(int(task.gold) for task in made.tasks) == [i for i in range(100) if i not in (7, 13, 48)]
    assert not {"many", "?"} & {row["completion"] for row in made.demonstrations}
    split = made.counts["own"]
    found = {reason: split["train"][reason] + split["eval"][reason] for reason in ("gold_empty", "prompt_unreadable", "gold_unreadable")}
    assert found == {"gold_empty": 1, "prompt_unreadable": 1, "gold_unreadable": 1}
    assert split["train"]["kept"] + split["eval"]["kept"] == 97
    assert made.notes[0] == (
        "own.jsonl: 2 of 100 rows are left out (the gold is null or empty: row 8; the prompt is empty or no list of messages: row 14)"
    )
    assert any("own.jsonl, row 49 (not a number)" in note for note in made.notes)


@pytest.mark.parametrize("gold", ["", "many"])
def test_too_many_bad_rows_are_an_error_all_the_same(tmp_path, gold):
    own = write(tmp_path / "own.jsonl", [{"prompt": f"{i}?", "gold": gold if i < 6 else str(i)} for i in range(100)]) | {"bad_rows": "drop"}
    with pytest.raises(TaskError, match=r"6 of 100 rows are bad, more than the 5% that environments\.own\.bad_rows: drop leaves out"):
        make({"own": own}, tmp_path, check_golds=digits)


def test_a_split_of_bad_rows_alone_is_empty(tmp_path):
    rows = [{"prompt": f"{i}?", "gold": "many" if i == 9 else str(i), "part": "eval" if i == 9 else "train"} for i in range(50)]
    own = write(tmp_path / "own.jsonl", rows) | {"bad_rows": "drop", "columns": {"split": "part"}}
    with pytest.raises(TaskError, match=r"split eval is empty: 1 candidates, of which none is left \(1 gold_unreadable\)"):
        make({"own": own}, tmp_path, check_golds=digits)


PARTS = {"type": "dataset", "path": "parts.jsonl", "columns": {"split": "part"}}


@pytest.mark.parametrize(
    ("environments", "tasks", "message"),
    [
        ({}, {}, "environments is empty"),
        ({"r": RATIONAL | {"max_denominator": 1, "max_value": 1}}, {"eval": 5, "ood": 0}, "r: split train is empty"),
        ({"own": {"type": "dataset", "path": "one.jsonl"}}, {}, "environments.own: split train is empty"),
        ({"own": PARTS}, {}, "environments.own: split eval is empty"),
        ({"own": {"type": "dataset", "path": "gone.jsonl"}}, {}, "gone.jsonl: no such file"),
    ],
)
def test_empty_splits_and_missing_sources(tmp_path, environments, tasks, message):
    write(tmp_path / "one.jsonl", [{"prompt": "a", "gold": "b"}])
    write(tmp_path / "parts.jsonl", [{"prompt": "a", "gold": "b", "part": "train"}])
    with pytest.raises(TaskError, match=message):
        make(environments, tmp_path, **tasks)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 5000), st.lists(st.floats(0.01, 100), min_size=1, max_size=6))
def test_division_by_share(total, shares):
    parts = divide(total, {str(i): share for i, share in enumerate(shares)})
    assert sum(parts.values()) == total
    for i, share in enumerate(shares):
        assert abs(parts[str(i)] - total * share / sum(shares)) < 1


def test_progress_is_reported():
    calls = []
    params = Params(environments={"r": RATIONAL}, tasks={"train": 20, "eval": 5, "ood": 5, "demonstrations": 30})
    generate(params, ROOT, progress=lambda what, done, wanted: calls.append((what, done, wanted)))
    assert ("r, train", 20, 20) in calls
    assert ("r, demonstration", 30, 30) in calls
