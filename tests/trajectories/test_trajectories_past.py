"""Runs that nobody committed: each stays comparable with the next, exactly once, until it is committed or forgotten."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from synthetic_record import write_run

from assay.cli import main
from assay.trajectories import query, rebuild, sync
from assay.trajectories.past_runs import ForgetError, forget
from assay.trajectories.warehouse import WAREHOUSE

PUBLISH = """  publish:
    cmd: {python} -m assay sync
    deps:
      - data/evaluate
"""
"""DVC writes into the lock file that it has run after it has: what it stored is then the same run under another hash."""


def run_again(project, version: int) -> None:
    """Another verifier in the workspace, `dvc repro`, no commit."""
    shutil.rmtree(project.root / "made" / "tolerant")
    write_run(project.root / "made" / "tolerant", 2, verifier_version=str(version))
    settings = {"verification": {"rule": "string_match", "version": version}}
    (project.root / "configured" / "tolerant.json").write_text(json.dumps(settings))
    project.script("dvc repro -q")


def versions(project) -> dict[str, str]:
    return {row["name"]: row["kind"] for row in query("SELECT name, kind FROM versions", project.root).to_pylist()}


def called(project, name: str) -> str | None:
    found = query(f"SELECT version FROM version_names WHERE name = '{name}'", project.root).to_pylist()
    return found[0]["version"] if found else None


def verifier(project, name: str) -> list[str]:
    return query(f"SELECT DISTINCT verifier_version FROM verdicts_at('{name}')", project.root)["verifier_version"].to_pylist()


@pytest.fixture(scope="module")
def finished_runs(finished_project, tmp_path_factory):
    """Three runs over the commit, none of them committed, each synced by its last stage, the second and third once more."""
    root = tmp_path_factory.mktemp("past") / "project"
    shutil.copytree(finished_project.root, root, symlinks=True)
    project = type(finished_project)(root)
    with (root / "dvc.yaml").open("a") as stream:
        stream.write(PUBLISH.format(python=sys.executable))
    for version in (3, 4, 5):
        run_again(project, version)
        if version > 3:
            sync(root)
    return project


@pytest.fixture
def three_runs(finished_runs, tmp_path):
    """A copy that a test may change."""
    root = tmp_path / "project"
    shutil.copytree(finished_runs.root, root, symlinks=True)
    return type(finished_runs)(root)


def test_runs_that_were_never_committed_can_be_compared(three_runs):
    project = three_runs
    assert [verifier(project, name) for name in ("workspace", "workspace~1", "workspace~2")] == [["5"], ["4"], ["3"]]
    assert sorted(versions(project).values()) == ["commit", "commit", "experiment", "past", "past", "workspace"]
    assert verifier(project, called(project, "workspace~1")) == ["4"]
    difference = query("FROM params_difference('workspace~1', 'workspace')", project.root).to_pylist()
    assert difference == [{"key": "verification.version", "first_value": "4", "second_value": "5"}]
    page = (Path(__file__).parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")
    asked = [sql for sql in re.findall(r"```sql\n(.*?)```", page, flags=re.DOTALL) if "workspace~1" in sql]
    assert asked and all(query(sql.replace("WHERE change <> 0", ""), project.root).num_rows > 0 for sql in asked)
    parts = query("SELECT count(*) - count(DISTINCT md5) AS twice FROM parts", project.root).to_pylist()
    assert parts == [{"twice": 0}]


def test_a_run_that_is_committed_or_comes_back_is_there_once(three_runs):
    project = three_runs
    older = called(project, "workspace~2")
    project.commit("five")
    assert sync(project.root).current == called(project, "HEAD")
    assert sorted(versions(project).values()) == ["commit", "commit", "commit", "experiment", "past", "past"]
    # The third run again: the run cache has it, and the workspace is what was past.
    run_again(project, 3)
    sync(project.root)
    assert called(project, "workspace") == "workspace" and older not in versions(project)
    assert [verifier(project, name) for name in ("workspace", "workspace~1")] == [["3"], ["4"]]
    assert called(project, "workspace~2") is None


def test_a_run_that_was_cut_short_is_not_kept(project):
    shutil.rmtree(project.root / "made" / "tolerant")
    write_run(project.root / "made" / "tolerant", 2, verifier_version="2", seed=1)
    project.script("dvc repro -q -s rollout@0")
    assert sync(project.root).stale
    project.script("dvc repro -q")
    report = sync(project.root)
    assert (report.past, set(versions(project).values())) == ([], {"commit", "experiment", "workspace"})


def test_past_runs_are_forgotten_by_name_or_pattern_and_nothing_else_is(three_runs, capsys):
    project = three_runs
    with pytest.raises(ForgetError, match="baseline is no past run of the workspace, and only these can be forgotten: workspace-"):
        forget(project.root, ["workspace~1", "baseline"])
    rows = query("SELECT count(*) AS n FROM store.verdicts", project.root).to_pylist()[0]["n"]
    newer, older = called(project, "workspace~1"), called(project, "workspace~2")
    assert main(["sync", "--root", str(project.root), "--quiet", "--forget", "workspace~1"]) == 0
    assert capsys.readouterr().out == f"forgotten: {newer}\n"
    assert called(project, "workspace~1") == older and newer not in versions(project)
    assert query("SELECT count(*) AS n FROM store.verdicts", project.root).to_pylist()[0]["n"] < rows
    assert forget(project.root, ["workspace-*"]) == [older]
    assert main(["sync", "--root", str(project.root), "--forget", "workspace~1"]) == 2
    assert "there is none" in capsys.readouterr().err
    assert sync(project.root).past == [] and "past" not in versions(project).values()


def test_a_rebuild_takes_past_runs_from_the_cache_and_says_which_are_lost(three_runs):
    project = three_runs
    names = [called(project, f"workspace~{number}") for number in (1, 2)]
    report, lost = rebuild(project.root)
    assert (lost, report.kept) == ([], None)
    assert [verifier(project, name) for name in ("workspace", "workspace~1", "workspace~2", *names)] == [["5"], ["4"], ["3"], ["4"], ["3"]]
    own = f"SELECT md5 FROM version_parts JOIN parts USING (part) WHERE version = '{names[0]}' AND table_name = 'verdicts'"
    for digest in query(own, project.root)["md5"].to_pylist():
        (project.root / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]).unlink()
    report, lost = rebuild(project.root)
    assert lost == [names[0]] and report.kept is not None and report.kept.is_file()
    assert called(project, "workspace~1") == names[1] and (project.root / WAREHOUSE).is_file()
