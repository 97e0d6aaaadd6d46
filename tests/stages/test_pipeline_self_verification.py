"""RISE with PPO and step rewards through the real DVC, at scale micro: staged, and the same as one fused round."""

import json

import pyarrow.compute as pc
import pytest

from benchmarks.workspace import MICRO, copy_project

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(900)]

FUSED = ("fused/dvc.yaml",)
RULE = '''"""A rule that a policy which has learned nothing satisfies now and then."""


def parity(completions, **_others):
    """1.0 where the characters' codes add up to no multiple of 3."""
    return [float(sum(map(ord, text)) % 3 != 0) for text in completions]
'''
# A policy that has learned nothing writes digits, not markers: digits are the tags and markers here.
STEPS = {
    "continuations": 2, "max_tokens": 4, "unit": "tokens", "opening": 0, "interval": 1, "parity": True, "open_tag": "1", "close_tag": "5",
    "markers": ["0", "2", "3", "4", "6", "7", "8", "9"],
}  # fmt: skip


@pytest.mark.long  # two and a half minutes; tests/rollouts, tests/verifiers and tests/rounds have the parts
def test_critiques_and_steps_are_sampled_verified_and_rewarded_the_same_way_staged_and_fused(tmp_path):
    another = copy_project(tmp_path / "judged", MICRO)  # all of it is run: nothing of a finished one is used
    (another.root / "conf/functions/parity.py").write_text(RULE)
    another.set_params(
        method="rise", sampling={"engine": {"type": "transformers"}}, stepwise=STEPS, self_verification={"share": 0.5, "group_size": 3},
        verification={"rule": "parity", "functions": {"parity": {"path": "conf/functions/parity.py"}}}, fused={"rounds": 1},
    )  # fmt: skip
    ran = another.repro()
    assert ran[ran.index("rollout@0") :] == ["rollout@0", "verify@0", "filter@0", "update@0", "finish", "evaluate", "publish"]

    sampled = another.table("trajectories", "data/rollout/0").to_pylist()
    by_id = {row["trajectory_id"]: row for row in sampled}
    kinds = {kind: [row for row in sampled if row["kind"] == kind] for kind in {row["kind"] for row in sampled}}
    assert {kind: len(rows) for kind, rows in kinds.items() if kind != "continuation"} == {
        "solution": 64, "evaluation": 96, "critique": 24, "evaluation_critique": 96,
    }  # fmt: skip
    states = another.table("states", "data/rollout/0").to_pylist()
    assert len(kinds["continuation"]) == 2 * len(states) > 2 * 64  # some have steps
    for row in kinds["continuation"]:
        parent = by_id[row["parent_id"]]
        begun = [*parent["prompt_ids"], *parent["completion_ids"]]
        shared = next((i for i, (a, b) in enumerate(zip(row["prompt_ids"], begun, strict=False)) if a != b), len(begun))
        assert parent["policy"] == row["policy"] and shared >= min(len(parent["prompt_ids"]), len(row["prompt_ids"]))

    verdicts = another.table("verdicts", "data/verify/0").to_pylist()
    rule = {row["trajectory_id"]: row for row in verdicts if row["role"] == "rule"}
    assert rule.keys() == by_id.keys()
    for row in kinds["critique"]:
        components, seen = json.loads(rule[row["trajectory_id"]]["components"]), rule[row["parent_id"]]
        assert components["observed"] == seen["observed_reward"]
        assert components["target"] in ((1.0,) if seen["observed_reward"] == 1 else (-0.5, -1.0))
    steps = another.table("steps", "data/verify/0").to_pylist()
    assert len(steps) == len(states) - 64 > 0

    batch = another.table("batches", "data/filter/0")
    assert len(batch) == 64 + 24 and pc.all(batch["kept"]).as_py()
    earned = {row["trajectory_id"]: row for row in batch.to_pylist()}
    for row in earned.values():
        assert set(row["token_values"]) == {0.0}  # a critic that has learned nothing
        tokens = sum(step["reward"] for step in steps if step["trajectory_id"] == row["trajectory_id"])
        reference, own = sum(row["reference_logprobs"]), sum(row["sampled_logprobs"])
        assert sum(row["token_rewards"]) == pytest.approx(row["reward"] + tokens - 0.01 * (own - reference), abs=1e-4)
    updates = another.table("updates", "data/update/0").to_pylist()
    assert all(row["value_loss"] > 0 and row["critic_gradient_norm"] > 0 for row in updates)
    assert (another.root / "models/1/critic/config.json").is_file() and not (another.root / "models/0/critic").exists()
    finished = another.table("trajectories", "data/finish")["kind"].to_pylist()
    assert finished.count("evaluation_critique") == finished.count("evaluation") == 96
    metrics = {row["metric"] for row in another.table("evaluations", "data/evaluate").to_pylist()}
    assert {"verification_balanced_accuracy", "verification_majority_accuracy", "vote_weighted@4", "vote_majority@4"} <= metrics

    trained = [name.removeprefix("fused/dvc.yaml:") for name in another.repro(*FUSED) if name.startswith("fused/")]
    assert trained[:3] == ["begin", "train@0", "finish"]
    for name, stage in (
        ("trajectories", "rollout"), ("states", "rollout"), ("verdicts", "verify"), ("steps", "verify"), ("batches", "filter"),
        ("updates", "update"),
    ):  # fmt: skip
        assert another.table(name, "data/fused/train/0") == another.table(name, f"data/{stage}/0"), name
    for part in ("policy", "critic"):
        staged, fused = (another.root / folder / f"1/{part}/model.safetensors" for folder in ("models", "models/fused"))
        assert staged.read_bytes() == fused.read_bytes(), part

    question = "select effect, count(*) as steps from steps group by all order by all"
    answer = another.run("assay", "sql", "--format", "csv", question).stdout.splitlines()
    assert answer[0] == "effect,steps" and sum(int(line.split(",")[1]) for line in answer[1:]) == len(steps)
