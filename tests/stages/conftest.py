"""Workspaces for tests of the staged pipeline."""

import shutil

import pytest

from benchmarks.workspace import Workspace, copy_project


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workspace:
    """A micro pipeline that ran from nothing to the end. Tests that change it use `another`, a copy."""
    workspace = copy_project(tmp_path_factory.mktemp("finished"))
    workspace.repro()
    return workspace


@pytest.fixture
def another(finished, tmp_path) -> Workspace:
    """A copy of the finished workspace, outputs and DVC's cache included."""
    target = tmp_path / "another"
    shutil.copytree(finished.root, target, symlinks=True)
    return Workspace(target)
