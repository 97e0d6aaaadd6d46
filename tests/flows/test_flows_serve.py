"""A schedule that ticks on a real server, a run that is cancelled there, and the words of the two commands."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from flows_toy import Project, end, living, sleeper, wait_until

from flows.run_lock import FILE

pytestmark = [pytest.mark.pipeline, pytest.mark.usefixtures("prefect_server")]
SECONDS = 300.0  # guards against hanging: a tick starts a process, which imports Prefect


@pytest.fixture
def served(project: Project, mark: str) -> Iterator[Project]:
    """The project, whose one stage is slow unless the file `fast` exists, served with a tick every ten seconds."""
    project.stages(f'only: {{cmd: "echo try >> log; test -e fast || {sleeper(mark)}"}}')
    project.params(retries=0, timeout_minutes=60)
    name = ["--root", str(project.root), "--name", name_of(project)]
    with (project.root / ".assay-serve.log").open("w") as log:
        command = [sys.executable, "-m", "flows.serve", "--interval", "10", *name]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield project
    finally:
        (project.root / "fast").touch()
        for left in living(mark):
            left.kill()
        end(process, 60)


def name_of(project: Project) -> str:
    """Of the deployment: one of its own for each test."""
    return project.root.parent.name.replace("_", "-")


def flow_runs(deployment: str) -> list[Any]:
    """All runs of a deployment that were ever due."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    async def read() -> list[Any]:
        async with get_client() as client:
            return await client.read_flow_runs(
                deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[deployment]))
            )

    return [run for run in asyncio.run(read()) if not run.state.is_scheduled()]


def cancel(run: Any) -> None:
    """As a person does in Prefect's interface."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import StateType
    from prefect.states import State

    async def ask() -> None:
        async with get_client() as client:
            await client.set_flow_run_state(run.id, State(type=StateType.CANCELLING))

    asyncio.run(ask())


def test_a_schedule_ticks_overlaps_are_skipped_and_a_cancelled_run_leaves_nothing(served: Project, mark: str) -> None:
    (served.root / "fast").touch()

    def states(name: str) -> list[Any]:
        return [run for run in flow_runs(name_of(served)) if run.state.name == name]

    wait_until(lambda: states("Completed"), SECONDS)
    first = states("Completed")[0]
    assert first.auto_scheduled
    assert first.state.message == "1 stages run, 0 restored from the run cache, 0 unchanged"
    assert served.lines("log")

    (served.root / "fast").unlink()
    wait_until(lambda: living(mark), SECONDS)
    sleepers = living(mark)
    holder = json.loads((served.root / FILE).read_text())["run"]
    wait_until(lambda: any(f"flow run {holder!r}" in run.state.message for run in states("Skipped")), SECONDS)

    cancel(next(run for run in states("Running") if run.name == holder))
    wait_until(lambda: any(run.name == holder for run in states("Cancelled")), SECONDS)
    wait_until(lambda: not any(process.is_running() for process in sleepers))  # the next tick may have started others


def test_serving_without_a_server_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.serve import main

    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert main(["--cron", "0 3 * * *"]) == 2
    assert "start one with `prefect server start`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "schedule", [["--cron", "nonsense"], ["--cron", "0 3 * * *", "--interval", "10"], ["--interval", "0"]]
)
def test_schedules_that_cannot_be_are_refused(schedule: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from flows.serve import main

    with pytest.raises(SystemExit) as ended:
        main(schedule)
    assert ended.value.code == 2
    assert f"{schedule[-2]}" in capsys.readouterr().err
