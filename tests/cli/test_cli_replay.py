"""`assay verify --replay`: with a name, both verdicts can be asked for with SQL; without, what changes is printed."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from assay.cli import main
from assay.cli.replay import _answers
from assay.trajectories import query

HERE = Path(__file__).parents[2]
ROWS = (
    {"prompt": "1/2 + 1/2?", "completion": ["1", "2/2", "two", r"\boxed{1}"], "gold": "1", "verifier": "string_match"},
    {"prompt": "1/3 + 1/3?", "completion": ["2/3", "4/6", r"\boxed{4/6}"], "gold": "2/3", "verifier": "string_match"},
)
BOXED = """
def boxed(completions, answer, **kwargs):
    if "two" in completions[0]:
        raise ValueError("no digits")
    return [float("boxed{" + answer[0] in completions[0])]
"""


@pytest.fixture
def project(tmp_path, capsys):
    """A folder with parameters, a reward function and a judged import, `imported/own`."""
    (tmp_path / "conf").symlink_to(HERE / "conf")
    own = yaml.safe_load((HERE / "params.yaml").read_text())
    own["verification"] = {"functions": {"boxed": {"path": "boxed.py"}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(own))
    (tmp_path / "boxed.py").write_text(BOXED)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert main(["import", str(tmp_path / "rows.jsonl"), "--name", "own", "--root", str(tmp_path)]) == 0
    assert main(["verify", "imported/own", "--root", str(tmp_path)]) == 0
    capsys.readouterr()
    return tmp_path


def replay(project, *arguments: str, what: str = "imported/own") -> int:
    return main(["verify", "--replay", what, "--root", str(project), *arguments])


def said(project, version: str) -> dict[str, tuple[str, str]]:
    """text -> (verdict of the rule, of the replay)."""
    rows = query(
        "SELECT text, o.verdict AS before, n.verdict AS after FROM trajectories JOIN verdicts AS o USING (trajectory_id) "
        "JOIN verdicts AS n USING (trajectory_id) WHERE o.role = 'rule' AND n.role = 'replayed'", project, version=version,
    ).to_pylist()  # fmt: skip
    return {row["text"]: (row["before"], row["after"]) for row in rows}


def test_another_rule_s_verdicts_stand_beside_the_stored_ones(project, capsys):
    assert replay(project, "--rule", "numeric", "--name", "numeric") == 0
    found = said(project, "replay/numeric")
    assert len(found) == 7
    assert found["2/2"] == found["4/6"] == found[r"\boxed{4/6}"] == ("wrong", "correct")
    assert found["1"] == ("correct", "correct") and found["two"] == ("wrong", "wrong")
    lines = capsys.readouterr().out.splitlines()
    assert any("7 trajectories judged again" in line for line in lines)
    assert "       3  rule: wrong (different) by string_match 2  ->  correct (equal) by numeric 2" in lines
    assert lines[-1].startswith("ask with: assay sql --version replay/numeric ")
    (sql,) = re.findall(r'"(SELECT .*)"$', lines[-1])
    assert {(row["verdict"], row["replayed"]) for row in query(sql, project, version="replay/numeric").to_pylist()} == set(found.values())


def test_a_reward_function_of_the_user_judges_stored_trajectories(project, capsys):
    assert replay(project, "--rule", "boxed", "--name", "boxed") == 0
    found = said(project, "replay/boxed")
    assert found[r"\boxed{1}"] == ("correct", "correct") and found["1"] == ("correct", "wrong") and found["two"] == ("wrong", "abstain")
    rows = query("SELECT * FROM verdicts WHERE role = 'replayed' AND verdict = 'abstain'", project, version="replay/boxed").to_pylist()
    why = json.dumps({"error": "ValueError: no digits"})
    assert [(row["verifier"], row["reason"], row["components"]) for row in rows] == [("boxed", "error", why)]
    (project / "boxed.py").write_text(BOXED.replace("no digits", "no number"))
    assert replay(project, "--rule", "boxed", "--name", "other") == 0
    versions = {
        query("SELECT DISTINCT verifier_version AS v FROM verdicts WHERE role = 'replayed'", project, version=name)["v"][0].as_py()
        for name in ("replay/boxed", "replay/other")
    }
    assert len(versions) == 2, "a changed file is another verifier"


def test_the_query_of_the_manual_finds_the_answers_that_are_seen_differently(project):
    assert replay(project, "--rule", "numeric", "--name", "numeric") == 0
    page = (HERE / "docs" / "verifiers.md").read_text(encoding="utf-8")
    (sql,) = [block for block in re.findall(r"```sql\n(.*?)```", page, flags=re.DOTALL) if "'replayed'" in block]
    rows = query(sql, project, version="replay/numeric").to_pylist()
    assert [(row["before"], row["after"], row["answer_format"], row["rows"]) for row in rows] == [("wrong", "correct", "fraction", 3)]
    assert rows[0]["example"] in ("1 vs 2/2", "2/3 vs 4/6")


@pytest.mark.parametrize("what", ["imported/own", "imported/own:0", "folder"])
def test_without_a_name_what_changes_is_printed_and_nothing_kept(project, capsys, what):
    folder = project / "data" / "imported" / "own"
    assert replay(project, "--rule", "numeric", what=str(folder) if what == "folder" else what) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "rule: 0 of 7 verdicts are identical" in lines and "reference: 7 of 7 verdicts are identical" in lines
    assert not (project / "data" / "replays").exists()


def test_mistakes_are_one_sentence_and_leave_nothing(project, capsys):
    mistakes = {
        ("--rule", "guess", "--name", "x"): "--rule guess: expected one of task, string_match, numeric, math_verify, reasoning_gym, sql_",
        ("--rule", "numeric", "--name", "a b"): "the name 'a b' cannot be a folder's",
        ("--rule", "numeric", "--reference", "none", "--name", "x"): "leave --reference out",
        ("--rule", "numeric", "--replace"): "--replace needs --name",
    }
    for arguments, words in mistakes.items():
        assert replay(project, *arguments) == 2
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1
    assert replay(project, "--name", "x", what="nowhere") == 2
    assert 'there is no version "nowhere"' in capsys.readouterr().err
    assert replay(project, "--rule", "numeric", "--name", "x") == 0 and replay(project, "--rule", "numeric", "--name", "x") == 2
    assert "exists already; choose another --name, or say --replace" in capsys.readouterr().err
    assert replay(project, "--rule", "boxed", "--name", "x", "--replace") == 0
    assert said(project, "replay/x")["4/6"] == ("wrong", "wrong")
    assert [path.name for path in (project / "data" / "replays").iterdir()] == ["x"]


def test_critiques_are_no_answers_to_their_task():
    kinds = ["solution", "critique", "evaluation", "evaluation_critique", "continuation"]
    found = _answers(pa.table({"trajectory_id": list("abcde"), "kind": kinds}))
    assert found["trajectory_id"].to_pylist() == ["a", "c", "e"]
