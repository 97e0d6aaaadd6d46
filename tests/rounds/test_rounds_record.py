"""What is read of a run for its report."""

from assay.rounds.record import read_record
from assay.trajectories import schema, to_table, write_shard

SAMPLING = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 9, "seed": 0, "engine": "e", "engine_version": "0"}


def trajectory(name, kind):
    return dict.fromkeys(schema("trajectories").names) | {
        "trajectory_id": name, "iteration": 0, "round": 0, "policy": "0", "task_id": "t", "group_id": "g", "sample_index": 0, "kind": kind,
        "prompt_ids": [1], "completion_ids": [2, 3], "loss_mask": [True, True], "sampled_logprobs": [-1.0, -2.0],
        "finish_reason": "stop", "text": "2", "sampling": SAMPLING,
    }  # fmt: skip


def test_tokens_that_no_section_looks_at_are_left_out(tmp_path):
    def record(*kinds):
        for folder, own in (("rollout/0", kinds), ("finish", ("evaluation",))):
            rows = [trajectory(f"{folder}-{n}", kind) for n, kind in enumerate(own)]
            write_shard(tmp_path / folder / "trajectories.parquet", "trajectories", to_table("trajectories", rows))
        write_shard(tmp_path / "tasks.parquet", "tasks", to_table("tasks", []))
        write_shard(tmp_path / "finish/verdicts.parquet", "verdicts", to_table("verdicts", []))
        write_shard(tmp_path / "verify/0/verdicts.parquet", "verdicts", to_table("verdicts", []))
        stages = {"trajectories": "rollout", "verdicts": "verify"}
        return read_record(tmp_path / "tasks.parquet", tmp_path, stages, 1).trajectories

    table = record("solution", "evaluation", "continuation")
    assert table["sampled_logprobs"].to_pylist() == [None, [-1.0, -2.0], None, [-1.0, -2.0]]
    assert table["completion_ids"].to_pylist() == [[2, 3]] * 4 and "prompt_ids" not in table.column_names
    assert "prompt_ids" in record("solution", "critique").column_names
