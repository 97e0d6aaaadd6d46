"""The staged pipeline through the real DVC, at scale micro: what runs, what does not run again, what a person sees."""

import shutil
import socket

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.workspace import fingerprints

pytestmark = [pytest.mark.pipeline, pytest.mark.engine, pytest.mark.timeout(900)]


def test_every_stage_wrote_its_tables(finished):
    rows = {
        "tasks": ["data/tasks"],
        "trajectories": ["data/rollout/0", "data/finish"],
        "verdicts": ["data/verify/0", "data/finish"],
        "batches": ["data/filter/0"],
        "updates": ["data/update/0"],
        "token_statistics": ["data/update/0"],
    }
    tables = {name: finished.table(name, *parts) for name, parts in rows.items()}
    assert all(len(table) for table in tables.values())
    solutions = 16 * 4
    evaluation = (16 + 8) * 4
    assert len(tables["trajectories"]) == solutions + 2 * evaluation
    assert len(tables["batches"]) == solutions
    assert len(tables["updates"]) == 3
    assert len(tables["token_statistics"]) == sum(tables["batches"].column("kept").to_pylist())
    assert (finished.root / "data/evaluate/report.html").stat().st_size > 10_000
    assert (finished.root / "models/1/policy/model.safetensors").is_file()


def test_a_second_repro_runs_nothing(finished):
    assert finished.repro() == []


def test_outputs_name_no_absolute_path(finished):
    """Equal inputs must give equal hashes wherever the project lies."""
    needle = str(finished.root).encode()
    assert [name for name in fingerprints(finished) if needle in (finished.root / name).read_bytes()] == []


@pytest.mark.long  # the next one is the same for the code of a verifier
def test_a_verifier_parameter_runs_no_rollout_of_iteration_0_again(another):
    another.set_params(verification={"max_answer_characters": 2048})
    ran = another.repro("filter@0")
    assert "verify@0" in ran and "filter@0" in ran and "rollout@0" not in ran and "warm_start" not in ran


def test_a_corrected_verifier_judges_stored_rollouts_again(another):
    with (another.root / "assay/verifiers/numeric.py").open("a") as file:
        file.write("# corrected\n")
    assert another.repro("verify@0") == ["configure", "presample", "verify@0"]


@pytest.mark.long  # more than a minute
def test_one_more_iteration_runs_only_what_is_new(another):
    another.set_params(iterations=[{"k": 0, "next": 1}, {"k": 1, "next": 2}], last_policy=2)
    ran = another.repro()
    assert ran == ["configure", "rollout@1", "verify@1", "filter@1", "update@1", "finish", "evaluate", "publish"]
    steps = another.table("updates", "data/update").column("global_step").to_pylist()
    assert sorted(steps) == list(range(min(steps), min(steps) + 6))


def test_a_remote_brings_the_run_back_without_running_anything(another, tmp_path):
    remote, clone = tmp_path / "remote", tmp_path / "clone"
    another.run("dvc", "remote", "add", "-d", "store", str(remote))
    another.run("dvc", "push", "-q")
    another.commit("a run")
    question = "select iteration, metric, value from evaluations order by all"
    before = another.run("assay", "sql", "--format", "csv", question).stdout
    another.run("git", "clone", "-q", str(another.root), str(clone))
    fresh = type(another)(clone)
    fresh.run("dvc", "pull", "-q", "--allow-missing")  # the fused pipeline has never run
    assert fresh.run("assay", "sql", "--format", "csv", question).stdout == before
    assert fresh.repro() == []
    assert (clone / "data/evaluate/report.html").read_bytes() == (another.root / "data/evaluate/report.html").read_bytes()
    shutil.rmtree(clone)


@pytest.mark.long  # tests/training/test_trainer_processes.py compares the updates themselves
def test_an_update_in_several_processes_is_that_of_one(another, finished, monkeypatch):
    """As a person with several GPUs has it: nothing but a parameter, the stage's command stays the same."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launch = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    another.set_params(execution={"accelerate_launch": [*launch, "--main_process_port", str(port)], "threads": 1})
    shutil.rmtree(another.root / "models/1")
    shutil.rmtree(another.root / "data/update/0")
    done = another.run("python", "-m", "stages.update", "0")
    assert done.stdout.count("optimizer step 3 of 3") == 1
    one, two = (load_file(workspace.root / "models/1/policy/model.safetensors") for workspace in (finished, another))
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    assert [len(another.table(name, "data/update/0")) for name in ("updates", "token_statistics")] == [3, 64]
    assert not (another.root / ".assay/scratch/update-0").exists() or not list((another.root / ".assay/scratch/update-0").iterdir())


def test_a_mistake_in_params_stops_before_any_work(another):
    another.set_params(last_policy=7)
    done = another.run("dvc", "repro", "configure", check=False)
    assert done.returncode != 0
    assert "last_policy is 7, expected 1" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout
