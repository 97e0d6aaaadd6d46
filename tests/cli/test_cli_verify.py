"""`assay verify`: imported rollouts get the verdicts that the pipeline would give them."""

import json
from pathlib import Path

import pytest

from assay.cli import main
from assay.cli.verify import SHARD
from assay.environments import Task
from assay.params import load_params
from assay.trajectories import query, read_table
from assay.trajectories.warehouse import WAREHOUSE
from assay.verifiers import verify_trajectories

HERE = Path(__file__).parents[2]
ROWS = (
    {"prompt": "1/2 + 1/2?", "completion": ["1", "2/2", "two"], "gold": "1", "reward": [1, 0, None]},
    {"prompt": "1/3 + 1/3?", "completion": ["2/3", "4/6"], "gold": "2/3", "reward": [1, 1], "meta": {"oracle": "rational"},
     "verifier": "string_match"},
)  # fmt: skip


@pytest.fixture
def project(tmp_path):
    """A folder with parameters and one import, `imported/own`."""
    for name in ("params.yaml", "conf"):
        (tmp_path / name).symlink_to(HERE / name)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert main(["import", str(tmp_path / "rows.jsonl"), "--name", "own", "--root", str(tmp_path)]) == 0
    return tmp_path


def verify(project, *arguments: str, version: str = "imported/own") -> int:
    return main(["verify", version, "--root", str(project), *arguments])


def test_verdicts_are_those_of_the_pipeline_and_can_be_queried(project, capsys):
    assert verify(project) == 0
    folder = project / "data" / "imported" / "own"
    tasks = {row["task_id"]: Task.from_row(row) for row in read_table("tasks", folder).to_pylist()}
    wanted = verify_trajectories(tasks, read_table("trajectories", folder), load_params(project).verification, 1)
    assert read_table("verdicts", folder / SHARD).to_pylist() == wanted.to_pylist()
    found = query("SELECT role, count(*) AS n FROM verdicts GROUP BY ALL", project, version="imported/own").to_pylist()
    assert {row["role"]: row["n"] for row in found} == {"imported": 4, "rule": 5, "reference": 5, "oracle": 5}
    # The rule of the first task is math_verify, which reads 2/2; of the second string_match, which wants the gold's digits.
    rule = "SELECT text, verdict FROM trajectories JOIN verdicts USING (trajectory_id) WHERE role = 'rule' ORDER BY text"
    verdicts = {row["text"]: row["verdict"] for row in query(rule, project, version="imported/own").to_pylist()}
    assert (verdicts["2/2"], verdicts["2/3"], verdicts["4/6"]) == ("correct", "correct", "wrong")
    out = capsys.readouterr().out
    assert "agreement with the file's own rewards: rule 2 of 4 (50.0%); right by the file alone 1, by the rule alone 1" in out
    assert "agreement with the file's own rewards: oracle 2 of 2 (100.0%)" in out and "not decided by the oracle 2" in out
    assert "false-negative rate of string_match against oracle" in out


def test_judging_again_replaces_the_verdicts(project, capsys):
    assert verify(project) == 0
    first = (project / "data" / "imported" / "own" / SHARD).read_bytes()
    assert verify(project, "--rule", "numeric", "--reference", "none") == 0
    ask = "SELECT role, verifier, count(*) AS n FROM verdicts WHERE role <> 'imported' GROUP BY ALL ORDER BY role DESC, n"
    found = query(ask, project, version="imported/own").to_pylist()
    assert [(row["role"], row["verifier"]) for row in found] == [
        ("rule", "numeric"), ("oracle", "oracle:rational"), ("oracle", "none"),
    ]  # fmt: skip
    params = json.loads(query("SELECT params FROM versions", project)["params"][0].as_py())
    assert (params["verification"]["rule"], params["verification"]["reference"], params["file"]) == ("numeric", "none", "rows.jsonl")
    # The same parameters, the same bytes.
    assert verify(project) == 0
    assert (project / "data" / "imported" / "own" / SHARD).read_bytes() == first
    assert not list(project.rglob("*.partial"))


def test_rollouts_without_rewards(project, capsys):
    (project / "bare.jsonl").write_text(json.dumps({"prompt": "2 + 2?", "completion": "4", "gold": "4"}) + "\n")
    assert main(["import", str(project / "bare.jsonl"), "--name", "bare", "--root", str(project)]) == 0
    assert verify(project, version="imported/bare") == 0
    assert "agreement with the file's own rewards: the file has none" in capsys.readouterr().out


def test_mistakes_are_one_sentence(project, capsys):
    assert verify(project, version="imported/other") == 2
    assert "imported/other is no import (imports: imported/own)" in capsys.readouterr().err
    assert verify(project, version="own") == 2
    assert verify(project, "--rule", "reasoning_gym") == 2
    err = capsys.readouterr().err
    assert "verification.rule is reasoning_gym, which reads generator, config, entry_metadata" in err and "Traceback" not in err
    assert verify(project, "--rule", "guess") == 2
    assert "--rule guess: expected one of task, string_match, numeric, math_verify, reasoning_gym, sql" in capsys.readouterr().err
    assert verify(project, "--name", "x") == 2
    assert "--name and --replace are for --replay" in capsys.readouterr().err
    assert not (project / "data" / "imported" / "own" / SHARD).exists()
    (project / "params.yaml").unlink()
    assert verify(project) == 2
    assert "params.yaml: no such file" in capsys.readouterr().err


def test_the_warehouse_can_be_left_as_it_is(project):
    before = (project / WAREHOUSE).read_bytes()
    assert main(["import", str(project / "rows.jsonl"), "--name", "more", "--no-sync", "--root", str(project)]) == 0
    assert verify(project, "--no-sync") == 0
    assert main(["verify", "--replay", "imported/own", "--no-sync", "--root", str(project)]) == 0
    assert (project / WAREHOUSE).read_bytes() == before
    names = query("SELECT name FROM versions", project)["name"].to_pylist()
    assert names == ["imported/own"]
