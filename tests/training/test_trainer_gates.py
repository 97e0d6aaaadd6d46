"""Gates over a batch in which some groups have equal rewards."""

import pytest
from trainer_fixtures import make_params, make_trajectories, make_verdicts

from assay.environments import Task
from assay.rounds.assemble import assemble
from assay.trajectories import to_table


def gated(folder, rewards, **options):
    trajectories = make_trajectories(4, 4)
    tasks = to_table("tasks", [Task.create("e", "train", f"{n}?", "1", "numeric").to_row() | {"task_id": f"task-{n}"} for n in range(4)])
    estimates = to_table("noise_estimates", [])
    verdicts = to_table("verdicts", [row | {"score": row["observed_reward"]} for row in make_verdicts(trajectories, rewards).to_pylist()])
    params = make_params(filter={"denominator": options.pop("denominator", "kept"), **options.pop("filter", {})})
    return assemble(tasks, trajectories, verdicts, estimates, params, policy=folder, reference=folder, gates=folder / "gates", **options)


@pytest.mark.parametrize("denominator", ["kept", "all"])
@pytest.mark.parametrize("fused", [False, True])
def test_a_step_without_informative_groups_is_left_out_and_ends_nothing(tmp_path, denominator, fused):
    batch = gated(tmp_path, [1, 0, 0, 1] + [1] * 8 + [0] * 4, denominator=denominator, may_be_solved=fused)
    assert [row["kept"] for row in batch.to_pylist()] == [True] * 4 + [False] * 12
    assert set(batch["step"].drop_null().to_pylist()) == {0}


