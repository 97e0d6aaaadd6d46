"""The body of the stage `verify` over a table of trajectories without their tokens."""

import pytest

from assay.environments import Task
from assay.params import Params
from assay.params.execution import ExecutionParams
from assay.rounds import open_bench, verify
from assay.trajectories import schema, to_table
from assay.verifiers import NoiseState
from assay.verifiers.columns import VERIFIED_COLUMNS

TASK = Task.create("sums", "train", "1 + 1", "2", "string_match", {"oracle": "rational"})
EMPTY = dict.fromkeys(schema("trajectories").names)
STEPS = {"advantage": {"type": "reinforce_plus_plus"}}


def trajectory(name, kind, parent, index, text):
    sampling = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 9, "seed": 0, "engine": "e", "engine_version": "0"}
    return EMPTY | {
        "trajectory_id": name, "iteration": 0, "round": 0, "policy": "0", "task_id": TASK.task_id, "group_id": "g", "sample_index": index,
        "kind": kind, "parent_id": parent, "prompt_ids": [1], "completion_ids": [2], "loss_mask": [True], "sampled_logprobs": [-1.0],
        "finish_reason": "stop", "text": text, "sampling": sampling,
    }  # fmt: skip


ROWS = to_table("trajectories", [
    *(trajectory(f"s{n}", "solution", None, n, str(2 + n % 2)) for n in range(6)),
    *(trajectory(f"e{n}", "evaluation", None, n, "2") for n in range(2)),
    *(trajectory(f"k{n}", "continuation", "s0", n, str(2 + n % 2)) for n in range(4)),
    *(trajectory(f"c{n}", "critique", f"s{n}", 0, r"\boxed{1}") for n in range(3)),
])  # fmt: skip
STATES = to_table("states", [
    {"trajectory_id": "s0", "iteration": 0, "round": 0, "state": state, "tokens": state, "closed": True,
     "continuations": 2, "complete": True, "marker": "w" if state == 0 else None,
     **dict.fromkeys(("char_start", "char_end", "first_token", "last_token"), place)}
    for state, place in ((0, 0), (1, None))
])  # fmt: skip


@pytest.mark.parametrize("verification", [
    {"noise": {"type": "independent", "false_negative_rate": 0.4}},
    {"noise": {"type": "format"}},
    {"appeals": {"enabled": True, "probability": 1.0, "audit_probability": 0.5, "judge": {"type": "simulated"}}},
])  # fmt: skip
def test_no_column_of_tokens_is_needed(verification):
    params = Params.model_validate({
        "verification": {"rule": "string_match", "reference": "none", **verification}, "stepwise": {"continuations": 2},
        "self_verification": {"share": 0.5}, "training": STEPS,
    })  # fmt: skip
    execution = ExecutionParams(verifier_workers=1)
    with open_bench({TASK.task_id: TASK}, params, execution) as bench:
        whole, narrow = (
            verify({TASK.task_id: TASK}, rows, params, execution, bench, NoiseState(), states=STATES)
            for rows in (ROWS, ROWS.select(list(VERIFIED_COLUMNS)))
        )
    assert len(whole.verdicts) > len(ROWS) and len(whole.steps) == 1
    for name in ("verdicts", "noise_estimates", "steps", "state"):
        assert getattr(narrow, name) == getattr(whole, name)
