"""The last stage: the warehouse is brought up to date where it stays."""

import pytest

from stages import publish


@pytest.mark.parametrize(
    ("folder", "synced"),
    [
        (".dvc/tmp/exps/standalone/tmpabc", False),
        (".dvc/tmp/exps/tmpabc/part/of/a/repository", False),
        ("project", True),
        ("exps/tmp/.dvc", True),
    ],
)
def test_an_experiment_in_a_temporary_copy_makes_no_warehouse(tmp_path, monkeypatch, capsys, folder, synced):
    asked = []
    monkeypatch.setattr(publish, "sync", lambda root: asked.append(root) or "done")
    (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / folder)
    publish.main()
    printed = capsys.readouterr().out
    assert len(asked) == synced
    assert printed.count("\n") == 1 and ("`assay sync` in the workspace" in printed) == (not synced)
