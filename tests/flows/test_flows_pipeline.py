"""The flow against a real Prefect server: states, retries, time-outs, two at once, artifacts."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flows_toy import ENVIRONMENT, Project, living, sleeper, wait_until

pytestmark = pytest.mark.usefixtures("prefect_server")

WRITE_TABLES = """
from pathlib import Path
from assay.trajectories import write_shard
same = dict(environment="all", split="eval", low=0.3, high=0.6, n=9)
pairs = [(k, metric) for k in (0, 1, 2) for metric in ("pass@1", "pass@8")]
rows = [dict(iteration=k, metric=metric, value=0.4 + k / 10, **same) for k, metric in pairs]
write_shard(Path("data/evaluate/evaluations.parquet"), "evaluations", rows)
Path("data/evaluate/report.html").write_text("<p>report</p>")
"""


@pytest.fixture
def flow(project: Project) -> Callable[..., Any]:
    """The flow on the project, without pauses; returns its final state."""
    from flows.pipeline import pipeline

    def run(**parameters: Any) -> Any:
        defaults = {"root": str(project.root), "sync": False, "wait_seconds": 0, "retry_delay_seconds": 0.1}
        return pipeline(**defaults | parameters, return_state=True)

    return run


def task_runs(state: Any) -> dict[str, Any]:
    """What the server knows of the tasks of the flow run that ended in a state: by name."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    async def read() -> list[Any]:
        async with get_client() as client:
            return await client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
            )

    found: dict[str, Any] = {}

    def all_final() -> bool:  # the server writes them down with a delay
        found.update({run.name: run for run in asyncio.run(read())})
        return bool(found) and all(run.state.is_final() for run in found.values())

    wait_until(all_final)
    return found


def artifacts(state: Any) -> dict[str, Any]:
    """Artifacts of the flow run that ended in a state: by key."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    async def read() -> list[Any]:
        async with get_client() as client:
            chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]))
            return await client.read_artifacts(artifact_filter=chosen)

    return {artifact.key: artifact for artifact in asyncio.run(read())}


def test_states_and_artifacts_say_what_happened(project: Project, flow: Callable[..., Any]) -> None:
    (project.root / "tables.py").write_text(WRITE_TABLES)
    project.stages("""
        generate: {cmd: "mkdir -p data && cp params.yaml data/tasks", deps: [params.yaml], outs: [data/tasks]}
        verify:
          foreach: ${iterations}
          do:
            cmd: mkdir -p data/v && echo ${item.k} > data/v/${item.k}
            deps: [data/tasks]
            outs: ["data/v/${item.k}"]
        evaluate: {cmd: python tables.py, deps: [data/v, tables.py], outs: [data/evaluate]}
    """)
    first = flow()
    assert first.message == "4 stages run, 0 restored from the run cache, 0 unchanged"
    runs = task_runs(first)
    assert {name: run.state.name for name, run in runs.items()} == dict.fromkeys(
        ["generate", "verify@0", "verify@1", "evaluate"], "Completed"
    )
    seen = artifacts(first)
    assert "| 2 | 0.600 (0.300 to 0.600) | 0.600 (0.300 to 0.600) | 9 |" in seen["evaluation"].data
    assert str(project.root / "data/evaluate/report.html") in seen["report"].data
    assert '"stage": "verify@1", "outcome": "run", "seconds": ' in seen["stages"].data
    assert "verifier-noise" not in seen

    again = flow()
    assert {run.state.name for run in task_runs(again).values()} == {"Skipped"}
    assert again.message.endswith("4 unchanged")

    project.params(iterations=3)
    assert flow(targets=["generate"]).message.startswith("1 stages run")
    project.params()
    restored = flow()
    states = {name: run.state.name for name, run in task_runs(restored).items()}
    assert (states["generate"], states["evaluate"]) == ("Cached", "Skipped")


def test_a_fused_iteration_is_followed_round_by_round(project: Project, flow: Callable[..., Any]) -> None:
    (project.root / "fused").mkdir()
    rounds = "; ".join(f"echo round {n} of 3: reward 0.{n}" for n in (1, 2, 3))
    (project.root / "fused/dvc.yaml").write_text(
        f"stages:\n  train:\n    wdir: ..\n    cmd: '{rounds}; mkdir -p data && touch data/done'\n    outs: [data/done]\n"
    )
    project.stages("other: {cmd: 'touch other', outs: [other]}")
    state = flow(targets=["fused/dvc.yaml"])
    assert {name: run.state.name for name, run in task_runs(state).items()} == {"fused/dvc.yaml:train": "Completed"}
    shown = artifacts(state)["rounds"]
    assert (shown.data, shown.description) == (100.0, "round 3 of 3: reward 0.3")
    assert list(task_runs(flow())) == ["other"]


def test_a_stage_that_fails_once_is_retried(project: Project, flow: Callable[..., Any]) -> None:
    project.stages(
        "flaky: {cmd: 'echo try >> log; test $(wc -l < log) -gt 1', outs: []}\nafter: {cmd: echo after >> log}"
    )
    state = flow()
    assert state.is_completed()
    assert project.lines("log") == ["try", "try", "after"]
    assert task_runs(state)["flaky"].run_count == 2


def test_retries_end_and_later_stages_are_not_reached(project: Project, flow: Callable[..., Any]) -> None:
    project.params(retries=2)
    project.stages("""
        bad: {cmd: "echo try >> log; echo out of memory; exit 1", outs: [bad]}
        later: {cmd: "echo later >> log", deps: [bad]}
    """)
    state = flow()
    assert (
        state.is_failed()
        and state.message
        == "bad: exited with 1: Running stage 'bad':\n> echo try >> log; echo out of memory; exit 1\nout of memory"
    )
    assert project.lines("log") == ["try"] * 3
    table = artifacts(state)["stages"].data
    assert '"stage": "later", "outcome": "not reached"' in table and "evaluation" not in artifacts(state)


def test_a_mistake_that_a_person_must_correct_is_not_retried(project: Project, flow: Callable[..., Any]) -> None:
    project.params(retries=3)
    project.stages('gate: {cmd: "echo try >> log; echo error: 3 rows without gold; exit 2"}')
    state = flow()
    assert (state.name, state.message) == ("Refused", "gate: 3 rows without gold")
    assert project.lines("log") == ["try"]


def test_wrong_parameters_are_said_before_anything_runs(project: Project, flow: Callable[..., Any]) -> None:
    project.stages("a: {cmd: echo a >> log}")
    (project.root / "params.yaml").write_text("sampling: {group_sise: 8}\n")
    state = flow()
    assert (state.name, state.message) == (
        "Refused",
        f"{project.root}/params.yaml: unknown parameter sampling.group_sise: did you mean sampling.group_size?",
    )
    assert flow(root=str(project.root / "nowhere")).name == "Refused"
    assert project.lines("log") == []


def test_a_time_out_leaves_no_child_and_is_retried(project: Project, flow: Callable[..., Any], mark: str) -> None:
    project.params(retries=1, timeout_minutes=0.05)
    project.stages(f'slow: {{cmd: "echo try >> log; setsid {sleeper(mark)} & {sleeper(mark)}", outs: [slow]}}')
    state = flow()
    assert state.name == "TimedOut" and "took longer than 3 s" in state.message
    assert project.lines("log") == ["try", "try"]
    assert living(mark) == []


def test_two_at_once_give_a_clear_message_and_one_result(project: Project, flow: Callable[..., Any]) -> None:
    project.stages('only: {cmd: "echo try >> log; until test -e go; do sleep 0.1; done", outs: []}')
    states: list[Any] = []
    first = threading.Thread(target=lambda: states.append(flow()))
    first.start()
    wait_until(lambda: project.lines("log"))
    second = flow()
    (project.root / "go").touch()
    first.join()
    assert (
        second.name == "Busy"
        and f"process {os.getpid()}" in second.message
        and "let it finish or stop it" in second.message
    )
    assert states[0].is_completed() and project.lines("log") == ["try"]


def test_a_plain_dvc_at_work_is_waited_for(project: Project, flow: Callable[..., Any]) -> None:
    project.stages('only: {cmd: "echo try >> log; sleep 3; touch out", outs: [out]}')
    other = subprocess.Popen(["dvc", "repro"], cwd=project.root, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    wait_until(lambda: project.lines("log"))
    state = flow(wait_seconds=60)
    assert other.wait() == 0
    assert {run.state.name for run in task_runs(state).values()} == {"Skipped"}
    assert project.lines("log") == ["try"]


def test_sync_runs_at_the_end_and_its_failure_does_not_fail_the_run(project: Project, flow: Callable[..., Any]) -> None:
    project.stages("a: {cmd: echo a >> log}")
    (project.root / "assay").mkdir()  # stands before the real one, as the command runs in the project's folder
    (project.root / "assay/__init__.py").touch()
    (project.root / "assay/__main__.py").write_text(
        "import sys; open('log', 'a').write(' '.join(sys.argv[1:]) + '\\n'); sys.exit('error: locked')"
    )
    state = flow(sync=True)
    assert state.is_completed() and project.lines("log") == ["a", "sync --strict"]
    sync = next(run for name, run in task_runs(state).items() if name.startswith("sync"))
    assert (sync.state.name, sync.state.message) == ("NotSynced", "`assay sync` exited with 1: locked")


def test_the_command_killed_at_work_leaves_nothing_and_the_next_run_goes_on(project: Project, mark: str) -> None:
    project.stages(f"""
        first: {{cmd: "echo first >> log; touch one", outs: [one]}}
        second: {{cmd: "echo second >> log; test -e go || {sleeper(mark)}; touch two", deps: [one], outs: [two]}}
    """)
    command = [sys.executable, "-m", "flows.pipeline", "--root", str(project.root), "--no-sync"]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_until(lambda: living(mark))
    killed.kill()
    killed.communicate()
    wait_until(lambda: not living(mark))
    (project.root / "go").touch()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "1 stages run, 0 restored from the run cache, 1 unchanged" in done.stdout
    assert project.lines("log") == ["first", "second", "second"]


def test_an_experiment_changes_parameters_beside_the_workspace(project: Project) -> None:
    from flows.experiment import experiment

    project.stages("""
        first: {cmd: "echo one > one", outs: [one]}
        second:
          cmd: cp params.yaml two && echo {} > m.json
          deps: [one, params.yaml]
          outs: [two]
          metrics:
            - m.json:
                cache: false
    """)
    project.run("dvc", "repro", "-q")
    for command in (["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "1"]):
        project.run("git", *command)
    before = (project.root / "params.yaml").read_text()

    state = experiment(
        "other-seed", {"seed": 7, "sampling": {"group_size": 4}}, str(project.root), sync=False, return_state=True
    )
    assert state.is_completed(), state.message
    assert (project.root / "params.yaml").read_text() == before and "seed" not in (project.root / "two").read_text()
    revision = project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps/**/other-seed").strip()
    assert "seed: 7" in project.run("git", "show", f"{revision}:params.yaml")
    assert artifacts(state)["experiment"].data.startswith("other-seed against HEAD")

    again = experiment("other-seed", {"seed": 8}, str(project.root), sync=False, return_state=True)
    assert again.name == "Refused" and "other-seed" in again.message


def test_changes_of_an_experiment_in_the_form_of_dvc() -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from flows.experiment import overrides

    changes = {
        "method": "lp_reg",
        "training": {"learning_rate": 1e-4, "importance": {"mode": "off"}},
        "policy.base": None,
        "tags": ["a, b", 1],
        "iterations": [{"k": 0, "next": 1}],
    }
    assert list(overrides(changes)) == [
        '++method="lp_reg"',
        "++training.learning_rate=0.0001",
        '++training.importance.mode="off"',
        "++policy.base=null",
        '++tags=["a, b", 1]',
        "++iterations=[{k: 0, next: 1}]",
    ]
    flat = {"method": "lp_reg", "training.learning_rate": 1e-4, "training.importance.mode": "off", "policy.base": None}
    parsed = {one.key_or_group: one.value() for one in OverridesParser.create().parse_overrides(list(overrides(changes)))}
    assert parsed == {**flat, "tags": ["a, b", 1], "iterations": [{"k": 0, "next": 1}]}
