"""One policy folder, and one vLLM engine, for all tests of the engines: starting vLLM takes tens of seconds."""

import random

import pytest
from tiny_policies import save_policy

from assay.engines import Request, open_engine
from assay.params.execution import ExecutionParams
from assay.params.sampling import VllmEngine

STOP = (2,)


@pytest.fixture(scope="session")
def policy(tmp_path_factory):
    return save_policy(tmp_path_factory.mktemp("policies") / "zero", seed=0)


@pytest.fixture(scope="session")
def other_policy(tmp_path_factory):
    return save_policy(tmp_path_factory.mktemp("policies") / "one", seed=1)


@pytest.fixture(scope="session")
def requests_mixed():
    """Prompts of many lengths, greedy and sampled, with and without top_p."""
    generator = random.Random(0)
    return [
        Request(
            prompt_ids=tuple(generator.randrange(3, 80) for _ in range(generator.randrange(3, 40))),
            seed=1000 + index,
            temperature=(1.0, 0.7, 1.3, 0.0)[index % 4],
            top_p=(1.0, 1.0, 0.8)[index % 3],
            max_tokens=generator.randrange(1, 25),
        )
        for index in range(96)
    ]


@pytest.fixture(scope="session")
def vllm_engine(policy):
    engine = open_engine(
        VllmEngine(),
        policy,
        stop_ids=STOP,
        dtype="float32",
        max_model_tokens=80,
        execution=ExecutionParams(vllm_memory_gib=0.05),
    )
    yield engine
    engine.close()
