"""A tiny policy, its renderer, and a real engine (plain transformers: started in seconds) for tests of sampling."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
from rollout_setup import make_params, make_tasks, open_tiny
from tiny_policies import save_policy

from assay.engines import load_renderer


@pytest.fixture(scope="session")
def policy(tmp_path_factory):
    return save_policy(tmp_path_factory.mktemp("policies") / "zero", seed=0)


@pytest.fixture(scope="session")
def engine(policy):
    return open_tiny(policy)


@pytest.fixture(scope="session")
def tasks():
    return make_tasks()


@pytest.fixture(scope="session")
def params():
    return make_params()


@pytest.fixture(scope="session")
def renderer(policy, params):
    return load_renderer(policy, params.policy)
