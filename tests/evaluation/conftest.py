"""One synthetic run for the tests that only read it."""

import pytest
from synthetic_run import Shape, make_run

from assay.evaluation import evaluate
from assay.params import Params


@pytest.fixture(scope="session")
def params():
    steps = [{"k": k, "next": k + 1} for k in range(3)]
    return Params.model_validate(
        {"iterations": steps, "environment": "arithmetic", "evaluation": {"sampled_trajectories": 12}}
    )


@pytest.fixture(scope="session")
def record(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"), Shape())


@pytest.fixture(scope="session")
def evaluations(record, params):
    return evaluate(record.tasks, record.trajectories, record.verdicts, params.evaluation)
