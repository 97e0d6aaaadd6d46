"""Updates that are stopped, killed or run out of disk: called again, they end as if nothing had happened."""

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from trainer_fixtures import LORA, batch_of, files_of, make_params, make_policy

from assay.training import session
from assay.training.update import UpdateError, update

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return make_policy(tmp_path_factory.mktemp("policy") / "policy")


SIX_STEPS = make_params(training={"steps_per_iteration": 6, "checkpoint_every": 2, "grpo": {"report_to": "none"}})


class Stop(Exception):
    pass


@pytest.mark.parametrize("lora", [None, LORA])
@pytest.mark.parametrize("halfway", [False, True])
def test_interrupted_updates_go_on(policy, tmp_path, lora, halfway):
    """Stopped after the fourth of six steps, checkpoints every second; also with the last checkpoint half written."""
    params = make_params(training={
        "steps_per_iteration": 6, "checkpoint_every": 2, "learning_rate": 5e-3, "lora": lora, "micro_batch_size": 3,
        "grpo": {"report_to": "none"},
    })  # fmt: skip
    batch = batch_of(params)
    whole = update(policy, None, batch, params, out=tmp_path / "whole", scratch=tmp_path / "s")

    def stop(line):
        if line.startswith("optimizer step 5 of 6"):
            raise Stop

    scratch = tmp_path / "t"
    with pytest.raises(Stop):
        update(policy, None, batch, params, out=tmp_path / "next", scratch=scratch, progress=stop)
    checkpoints = sorted(path.name for path in (scratch / "processes-1").glob("checkpoint-*"))
    assert checkpoints == ["checkpoint-2", "checkpoint-4"] and not (tmp_path / "next").exists()
    if halfway:
        (scratch / "processes-1/checkpoint-4/complete").unlink()
        (scratch / "processes-1/checkpoint-4/optimizer.pt").write_bytes(b"")
    lines = []
    resumed = update(policy, None, batch, params, out=tmp_path / "next", scratch=scratch, progress=lines.append)
    assert lines[0].split(":")[0] == f"optimizer step {3 if halfway else 5} of 6"
    assert files_of(tmp_path / "next") == files_of(tmp_path / "whole")
    assert resumed.updates.equals(whole.updates)
    assert resumed.token_statistics.equals(whole.token_statistics)


@pytest.mark.parametrize("limit", [20_000, 100_000])
def test_full_disk(policy, tmp_path, limit):
    """Weights are 70 kB and optimizer states 157 kB: the first limit refuses the weights, the second the optimizer."""
    params = make_params(training={"steps_per_iteration": 4, "checkpoint_every": 3, "grpo": {"report_to": "none"}})
    batch = batch_of(params)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(UpdateError, match="free disk space"):
            update(policy, None, batch, params, out=tmp_path / "next", scratch=tmp_path / "s")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]
    update(policy, None, batch, params, out=tmp_path / "next", scratch=tmp_path / "s")
    update(policy, None, batch, params, out=tmp_path / "whole", scratch=tmp_path / "t")
    assert files_of(tmp_path / "next") == files_of(tmp_path / "whole")


def test_killed_process_goes_on(policy, tmp_path):
    """kill -9 in the middle of a step, then the same call again. The killed process saw that vLLM was not imported."""
    script = tmp_path / "run.py"
    script.write_text(
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from test_trainer_interruption import SIX_STEPS, batch_of, update\n"
        "assert 'vllm' not in sys.modules\n"
        "def progress(line):\n"
        "    if line.startswith('optimizer step 3 of 6'): os.kill(os.getpid(), signal.SIGKILL)\n"
        "policy, out, scratch = map(Path, sys.argv[1:])\n"
        "update(policy, None, batch_of(SIX_STEPS), SIX_STEPS, out=out, scratch=scratch, progress=progress)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parents[1]}:{HERE}", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(script), str(policy), str(tmp_path / "next"), str(tmp_path / "s")]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    lines = []
    options = {"out": tmp_path / "next", "scratch": tmp_path / "s", "progress": lines.append}
    update(policy, None, batch_of(SIX_STEPS), SIX_STEPS, **options)
    assert lines[0].startswith("optimizer step 3 of 6")
    update(policy, None, batch_of(SIX_STEPS), SIX_STEPS, out=tmp_path / "whole", scratch=tmp_path / "t")
    assert files_of(tmp_path / "next") == files_of(tmp_path / "whole")


def stopped(policy, batch, scratch, out):
    """An update that ended in its fifth step, with a checkpoint of the fourth."""

    def stop(line):
        if line.startswith("optimizer step 5 of 6"):
            raise Stop

    with pytest.raises(Stop):
        update(policy, None, batch, SIX_STEPS, out=out, scratch=scratch, progress=stop)


@pytest.mark.parametrize("damage", ["torn", "empty", "missing"])
def test_unreadable_first_pass_means_no_checkpoint(policy, tmp_path, damage):
    """As after a power cut. Going on without it would measure ratios against a policy that has moved."""
    batch = batch_of(SIX_STEPS)
    stopped(policy, batch, tmp_path / "s", tmp_path / "next")
    file = tmp_path / "s/processes-1/first_pass-0.npz"
    whole = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(whole[: len(whole) // 2] if damage == "torn" else b"")
    lines = []
    update(policy, None, batch, SIX_STEPS, out=tmp_path / "next", scratch=tmp_path / "s", progress=lines.append)
    assert "its first pass cannot be read, so the update starts anew" in lines[0]
    assert any(line.startswith("optimizer step 1 of 6") for line in lines)
    update(policy, None, batch, SIX_STEPS, out=tmp_path / "whole", scratch=tmp_path / "t")
    assert files_of(tmp_path / "next") == files_of(tmp_path / "whole")


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, UpdateError), (errno.EDQUOT, UpdateError), (errno.EACCES, PermissionError)])
def test_only_want_of_space_is_called_so(policy, tmp_path, monkeypatch, number, kind):
    params = make_params()

    def fail(*_arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(session, "publish_folder", fail)
    with pytest.raises(kind) as caught:
        update(policy, None, batch_of(params), params, out=tmp_path / "next", scratch=tmp_path / "s")
    assert ("free disk space" in str(caught.value)) == (kind is UpdateError)
    assert not list(tmp_path.glob(".next*"))
