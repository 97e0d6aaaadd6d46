"""How the tests are shared out where two processes run them (`make test`; plain `pytest` runs all in one)."""

from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("no stopwatch", deadline=None)  # a busy machine is no defect
settings.load_profile("no stopwatch")
ENGINES = (
    "tests/engines/", "tests/rollouts/test_rollouts_episodes_vllm.py", "tests/stages/test_pipeline_fused.py",
    "tests/stages/test_pipeline_kill.py", "tests/stages/test_pipeline_staged.py", "tests/verifiers/test_verifiers_judges_served.py",
)  # fmt: skip
"""Where vLLM is started, or the workspace of those is used: one group, so that there are never two engines at once."""
TOGETHER = ("tests/flows/", "tests/stages/test_pipeline_exploration.py", "tests/trajectories/")
"""Rooms whose files share a server or a project that takes seconds to make, and a file that takes a minute. Every other file is a
group of its own."""


def group_of(nodeid: str) -> str:
    """Tests of one group run one after the other, in one process."""
    if nodeid.startswith(ENGINES):
        return "engines"
    return next((room for room in TOGETHER if nodeid.startswith(room)), nodeid.split("::")[0])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The groups that take minutes come first, or one process would wait for the other at the end."""
    if hasattr(config, "workerinput"):
        strangers = [item.nodeid for item in items if item.get_closest_marker("engine") and group_of(item.nodeid) != "engines"]
        if strangers:
            raise pytest.UsageError(f"{strangers[0]} starts vLLM: add its file to ENGINES in tests/conftest.py")
        order = ("engines", *TOGETHER)
        items.sort(key=lambda item: order.index(group) if (group := group_of(item.nodeid)) in order else len(order))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Groups as above: `--dist loadgroup` of pytest-xdist 3.8 does nothing under pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Groups(config, log)
