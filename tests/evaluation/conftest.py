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


@pytest.fixture(scope="session")
def reasoning_record(tmp_path_factory):
    """Of a policy that thinks in steps, judges itself and has a critic."""
    return make_run(tmp_path_factory.mktemp("reasoning"), Shape(reasoning=True))


@pytest.fixture(scope="session")
def reasoning_evaluations(reasoning_record, params):
    return evaluate(reasoning_record.tasks, reasoning_record.trajectories, reasoning_record.verdicts, params.evaluation)
