"""The fused pipeline through the real DVC, at scale micro and with vLLM: one round is a staged iteration, and kills change nothing."""

import shutil

import pytest
import yaml

from assay.params.execution import ExecutionParams
from assay.rounds.train import Places, train
from assay.trajectories import read_table
from benchmarks.kills import repro_until
from benchmarks.study import load
from benchmarks.workspace import fingerprints

pytestmark = [pytest.mark.pipeline, pytest.mark.engine, pytest.mark.timeout(900)]

FUSED = ("fused/dvc.yaml",)
TRAIN = "fused/dvc.yaml:train@0"
VLLM = {"engine": {"type": "vllm"}}


def test_one_round_is_a_staged_iteration(another):
    another.set_params(sampling=VLLM, fused={"rounds": 1})
    assert {"rollout@0", "update@0", "finish"} <= set(another.repro())
    ran = another.repro(*FUSED)
    assert ran == [f"fused/dvc.yaml:{name}" for name in ("begin", "train@0", "finish", "evaluate", "publish")]
    for name, stage in (("trajectories", "rollout"), ("verdicts", "verify"), ("noise_estimates", "verify"), ("batches", "filter")):
        assert another.table(name, "data/fused/train/0") == another.table(name, f"data/{stage}/0"), name
    for name in ("updates", "token_statistics"):
        assert another.table(name, "data/fused/train/0") == another.table(name, "data/update/0"), name
    staged, fused = (another.root / folder / "1/policy/model.safetensors" for folder in ("models", "models/fused"))
    assert staged.read_bytes() == fused.read_bytes()
    assert another.table("evaluations", "data/fused/evaluate") == another.table("evaluations", "data/evaluate")
    assert another.repro(*FUSED) == []
    assert another.repro() == []
    # Judged again by the same verifiers, every verdict is the same; by another, the change is shown.
    replayed = another.run("assay", "verify", "--replay", "data/fused/train/0").stdout
    assert replayed.splitlines()[1:] == [f"{role}: 160 of 160 verdicts are identical" for role in ("rule", "reference", "oracle")]
    changed = another.run("assay", "verify", "--replay", "data/rollout/0", "--rule", "numeric").stdout
    assert "rule: 0 of 160 verdicts are identical" in changed and "by numeric 2" in changed
    # The same tables answer the same questions, under the fused pipeline's own version.
    question = "select round, count(*) as rows from trajectories where kind = 'solution' group by all order by all"
    answer = another.run("assay", "sql", "--format", "csv", "--version", "fused/workspace", question).stdout
    assert answer.splitlines() == ["round,rows", "0,64"]


def test_a_round_without_different_rewards_changes_nothing(finished, tmp_path):
    # Two answers a round, right by the toss of a coin: with this seed the first two rounds are equal, in which the run is interrupted.
    workspace, reports = finished.root, []
    values = yaml.safe_load((workspace / "params.yaml").read_text()) | {
        "seed": 8, "sampling": {"engine": {"type": "transformers"}, "group_size": 2}, "filter": {"zero_variance_groups": True},
        "verification": {"noise": {"type": "independent", "false_positive_rate": 0.5, "false_negative_rate": 0.0}},
        "fused": {"rounds": 6, "tasks_per_round": 1, "steps_per_round": 1},
    }  # fmt: skip
    params, model = load(values, tmp_path / "params"), workspace / "models/0"
    places = Places(
        workspace / "data/tasks/tasks.parquet", model, model / "policy", tmp_path / "tables", tmp_path / "model", tmp_path / "scratch",
        tmp_path / "gates",
    )  # fmt: skip

    def interrupted(report):
        reports.append(report)
        if report.round == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(params, 0, places, ExecutionParams(), interrupted)
    kept_weights = tmp_path / "scratch/rounds/0001/state/policy/model.safetensors"
    assert kept_weights.read_bytes() == (model / "policy/model.safetensors").read_bytes()
    train(params, 0, places, ExecutionParams(), reports.append)
    batches, updates = (read_table(name, tmp_path / "tables").to_pylist() for name in ("batches", "updates"))
    kept = [number for number in range(6) if any(row["kept"] for row in batches if row["round"] == number)]
    assert 1 < kept[0] and len(kept) > 1 and kept == [row["round"] for row in updates]
    assert [row["global_step"] for row in updates] == list(range(len(kept)))
    assert {row["drop_reason"] for row in batches if row["round"] not in kept} == {"zero_variance"}
    assert [report.round for report in reports if "no update" not in str(report)] == kept


def test_a_fused_iteration_that_is_killed_ends_with_the_tables_of_one_that_is_not(another, tmp_path):
    # With noise and appeals, whose averages go from round to round.
    noise = {"type": "independent", "false_positive_rate": 0.4, "false_negative_rate": 0.2}
    appeals = {"probability": 0.7, "audit_probability": 0.5, "minimum_judged": 1, "minimum_right": 1, "judge": {"type": "simulated"}}
    another.set_params(
        method="appeals_forward", sampling=VLLM, verification={"noise": noise, "appeals": appeals},
        fused={"rounds": 5, "tasks_per_round": 8, "steps_per_round": 2},
    )  # fmt: skip
    killed = type(another)(tmp_path / "killed")
    shutil.copytree(another.root, killed.root, symlinks=True)
    another.repro(TRAIN)
    kill = repro_until(killed, TRAIN, 0.1, [TRAIN], sign="round 3 of 5")  # in the middle of the next one
    assert kill is not None and (kill.stage, kill.survivors) == (TRAIN, 0)
    done = killed.run("dvc", "repro", TRAIN)
    assert "going on after round" in done.stdout  # 3, or more where the kill came a moment later
    assert fingerprints(killed) == fingerprints(another)
    rounds = another.table("updates", "data/fused/train/0").select(["round", "step", "global_step"]).to_pylist()
    first = rounds[0]["global_step"]
    assert rounds == [{"round": r, "step": s, "global_step": first + 2 * r + s} for r in range(5) for s in range(2)]
    # On-policy: the engine has the trainer's weights in every round.
    assert max(row["mismatch_max"] for row in another.table("updates", "data/fused/train/0").to_pylist()) < 1e-4
    estimates = another.table("noise_estimates", "data/fused/train/0").to_pylist()
    carried = {(row["environment"], row["round"]): row["carried_false_positive_rate"] for row in estimates}
    reached = {(row["environment"], row["round"] + 1): row["smoothed_false_positive_rate"] for row in estimates if row["round"] < 4}
    assert {key: carried[key] for key in reached} == reached
    assert any(value for value in reached.values())
    sampled = {(row["round"], row["policy"]) for row in another.table("trajectories", "data/fused/train/0").to_pylist()}
    assert sampled == {(0, "0"), *((r, f"0.{r}") for r in range(1, 5))}
    assert not list((killed.root / ".assay/scratch").glob("train-0*/*"))
