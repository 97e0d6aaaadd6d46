"""Critiques in a batch: switched off they change nothing, and what they quote bears no loss."""

import pyarrow as pa
import pytest
from trainer_fixtures import files_of, make_params, make_policy, make_trajectories, make_verdicts

from assay.training.assemble import assemble_batch
from assay.training.ragged import Ragged
from assay.training.update import update
from assay.trajectories import to_table

LEVELS = {"correct": 1.0, "wrong": -0.5, "no_answer": -1.0}
JUDGING = {"evaluation": 1, "levels": [1.0, -0.5, -1.0], "max_prompt_tokens": 2048}
QUIET = {"grpo": {"report_to": "none"}, "steps_per_iteration": 2, "learning_rate": 5e-3}
ESTIMATORS = {"reinforce_plus_plus": {}, "generalized": {"critic": {}}, "group_zscore": {}}


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return make_policy(tmp_path_factory.mktemp("policy") / "policy")


def nothing(streams):
    """Values of a critic that has learned nothing."""
    return Ragged(0 * streams.logprobs.values, streams.completions.offsets)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_share_of_0_is_the_baseline_bit_for_bit(policy, tmp_path, estimator):
    """B6.8: the same batch, and the same weights."""
    trajectories, weights, batches = make_trajectories(6, 4), [], []
    verdicts = make_verdicts(trajectories, [1, 0, 0, 1] * 6)
    for name, extra in (("baseline", {}), ("off", {"self_verification": {"share": 0.0, **JUDGING}})):
        training = QUIET | {"advantage": {"type": estimator}, **ESTIMATORS[estimator]}
        params = make_params(training=training, rewards={"levels": LEVELS}, **extra)
        values = nothing if estimator == "generalized" else None
        batches.append(assemble_batch(trajectories, verdicts, params, values_of=values))
        if estimator != "generalized":  # a critic is a folder of its own, made by the pipeline
            update(policy, None, batches[-1], params, out=tmp_path / name, scratch=tmp_path / f"s-{name}")
            weights.append(files_of(tmp_path / name / "policy"))
    assert batches[0] == batches[1]
    assert estimator == "generalized" or weights[0] == weights[1]


def judged(prompts_from: int, rewards: list[int]) -> tuple[pa.Table, pa.Table]:
    """Four groups of solutions and two of critiques, whose prompts and completions are drawn by `prompts_from`."""
    rows, other = make_trajectories(6, 4).to_pylist(), make_trajectories(6, 4, seed=prompts_from).to_pylist()
    for row, drawn in zip(rows[16:], other[16:], strict=True):
        same = {name: (drawn[name] * 7)[: len(row[name])] for name in ("prompt_ids", "completion_ids")}  # as long: equal padding
        row |= {"kind": "critique", **same}
    trajectories = to_table("trajectories", rows)
    return trajectories, make_verdicts(trajectories, [1, 0, 0, 1] * 4 + rewards)


def test_no_gradient_comes_from_critiques_without_advantage_nor_from_what_they_quote(policy, tmp_path):
    """B6.10. That the same critiques do train where they have an advantage shows that the comparison can fail."""
    params = make_params(training=QUIET, filter={"zero_variance_groups": False})

    def trained(name: str, prompts_from: int, rewards: list[int]) -> dict[str, bytes]:
        batch = assemble_batch(*judged(prompts_from, rewards), params)
        assert sum(batch["kept"].to_pylist()) == 24
        update(policy, None, batch, params, out=tmp_path / name, scratch=tmp_path / f"s-{name}")
        return files_of(tmp_path / name / "policy")

    equal, different = [1] * 8, [1, 0, 0, 1] * 2
    assert trained("one", 1, equal) == trained("two", 2, equal)
    assert trained("three", 1, different) != trained("four", 2, different)
