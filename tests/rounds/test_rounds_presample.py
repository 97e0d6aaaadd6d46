"""Policy 0's answers as the division of tasks sees them."""

from assay.rounds.presample import outcomes_of
from assay.trajectories import to_table


def test_an_answer_is_right_wrong_or_not_known():
    said = {"a": "correct", "b": "wrong", "c": "abstain"}
    rows = [
        {"trajectory_id": name, "iteration": 0, "round": 0, "verifier": "numeric", "verifier_version": "1", "role": role,
         "verdict": verdict, "reason": "", "answer": "", "answer_format": "plain", "appealed": False, "audited": False, "flipped": False}
        for role in ("rule", "oracle") for name, verdict in (said.items() if role == "rule" else dict.fromkeys(said, "correct").items())
    ]  # fmt: skip
    assert outcomes_of(to_table("verdicts", rows)) == {"a": True, "b": False, "c": None}
