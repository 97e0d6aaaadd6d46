"""DPH-RL with Lp-Reg and the 80/20 rule through the real DVC, at scale micro: staged, and the same as one fused round."""

import pyarrow.compute as pc
import pytest

from benchmarks.workspace import MICRO, copy_project

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(900)]

FUSED = ("fused/dvc.yaml",)
TRAINING = {"rehearsal": {"rows_per_step": 4}, "lp_reg": {"fraction": 0.3, "kappa": 0.1}, "top_entropy": {"fraction": 0.3}}
RULE = '''"""A rule that a policy which has learned nothing satisfies now and then."""


def parity(completions, **_others):
    """1.0 where the characters' codes add up to no multiple of 3."""
    return [float(sum(map(ord, text)) % 3 != 0) for text in completions]
'''


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    another = copy_project(tmp_path_factory.mktemp("exploration") / "explored", MICRO)  # nothing of a finished one is used
    (another.root / "conf/functions/parity.py").write_text(RULE)
    another.set_params(
        method="dph_js", presample={"samples": 2, "solved": 2}, sampling={"engine": {"type": "transformers"}},
        verification={"rule": "parity", "functions": {"parity": {"path": "conf/functions/parity.py"}}},
        training=TRAINING,
        fused={"rounds": 1},
    )  # fmt: skip
    return another


@pytest.mark.long  # more than a minute; tests/rounds and tests/training have the parts
def test_tasks_are_divided_rehearsed_and_explored(explored):
    another = explored
    ran = another.repro()
    assert ran == [
        "configure", "generate", "pretrain", "warm_start", "presample", "rollout@0", "verify@0", "filter@0", "update@0", "finish",
        "evaluate", "publish",
    ]  # fmt: skip

    splits = {row["task_id"]: row for row in another.table("splits", "data/presample").to_pylist()}
    verdicts = another.table("verdicts", "data/presample")
    accepted = pc.and_(pc.equal(verdicts["role"], "rule"), pc.equal(verdicts["verdict"], "correct"))
    right = set(verdicts.filter(accepted)["trajectory_id"].to_pylist())
    tries: dict[str, list[bool]] = {}
    for row in sorted(another.table("trajectories", "data/presample").to_pylist(), key=lambda row: row["sample_index"]):
        tries.setdefault(row["task_id"], []).append(row["trajectory_id"] in right)
    assert len(splits) == 64 and {len(found) for found in tries.values()} == {3}
    near = {task for task, found in tries.items() if all(found)}
    assert {task for task, row in splits.items() if row["subset"] == "near_perfect"} == near
    assert 0 < len(near) < 64

    sampled = another.table("trajectories", "data/rollout/0")
    solutions = set(sampled.filter(pc.equal(sampled["kind"], "solution"))["task_id"].to_pylist())
    assert solutions <= {task for task, row in splits.items() if row["subset"] == "explore"} and len(solutions) == 16
    batch = another.table("batches", "data/filter/0")
    stored = {row["trajectory_id"]: row for row in another.table("rehearsal", "data/presample").to_pylist()}
    assert {row["task_id"] for row in stored.values()} == near
    rehearsed = batch.filter(batch["rehearsal"]).to_pylist()
    assert len(rehearsed) == 12 and all(row["completion_ids"] == stored[row["trajectory_id"]]["completion_ids"] for row in rehearsed)
    assert all(row["reference_logprobs"] == stored[row["trajectory_id"]]["reference_logprobs"] for row in rehearsed)
    updates = another.table("updates", "data/update/0").to_pylist()
    assert abs(updates[0]["rehearsal_sum"]) < 1e-5 < updates[-1]["rehearsal_sum"]  # policy 0 at first, then another
    assert all(row["rehearsal_rows"] == 4 and 0.1 < row["selected_share"] < 0.6 for row in updates)
    assert sum(row["protected_count"] for row in updates) > 0

    question = "select subset, count(*) as tasks from splits group by all order by all"
    answer = another.run("assay", "sql", "--format", "csv", question).stdout.splitlines()
    assert answer[0] == "subset,tasks" and f"near_perfect,{len(near)}" in answer
    # Policy 0's answers depend on how it is sampled and judged, not on how the next one is trained.
    another.set_params(training={"learning_rate": 1e-3, "rehearsal": {"rows_per_step": 2}})
    assert another.repro("rollout@0") == ["configure"]


@pytest.mark.long
def test_they_are_so_in_a_fused_round_too(explored):
    another = explored
    another.set_params(training=TRAINING)
    another.repro()
    trained = [name.removeprefix("fused/dvc.yaml:") for name in another.repro(*FUSED) if name.startswith("fused/")]
    assert trained[:3] == ["begin", "train@0", "finish"]
    for name, stage in (("trajectories", "rollout"), ("batches", "filter"), ("updates", "update"), ("token_statistics", "update")):
        assert another.table(name, "data/fused/train/0") == another.table(name, f"data/{stage}/0"), name
    staged, fused = (another.root / folder / "1/policy/model.safetensors" for folder in ("models", "models/fused"))
    assert staged.read_bytes() == fused.read_bytes()
