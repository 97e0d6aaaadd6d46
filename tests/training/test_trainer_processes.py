"""`accelerate launch` with two CPU processes: rows are divided, the result is that of one process."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_trainer_rehearsal import buffer
from trainer_fixtures import files_of, make_params, make_policy, make_trajectories, make_verdicts, weights_of

from assay.training.assemble import add_rehearsal, assemble_batch
from assay.training.update import update
from assay.trajectories import read_table, write_shard

HERE = Path(__file__).parent

# Several updates in one launch: starting the processes is what costs.
SCRIPT = """
import os
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_trainer_processes import CASES, options, start
from assay.training.update import update
from assay.trajectories import read_table, write_shard
root = Path(sys.argv[2])
assert os.environ["WORLD_SIZE"] == "2"
for name in CASES:
    batch = read_table("batches", root / f"{name}.parquet")
    result = update(*start(root, name), batch, options(name), out=root / f"two-{name}", scratch=root / f"s-{name}")
    if result.main:
        write_shard(root / f"two-{name}-updates.parquet", "updates", result.updates)
        write_shard(root / f"two-{name}-statistics.parquet", "token_statistics", result.token_statistics)
"""

CASES = {"odd": 27, "single": 1, "lora": 12, "second": 19, "second_lora": 9, "methods": 30}
"""Rows: not a multiple of anything; fewer than processes; with an adapter; with the optimizer of the update before; with statistics of
the whole batch."""

BEFORE = {"second": "odd", "second_lora": "lora"}


def start(root, name):
    """(policy, trainer state) that a case begins from."""
    before = root / f"two-{BEFORE.get(name)}"
    return (before / "policy", before / "trainer") if name in BEFORE else (root / "policy", None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def options(name):
    training = {"steps_per_iteration": 1 if name == "single" else 3, "micro_batch_size": 4, "learning_rate": 1e-3}
    lora = {"rank": 3, "alpha": 6} if name.endswith("lora") else None
    if name == "methods":
        training |= {
            "lp_reg": {"kappa": 0.02, "fraction": 0.6, "form": "forward_kl"}, "top_entropy": {"fraction": 0.3}, "loss": {"cap": 10},
            "rehearsal": {"rows_per_step": 3, "generator": "js"},
        }  # fmt: skip
    return make_params(
        presample={"enabled": name == "methods"},
        training={**training, "lora": lora, "entropy_bonus": 0.01, "grpo": {"report_to": "none"}},
    )


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    root = tmp_path_factory.mktemp("processes")
    make_policy(root / "policy")
    for name, rows in CASES.items():
        trajectories = make_trajectories(8, 4, seed=rows)
        verdicts = make_verdicts(trajectories, np.tile([1, 0, 0, 1], 8))
        batch = assemble_batch(trajectories, verdicts, options(name)).slice(0, rows)
        if name == "methods":
            batch = add_rehearsal(batch, buffer(make_policy(root / "reference", seed=4)), options(name))
        write_shard(root / f"{name}.parquet", "batches", batch)
    (root / "run.py").write_text(SCRIPT)
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(free_port()),
        str(root / "run.py"), str(HERE), str(root),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment["ACCELERATE_USE_CPU"] = "true"  # accelerate's own `--cpu` starts one process, whatever number is asked for
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return root


@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_one(launched, tmp_path, name):
    batch = read_table("batches", launched / f"{name}.parquet")
    alone = update(*start(launched, name), batch, options(name), out=tmp_path / "one", scratch=tmp_path / "s")
    for file, tensor in weights_of(tmp_path / "one/policy").items():
        other = weights_of(launched / f"two-{name}/policy")[file]
        assert torch.allclose(tensor, other, atol=2e-5, rtol=0), file
    assert files_of(tmp_path / "one").keys() == files_of(launched / f"two-{name}").keys()

    updates = read_table("updates", launched / f"two-{name}-updates.parquet")
    for column in alone.updates.column_names:
        one, two = alone.updates[column].to_pylist(), updates[column].to_pylist()
        assert one == (two if None in one else pytest.approx(two, abs=1e-5, rel=1e-5)), column
    statistics = read_table("token_statistics", launched / f"two-{name}-statistics.parquet")
    assert statistics["trajectory_id"].to_pylist() == alone.token_statistics["trajectory_id"].to_pylist()
    for column in ("logprobs", "entropies"):
        one, two = (np.concatenate(t[column].to_pylist()) for t in (alone.token_statistics, statistics))
        assert one == pytest.approx(two, abs=1e-5)
    for column in ("kept", "protected", "selected"):
        assert alone.token_statistics[column].to_pylist() == statistics[column].to_pylist()
        assert (alone.token_statistics[column].null_count == 0) == (name == "methods")
