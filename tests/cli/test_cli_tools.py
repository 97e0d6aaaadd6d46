"""`assay tools`: from published records to tasks and back, other layouts, a look at a file, and what is wrong with it."""

import json
from dataclasses import replace

import pytest

from assay.cli import main
from assay.environments import tasks_to_table
from assay.environments.task import Task
from assay.environments.tools.backends import TemplateBackend
from assay.environments.tools.config import FULL
from assay.environments.tools.construct import construct
from assay.environments.tools.interchange import read, to_record, write
from assay.environments.tools.published import PublishedToolsEnvironment, _why_unsound
from assay.params.tools import Tools
from assay.trajectories import write_shard


@pytest.fixture(scope="module")
def records():
    made = [construct(TemplateBackend(FULL), FULL, FULL.scenarios[place % 4], place) for place in range(6)]
    return [replace(one, split="test") if place % 3 == 0 else one for place, one in enumerate(made)]


@pytest.fixture
def project(tmp_path, records):
    """Where `generate` has made tasks of a published file, and one without tools."""
    write(tmp_path / "bench.parquet", records)
    made = PublishedToolsEnvironment("bench", Tools(path="bench.parquet"), 0, tmp_path, 0.5)
    tasks = [candidate.task for split in ("train", "eval") for candidate in made.candidates(split)]
    plain = Task.create("sums", "train", "1 + 1 = ?", "2", "numeric")
    write_shard(tmp_path / "data" / "tasks" / "tasks.parquet", "tasks", tasks_to_table([plain, *tasks]))
    return tmp_path


def tools(capsys, *arguments, code=0):
    given = main(("tools", *map(str, arguments)))
    out, err = capsys.readouterr()
    assert given == code, err
    assert "Traceback" not in err and err.count("\n") == (1 if code else 0)
    return err or out


def columns(environment):
    """Of its record, nested values as objects, whose keys have no order."""
    nested = ("tools", "codes", "unsolved_set")
    return {name: json.loads(value) if name in nested else value for name, value in to_record(environment).items()}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_records_become_tasks_and_the_same_records_again(project, records, suffix, capsys):
    out = project / f"again{suffix}"
    assert tools(capsys, "export", "--format", "records", "--output", out, "--root", project) == f"{out}: 6 environments\n"
    assert {one.env_id: columns(one) for one in read(out)} == {one.env_id: columns(one) for one in records}
    assert "6 records (test: 2, train: 4)" in tools(capsys, "--root", project, "check", out)


def test_other_layouts_are_json_lines_of_the_tasks_that_are_asked_for(project, records, capsys):
    out = project / "chat.jsonl"
    tools(capsys, "export", "--format", "openai", "--split", "eval", "--out", out, "--root", project)
    chats = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    held_out = {one.question: one for one in records if one.split == "test"}
    assert len(chats) == len(held_out) == 2
    for chat in chats:
        one = held_out[chat["messages"][0]["content"].rpartition("Question: ")[2]]
        assert chat == {"messages": list(one.messages), "tools": list(one.tools)}
    tools(capsys, "export", "--format", "trl", "--environment", "bench", "--output", project / "trl.jsonl", "--root", project)
    rows = [json.loads(line) for line in (project / "trl.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 6 and set(rows[0]) == {"prompt", "tools"}
    by_question = {one.messages[0]["content"]: list(one.tools) for one in records}
    assert {row["prompt"][0]["content"]: json.loads(row["tools"]) for row in rows} == by_question


def test_mistakes_get_one_sentence(project, capsys):
    root, out = ("--root", project), project / "a.jsonl"
    export = ("export", "--format", "openai", "--output")
    assert "is written as JSON lines" in tools(capsys, *export, project / "a.parquet", *root, code=2)
    assert "could not be written" in tools(capsys, *export, project / "none" / "a.jsonl", *root, code=2)
    assert r".jsonl or .parquet" in tools(capsys, "export", "--format", "records", "--output", project / "a.csv", *root, code=2)
    said = tools(capsys, *export, out, *root, "--split", "ood", code=2)
    assert "no task with tools fits --split ood; there are bench/eval, bench/train" in said and not out.exists()
    assert "exists already" in tools(capsys, *export, project / "bench.parquet", *root, code=2)
    assert "run `dvc repro generate`" in tools(capsys, *export, out, "--root", project / "data", code=2)
    plain = Task.create("sums", "train", "1 + 1 = ?", "2", "numeric")
    write_shard(project / "data" / "tasks" / "tasks.parquet", "tasks", tasks_to_table([plain]))
    assert "none of the tasks has tools" in tools(capsys, *export, out, *root, code=2)
    assert "no such file" in tools(capsys, "check", project / "none.jsonl", code=2)
    (project / "none.jsonl").write_text("\n")
    assert "has no records" in tools(capsys, "check", "none.jsonl", *root, code=2)


def test_sources_that_cannot_run_are_named_with_row_and_reason_and_kept(tmp_path, records, capsys):
    name = records[1].calls[0].tool
    sources = [f"def {name}(:\n", "def other():\n    return 1\n", f"{name} = lambda **given: 'no record'\n", "(" * 5000]
    broken = [replace(records[1], codes=records[1].codes | {name: source}) for source in sources]
    write(tmp_path / "bench.jsonl", [records[0], *broken])
    said = tools(capsys, "check", "bench.jsonl", "--root", tmp_path)
    warnings = [line for line in said.splitlines() if line.startswith("warning: ")]
    place = f"warning: {tmp_path / 'bench.jsonl'}, line {{}}, codes: the source of {name} "
    assert [line.startswith(place.format(row)) for line, row in zip(warnings, (2, 3, 5), strict=True)] == [True] * 3
    assert "does not compile (SyntaxError: " in warnings[0] and "defines no function of its name" in warnings[1]
    made = PublishedToolsEnvironment("bench", Tools(path="bench.jsonl"), 0, tmp_path, 0.5)
    assert sum(1 for split in ("train", "eval") for _ in made.candidates(split)) == 5
    assert len(made.notes) == 3 and f"bench.jsonl, line 2, codes: the source of {name} does not compile" in made.notes[0]


@pytest.mark.parametrize(
    ("name", "source", "sound"),
    [
        ("date", "from datetime import date", True),
        ("f", "if True:\n    def f(x):\n        return x", True),
        ("f", "def g():\n    f = 1\n    return f", False),
    ],
)
def test_a_source_is_sound_where_running_it_binds_the_name(name, source, sound):
    assert (_why_unsound(name, source) is None) == sound
