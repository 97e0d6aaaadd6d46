"""The benchmark over seeds: what it goes on with, what it starts anew, and what it says at its end."""

import subprocess
import sys

import pytest
import yaml

from assay.trajectories import write_shard
from benchmarks import seeds
from benchmarks.workspace import Workspace

PARAMS = {"seed": 3, "last_policy": 1}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository with code and docs, and copies that are a file each."""
    root = tmp_path / "project"
    for name in ("assay/loss.py", "docs/page.md", "dvc.yaml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("one\n")
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)

    def copy(folder, params):
        folder.mkdir(parents=True)
        (folder / "made").write_text(str(params))
        return Workspace(folder)

    monkeypatch.setattr(seeds, "copy_project", copy)
    monkeypatch.setattr(seeds, "ROOT", root)
    return root


def test_a_copy_of_other_code_is_not_gone_on_with(project, tmp_path, capsys):
    folder = tmp_path / "seed-3"
    assert seeds.workspace_of(folder, PARAMS, project)[1] is False
    (folder / "data").write_text("half a run")
    (project / "docs/page.md").write_text("two\n")
    assert seeds.workspace_of(folder, PARAMS, project)[1] is True and (folder / "data").exists()
    assert capsys.readouterr().out == ""
    for change in (lambda: (project / "assay/loss.py").write_text("two\n"), lambda: (project / "assay/new.py").write_text("")):
        change()
        assert seeds.workspace_of(folder, PARAMS, project)[1] is False and not (folder / "data").exists()
        assert "made by other code or parameters" in capsys.readouterr().out
    assert seeds.workspace_of(folder, {**PARAMS, "seed": 4}, project)[1] is False
    folder.with_name("seed-3.digest").unlink()  # as after a copy that was interrupted
    assert seeds.workspace_of(folder, PARAMS, project)[1] is False


@pytest.mark.parametrize(("low", "code"), [(0.45, 1), (0.6, 0)])
def test_a_seed_without_clear_gain_ends_with_1(project, tmp_path, monkeypatch, capsys, low, code):
    def repro(self, *_command, **_options):
        rows = [
            {"iteration": k, "environment": "all", "split": "eval", "metric": "pass@1", "value": value, "low": a, "high": b, "n": 9}
            for k, value, a, b in ((0, 0.4, 0.3, 0.5), (1, 0.7, low, 0.8))
        ]
        write_shard(self.root / "data/evaluate/evaluations.parquet", "evaluations", rows)

    monkeypatch.setattr(Workspace, "run", repro)
    monkeypatch.setattr(sys, "argv", ["seeds", "--seeds", "3", "--folder", str(tmp_path / "seeds")])
    assert seeds.main() == code
    assert ("NO" if code else "yes") in capsys.readouterr().out
    seeds.main()
    assert "after those of an earlier one" in capsys.readouterr().out
