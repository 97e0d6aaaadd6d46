"""DVC as the flow sees it, on a real project."""

import os
import signal
import subprocess

import pytest
from flows_toy import ENVIRONMENT, Project, living, sleeper, wait_until

from flows.commands import Busy, FlowError, PersonNeeded, Runner
from flows.dvc_runner import own_words, parse_graph, reproduce, stage_order

CHAIN = """
    last:
      cmd: cat data/middle/* > data/last
      deps: [data/middle]
      outs: [data/last]
    middle:
      foreach: ${iterations}
      do:
        cmd: mkdir -p data/middle && echo ${item.k} > data/middle/${item.k}
        deps: [data/first]
        outs: ["data/middle/${item.k}"]
    first:
      cmd: mkdir -p data && cp params.yaml data/first
      deps: [params.yaml]
      outs: [data/first]
    aside:
      cmd: echo aside
"""


@pytest.fixture
def runner(project: Project):
    with Runner(project.root) as opened:
        yield opened


def test_order_is_that_of_dependencies(project: Project, runner: Runner) -> None:
    project.stages(CHAIN)
    stages = stage_order(runner)
    assert sorted(stages) == ["aside", "first", "last", "middle@0", "middle@1"]
    assert stages.index("first") < stages.index("middle@0") < stages.index("last")
    assert stages.index("first") < stages.index("middle@1") < stages.index("last")
    assert stage_order(runner, ["middle@1"]) == ["first", "middle@1"]


def test_stages_of_another_dvc_yaml_run_only_as_targets(project: Project, runner: Runner) -> None:
    project.stages(CHAIN)
    (project.root / "fused").mkdir()
    (project.root / "fused/dvc.yaml").write_text("stages: {train: {cmd: 'true', deps: [../data/first]}}")
    assert "fused/dvc.yaml:train" not in stage_order(runner)
    assert stage_order(runner, ["fused/dvc.yaml:train"]) == ["first", "fused/dvc.yaml:train"]


def test_unknown_target_and_broken_file_name_what_is_wrong(project: Project, runner: Runner) -> None:
    project.stages(CHAIN)
    with pytest.raises(PersonNeeded, match=r"unknown stage nonsense; dvc\.yaml defines .*first"):
        stage_order(runner, ["nonsense"])
    (project.root / "dvc.yaml").write_text("stages: {a: [}")
    with pytest.raises(PersonNeeded, match=r"dvc\.yaml"):
        stage_order(runner)


def test_outcomes_run_unchanged_cached_forced(project: Project, runner: Runner) -> None:
    project.stages(CHAIN)

    def outcome(force: bool = False) -> str:
        return reproduce(runner, "first", 60, force=force).outcome

    assert [outcome(), outcome()] == ["run", "unchanged"]
    assert outcome(force=True) == "run"
    project.params(iterations=3)
    assert outcome() == "run"
    project.params()
    assert outcome() == "cached"


def test_a_stage_runs_no_other(project: Project, runner: Runner) -> None:
    project.stages("a: {cmd: echo a >> log && echo a > a, outs: [a]}\nb: {cmd: echo b >> log, deps: [a]}")
    with pytest.raises(PersonNeeded, match=r"DVC does not start it.*'a'"):
        reproduce(runner, "b", 60)
    assert project.lines("log") == []


def test_exit_codes_say_who_must_act(project: Project, runner: Runner) -> None:
    project.stages("""
        person: {cmd: "echo working; echo 'error: params.yaml: seed is -1' >&2; echo 'expected 0 or more' >&2; exit 2"}
        crash: {cmd: "echo Traceback; echo 'MemoryError: no'; exit 1"}
        killed: {cmd: "kill -9 $$"}
    """)
    with pytest.raises(PersonNeeded) as person:
        reproduce(runner, "person", 60)
    assert str(person.value) == "params.yaml: seed is -1\nexpected 0 or more"
    for stage, said in (("crash", r"exited with 1: (.|\n)*MemoryError: no"), ("killed", "exited with -9")):
        with pytest.raises(FlowError, match=said) as failed:
            reproduce(runner, stage, 60)
        assert type(failed.value) is FlowError


def test_a_workspace_in_use_is_waited_for_then_named(project: Project, runner: Runner, mark: str) -> None:
    project.stages(f'slow: {{cmd: "{sleeper(mark)}", outs: [slow]}}')
    other = subprocess.Popen(["dvc", "repro"], cwd=project.root, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: living(mark))
        with pytest.raises(Busy, match=rf"process {other.pid} .* works on this workspace"):
            reproduce(runner, "slow", 60, wait=0)
    finally:
        for process in living(mark):
            process.kill()
        other.wait()


def test_locks_of_a_killed_run_do_not_block(project: Project, runner: Runner, mark: str) -> None:
    project.stages(f'slow: {{cmd: "test -e done || {sleeper(mark)}; touch slow", outs: [slow]}}')
    other = subprocess.Popen(["dvc", "repro"], cwd=project.root, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    wait_until(lambda: living(mark))
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    for process in living(mark):
        process.kill()
    (project.root / "done").touch()
    assert reproduce(runner, "slow", 60, wait=0).outcome == "run"


def test_graph_and_last_words() -> None:
    assert parse_graph(["strict digraph {", '"a";', '"b@0";', '"a" -> "b@0";', "}"]) == {"a": set(), "b@0": {"a"}}
    assert own_words(["x", "error: one", "error: two", "more"]) == "two\nmore"
    assert own_words(["ERROR: no such stage"]) == "no such stage"
    assert own_words(["boom", "ERROR: failed to reproduce 'a': failed to run: x, exited with 1"]) == "boom"
    assert own_words([]) == "it printed nothing"
