"""Workspaces for tests of the staged pipeline."""

import shutil

import pytest

from benchmarks.workspace import MICRO, Workspace, copy_project

PARAMS = MICRO | {"sampling": {"engine": {"type": "transformers"}}}
"""Plain transformers start in a third of the time of vLLM, which test_pipeline_fused.py runs."""


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workspace:
    """A micro pipeline that ran from nothing to the end. Tests that change it use `another`, a copy."""
    workspace = copy_project(tmp_path_factory.mktemp("finished"), PARAMS)
    workspace.repro()
    return workspace


@pytest.fixture
def another(finished, tmp_path) -> Workspace:
    """A copy of the finished workspace, outputs and DVC's cache included."""
    target = tmp_path / "another"
    shutil.copytree(finished.root, target, symlinks=True)
    return Workspace(target)
