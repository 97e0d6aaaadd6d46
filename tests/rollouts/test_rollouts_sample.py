import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from recorded import Watched
from rollout_setup import make_params

from assay.engines import EngineError
from assay.rollouts import RolloutError, make_plan, run_plan
from assay.rollouts.lock import folder_lock
from assay.trajectories import read_table, schema

KINDS = ("solution", "evaluation")
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def plan(tasks, params):
    return make_plan(tasks, params, 0, KINDS)


@pytest.fixture(scope="module")
def uninterrupted(plan, engine, renderer, params, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    summary = run_plan(plan, engine, renderer, params, folder / "out", folder / "scratch")
    return folder / "out", summary


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def interrupt_after(batches):
    """A callback that stops the run in the middle of a shard; every shard of these tests is one batch."""
    count = 0

    def callback(completions, tokens):
        nonlocal count
        count += 1
        if count > batches:
            raise KeyboardInterrupt

    return callback


def test_rows_carry_tokens_logprobs_and_how_they_were_sampled(uninterrupted, plan, engine, renderer):
    table = read_table("trajectories", uninterrupted[0])
    assert table.schema.names == schema("trajectories").names
    assert len(table) == len(plan) == 20 + 27
    for row, stored in zip(plan, table.to_pylist(), strict=True):
        for name in ("iteration", "round", "policy", "task_id", "group_id", "sample_index", "kind", "parent_id"):
            assert stored[name] == getattr(row, name)
        length = len(stored["completion_ids"])
        assert length == len(stored["sampled_logprobs"]) == len(stored["loss_mask"]) <= 8
        assert all(stored["loss_mask"]) and all(value <= 0 for value in stored["sampled_logprobs"])
        assert (stored["completion_ids"][-1] == 2) == (stored["finish_reason"] == "stop")
        assert stored["text"] == renderer.text(stored["completion_ids"]) and "<|im_end|>" not in stored["text"]
        assert tuple(stored["prompt_ids"]) == renderer.prompt_ids(row.messages)
        assert stored["sampling"] == {
            "temperature": pytest.approx(row.temperature),
            "top_p": 1.0,
            "max_tokens": 8,
            "seed": row.seed,
            "engine": "transformers",
            "engine_version": engine.version,
        }
    assert len(set(table["trajectory_id"].to_pylist())) == len(plan)


def test_shards_are_what_the_plan_says(uninterrupted):
    names = [path.name for path in sorted(uninterrupted[0].iterdir())]
    # 20 solutions in groups of 4, then 27 evaluation rows in groups of 3, in shards of at most 8 rows
    assert names == [f"trajectories-{index:04d}.parquet" for index in range(8)]
    sizes = [len(read_table("trajectories", uninterrupted[0] / name)) for name in names]
    assert sizes == [8, 8, 4, 6, 6, 6, 6, 3]


def test_the_summary_counts_what_the_table_holds(uninterrupted):
    table = read_table("trajectories", uninterrupted[0]).to_pylist()
    summary = uninterrupted[1]
    assert (summary.completions, summary.resumed) == (47, 0)
    assert summary.tokens == sum(len(row["completion_ids"]) for row in table)
    assert summary.truncated == sum(row["finish_reason"] == "length" for row in table)
    assert 0 < summary.truncated < 47


def test_an_interrupted_run_publishes_nothing_and_resumes_to_equal_bytes(
    uninterrupted, plan, engine, renderer, params, tmp_path, capsys
):
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, Watched(engine, interrupt_after(2)), renderer, params, out, scratch)
    assert not out.exists()
    assert sorted(contents(scratch / "trajectories")) == ["trajectories-0000.parquet", "trajectories-0001.parquet"]
    sampled = []
    summary = run_plan(plan, Watched(engine, lambda n, tokens: sampled.append(n)), renderer, params, out, scratch)
    assert (sum(sampled), summary.resumed) == (47 - 16, 16)
    assert contents(out) == contents(uninterrupted[0])
    assert "resumed: 2 of 8 shards were sampled before" in capsys.readouterr().err
    assert list(scratch.iterdir()) == [scratch / "lock"]


def test_kill_nine_in_the_middle_of_a_shard_and_resume(policy, tmp_path):
    """All three runs are processes of their own: what other tests did to this one's torch must not matter."""
    out, scratch, whole = tmp_path / "out", tmp_path / "scratch", tmp_path / "whole"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent / "engines"), *sys.path])}

    def run(*arguments):
        command = [sys.executable, HERE / "killed_run.py", policy, *arguments]
        return subprocess.run(command, env=environment, timeout=200, capture_output=True, text=True)

    killed = run(scratch, out, "kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not out.exists() and len(contents(scratch / "trajectories")) == 2
    resumed = run(scratch, out)
    assert resumed.returncode == 0 and "resumed: 2 of 8 shards were sampled before" in resumed.stderr
    assert run(tmp_path / "other", whole).returncode == 0
    assert contents(out) == contents(whole)



@pytest.mark.parametrize("damage", ["cut", "scribbled", "empty", "foreign", "swapped"])
def test_damaged_or_foreign_shards_are_sampled_again(
    damage, uninterrupted, plan, engine, renderer, params, tasks, tmp_path
):
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, Watched(engine, interrupt_after(2)), renderer, params, out, scratch)
    first, second = sorted((scratch / "trajectories").iterdir())
    data = first.read_bytes()
    (scratch / "trajectories" / ".trajectories-0002.parquet.partial").write_bytes(data[:100])
    if damage == "cut":
        first.write_bytes(data[: len(data) // 2])
    elif damage == "scribbled":
        first.write_bytes(data[:200] + b"\0" * 200 + data[400:])
    elif damage == "empty":
        first.write_bytes(b"")
    elif damage == "swapped":
        first.write_bytes(second.read_bytes())
    else:
        with pytest.raises(KeyboardInterrupt):
            other = make_plan(tasks, params, 1, KINDS)
            run_plan(other, Watched(engine, interrupt_after(1)), renderer, params, out, tmp_path / "other")
        first.write_bytes(next((tmp_path / "other" / "trajectories").iterdir()).read_bytes())
    summary = run_plan(plan, engine, renderer, params, out, scratch)
    assert summary.resumed == 8
    assert contents(out) == contents(uninterrupted[0])


def test_shards_of_another_engine_version_are_sampled_again(plan, engine, renderer, params, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, Watched(engine, interrupt_after(2)), renderer, params, tmp_path / "out", tmp_path / "scratch")
    monkeypatch.setattr(engine, "version", "other")
    summary = run_plan(plan, engine, renderer, params, tmp_path / "out", tmp_path / "scratch")
    assert summary.resumed == 0
    versions = {row["engine_version"] for row in read_table("trajectories", tmp_path / "out")["sampling"].to_pylist()}
    assert versions == {"other"}


def test_an_earlier_publication_is_replaced_whole(uninterrupted, plan, engine, renderer, params, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "trajectories-9999.parquet").write_bytes(b"old")
    run_plan(plan, engine, renderer, params, out, tmp_path / "scratch")
    assert contents(out) == contents(uninterrupted[0])


def test_a_second_process_is_told_who_holds_the_plan(plan, engine, renderer, params, tmp_path):
    scratch = tmp_path / "scratch"
    code = (
        "import sys, time; from pathlib import Path; from assay.rollouts.lock import folder_lock\n"
        "with folder_lock(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, scratch], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(RolloutError, match=rf"another process \(pid {holder.pid}\) is at work on the same"):
            run_plan(plan, engine, renderer, params, tmp_path / "out", scratch)
        assert not (tmp_path / "out").exists()
    finally:
        holder.kill()
        holder.wait()
    with folder_lock(scratch):  # what a killed process held is free
        pass


def test_a_prompt_that_is_too_long_fails_before_anything_is_sampled(plan, engine, renderer, params, tmp_path):
    long = replace(plan[-1], messages=({"role": "user", "content": "1" * 60},))
    sampled = []
    with pytest.raises(EngineError, match=f"task {plan[-1].task_id}: its prompt has 79 tokens"):
        run_plan([*plan[:-1], long], Watched(engine, lambda *n: sampled.append(n)), renderer, params, tmp_path / "o", tmp_path / "s")
    assert not sampled


def test_a_policy_that_never_ends_is_warned_about(plan, engine, renderer, tmp_path, capsys):
    short = [replace(row, max_tokens=1) for row in plan if row.kind == "solution"]
    params = make_params(max_tokens=1)
    summary = run_plan(short, engine, renderer, params, tmp_path / "out", tmp_path / "scratch")
    printed = capsys.readouterr().err
    assert summary.truncated_share > 0.5
    assert "cut at sampling.max_tokens (1) without an end token" in printed and "policy.stop_tokens" in printed
    assert f"{summary.truncated_share:.1%} cut at max_tokens" in printed
    reasons = read_table("trajectories", tmp_path / "out")["finish_reason"].to_pylist()
    assert reasons.count("length") == summary.truncated


def test_an_empty_plan_is_refused(engine, renderer, params, tmp_path):
    with pytest.raises(RolloutError, match="the plan has no rows"):
        run_plan([], engine, renderer, params, tmp_path / "out", tmp_path / "scratch")


def test_shards_sampled_from_other_prompts_are_sampled_again(plan, engine, renderer, params, tmp_path):
    """A chat template that was changed between a kill and the next run."""
    other = replace(renderer, system_prompt="Add.")
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, Watched(engine, interrupt_after(2)), other, params, tmp_path / "out", tmp_path / "scratch")
    assert run_plan(plan, engine, renderer, params, tmp_path / "out", tmp_path / "scratch").resumed == 0
