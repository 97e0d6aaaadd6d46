"""Critiques are right where they find what the rule found of their solution; steps earn what continuations say."""

import json

import numpy as np
import pyarrow as pa
import pytest

from assay.environments import Task
from assay.environments.chain_arithmetic.chains import Chain
from assay.params import Params
from assay.params.self_verification import SelfVerification
from assay.params.stepwise import Stepwise
from assay.rewards.boxes import is_answered
from assay.rewards.self_verification import SelfVerificationError
from assay.rewards.stepwise import StepwiseError
from assay.training.token_rewards import shaped
from assay.trajectories import schema, to_table
from assay.verifiers.critiques import critique_verdicts, outcomes, says_right
from assay.verifiers.extract import extract_answer
from assay.verifiers.numeric import judge
from assay.verifiers.steps import step_table

BOXED = SelfVerification(boxed=True)


def rows(*given):
    """given: (name, kind, parent, text, policy, sample_index)."""
    empty = dict.fromkeys(schema("trajectories").names)
    return to_table("trajectories", [
        empty | {
            "trajectory_id": name, "iteration": 0, "round": 0, "policy": policy, "task_id": "t", "group_id": "g", "sample_index": index,
            "kind": kind, "parent_id": parent, "prompt_ids": [1], "completion_ids": [2], "loss_mask": [True], "sampled_logprobs": [-1.0],
            "finish_reason": "stop", "text": text, "sampling": {
                "temperature": 1.0, "top_p": 1.0, "max_tokens": 9, "seed": 0, "engine": "e", "engine_version": "0"},
        } for name, kind, parent, text, policy, index in given
    ])  # fmt: skip


def verdicts(*given):
    """given: (name, role, verdict, reason, observed)."""
    empty = dict.fromkeys(schema("verdicts").names)
    return to_table("verdicts", [
        empty | {
            "trajectory_id": name, "iteration": 0, "round": 0, "verifier": "v", "verifier_version": "1", "role": role, "verdict": verdict,
            "reason": reason, "appealed": False, "flipped": False, "observed_reward": observed,
        } for name, role, verdict, reason, observed in given
    ])  # fmt: skip


SOLUTIONS = rows(
    ("right", "solution", None, r"\boxed{4}", "0", 0), ("wrong", "solution", None, r"\boxed{5}", "0", 1),
    ("none", "solution", None, "4", "0", 2), ("lost", "solution", None, r"\boxed{6}", "0", 3),
)  # fmt: skip
SAID = verdicts(
    ("right", "rule", "correct", "equal", 1.0), ("wrong", "rule", "wrong", "different", 0.0), ("none", "rule", "wrong", "different", 0.0),
    ("lost", "rule", "abstain", "timeout", None), ("right", "oracle", "correct", "equal", None),
    ("wrong", "oracle", "correct", "equal", None),
)  # fmt: skip


def judged(own=BOXED, **texts):
    critiques = rows(*((f"c-{name}", "critique", name, text, "0", 0) for name, text in texts.items()))
    found = critique_verdicts(critiques, outcomes(SOLUTIONS, SAID, own), own)
    return {(row["trajectory_id"], row["role"]): row for row in found.to_pylist()}


@pytest.mark.parametrize(
    ("parent", "text", "verdict", "reason", "reward"),
    [
        ("right", r"\boxed{1}", "correct", "equal", 1.0), ("right", r"\boxed{-0.5}", "wrong", "different", -0.5),
        ("right", "fine", "wrong", "no_score", -1.0), ("wrong", r"\boxed{-1/2}", "correct", "equal", 1.0),
        ("wrong", r"\boxed{1}\boxed{-0.5}", "correct", "equal", 1.0), ("wrong", r"\boxed{7}", "wrong", "out_of_scale", -0.5),
        ("none", r"\boxed{-1}", "correct", "equal", 1.0), ("none", r"\boxed{-0.5}", "wrong", "different", -0.5),
        ("lost", r"\boxed{1}", "abstain", "parent_abstained", None),
    ],
)  # fmt: skip
def test_the_score_that_is_asked_for_is_the_one_that_the_solution_earned(parent, text, verdict, reason, reward):
    row = judged(**{parent: text})[f"c-{parent}", "rule"]
    assert (row["verdict"], row["reason"], row["observed_reward"]) == (verdict, reason, reward)
    assert json.loads(row["components"])["target"] == {"right": 1.0, "wrong": -0.5, "none": -1.0, "lost": None}[parent]


def test_binary_rewards_and_scales():
    own = SelfVerification(boxed=True, reward="binary", levels=(1.0, 0.0, 0.0))
    assert judged(own, right=r"\boxed{1}")["c-right", "rule"]["observed_reward"] == 1.0
    assert judged(own, none=r"\boxed{0}")["c-none", "rule"]["observed_reward"] == 1.0
    assert judged(own, right="nothing")["c-right", "rule"]["observed_reward"] == 0.0


def test_the_oracle_says_what_is_true_where_the_rule_is_wrong():
    found = judged(wrong=r"\boxed{1}", none=r"\boxed{1}")
    assert found["c-wrong", "rule"]["verdict"] == "wrong" and found["c-wrong", "oracle"]["verdict"] == "correct"
    assert ("c-none", "oracle") not in found  # no truth is known of it
    components = [found[key]["components"] for key in (("c-wrong", "rule"), ("c-none", "rule"))]
    assert says_right(components) == [1.0, 1.0]
    assert says_right([judged(right="x")["c-right", "rule"]["components"]]) == [None]


def test_what_training_saw_counts_not_what_the_rule_said():
    flipped = verdicts(("right", "rule", "correct", "equal", 0.0))
    known = outcomes(SOLUTIONS, flipped, BOXED)
    assert known["right"].level == -0.5 and known["right"].observed == 0.0


def test_critiques_of_strangers_are_refused():
    critiques = rows(("c", "critique", "right", r"\boxed{1}", "1", 0))
    with pytest.raises(SelfVerificationError, match="critique c of policy 1 judges right, a solution of policy 0"):
        critique_verdicts(critiques, outcomes(SOLUTIONS, SAID, BOXED), BOXED)
    assert len(critique_verdicts(critiques, outcomes(SOLUTIONS, SAID, BOXED), BOXED, online=False)) == 2
    with pytest.raises(SelfVerificationError, match="not among the verified solutions"):
        critique_verdicts(rows(("c", "critique", "gone", "", "0", 0)), outcomes(SOLUTIONS, SAID, BOXED), BOXED)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("so it is \\boxed{7}", 1.0), ("so it is \\boxed{8}", -0.5), ("so it is 7", -1.0), ("\\boxed{8} no, \\boxed{7}", 1.0),
        ("\\boxed{7} no, \\boxed{8}", -0.5), ("\\boxed{\\frac{8}{1}}", -0.5), ("\\boxed{{8}}", -0.5), ("\\boxed{7", -1.0),
        ("\\boxed{7} or \\boxed{8", 1.0), ("\\boxed{}", -0.5), ("\\boxed{seven}", -0.5), ("", -1.0),
    ],
)  # fmt: skip
def test_levels_of_boxed_answers(text, level):
    """What solutions earn, and what critiques must give, for what the rule says of them."""
    found = judge(extract_answer(text), "7")
    observed = float(found.verdict == "correct")
    solutions, said = rows(("s", "solution", None, text, "0", 0)), verdicts(("s", "rule", found.verdict, found.reason, observed))
    assert outcomes(solutions, said, BOXED)["s"].level == level
    params = Params.model_validate({"rewards": {"levels": {"correct": 1, "wrong": -0.5, "no_answer": -1, "boxed": True}}})
    assert shaped(np.array([observed]), [found.reason], [text], np.array([3]), params).tolist() == [level]


def test_what_appeals_or_noise_make_right_is_an_answer():
    """A box that the rule cannot read is the very false negative that appeals are for."""
    text, params = r"\boxed{7 apples}", Params.model_validate({"rewards": {"levels": {"wrong": -0.5, "no_answer": -1}}})
    solutions = rows(("s", "solution", None, text, "0", 0))
    for observed, level in ((1.0, 1.0), (0.0, -0.5)):
        said = verdicts(("s", "rule", "wrong", "unparseable", observed), ("s", "oracle", "correct", "equal", None))
        known = outcomes(solutions, said, SelfVerification())["s"]
        assert (known.level, known.true_level) == (level, 1.0)
        assert shaped(np.array([observed]), ["unparseable"], [text], np.array([3]), params).tolist() == [level]


def test_an_answer_may_have_to_stand_in_a_box_or_to_be_readable():
    assert is_answered("4", right=False, read=True, boxed=False) and not is_answered("4", right=True, read=True, boxed=True)
    assert not is_answered("", right=False, read=False, boxed=False) and is_answered("4 apples", right=True, read=False, boxed=False)
    box = r"\boxed{four}"
    assert is_answered(box, right=False, read=False, boxed=True)
    assert not is_answered(box, right=False, read=False, boxed=True, readable=True)
    assert is_answered(box, right=True, read=False, boxed=True, readable=True)


def steps_of(counts, each=5, silent=(), boxed=False, text="", **option):
    """counts: right continuations of each state."""
    spans = [(f"w{j}", 3 * j, 3 * j + 3, j, j) for j in range(len(counts) - 1)] + [(None,) * 5]
    states = to_table("states", [
        dict(zip(("marker", "char_start", "char_end", "first_token", "last_token"), spans[j], strict=True)) | {
            "trajectory_id": "s", "iteration": 0, "round": 0, "state": j, "tokens": j, "closed": True, "continuations": each,
            "complete": True,
        }
        for j in range(len(counts))
    ])  # fmt: skip
    index = [(j, n) for j in range(len(counts)) for n in range(each)]
    answers = ((f"{j}-{n}", "continuation", "s", text, "0", j * each + n) for j, n in index)
    trajectories = rows(("s", "solution", None, "", "0", 0), *answers)
    said = verdicts(*(
        (f"{j}-{n}", "rule", "abstain" if j in silent else "correct" if n < counts[j] else "wrong", "equal", None) for j, n in index
    ))  # fmt: skip
    return step_table(states, trajectories, said, Stepwise(continuations=each, **option), boxed=boxed).to_pylist()


def test_the_worked_trajectory():
    """E.2 of the methods: counts 1, 3, 3, 5 of 5."""
    found = steps_of([1, 3, 3, 5])
    assert [row["accuracy_before"] for row in found] == pytest.approx([0.2, 0.6, 0.6])
    assert [row["reward"] for row in found] == pytest.approx([0.4, 0.28, 0.4])
    assert [row["distance"] for row in found] == [0, 1, 0]
    assert [row["effect"] for row in found] == ["helpful", "ineffective", "helpful"]
    assert [row["marker"] for row in found] == ["w0", "w1", "w2"]
    assert [row["reward"] for row in steps_of([1, 3, 3, 5], gamma=0.0)] == pytest.approx([0.4, 0, 0.4])
    assert [row["reward"] for row in steps_of([1, 3, 3, 5], window=0)] == pytest.approx([0.4, 0, 0.4])
    assert steps_of([4]) == []


def test_a_continuation_without_a_box_is_right_only_where_none_is_asked_for():
    bare = steps_of([1, 3, 5], boxed=True)
    assert [row["accuracy_after"] for row in bare] == [0, 0] and {row["decided_after"] for row in bare} == {5}
    assert steps_of([1, 3, 5], boxed=True, text=r"\boxed{4}") == steps_of([1, 3, 5])


def test_steps_are_rewarded_by_what_noise_made_of_the_verdicts(monkeypatch):
    clean = steps_of([1, 3, 5])
    turned = verdicts

    def noisy(*said):
        rows = [row | {"flipped": True} for row in turned(*said).to_pylist()]
        return to_table("verdicts", rows)

    monkeypatch.setitem(globals(), "verdicts", noisy)
    assert steps_of([4, 2, 0]) == clean


def test_a_right_answer_without_a_box_is_the_target_none_where_a_box_is_asked_for():
    own, said = rows(("s", "solution", None, "the result is 4", "0", 0)), verdicts(("s", "rule", "correct", "equal", 1.0))
    assert outcomes(own, said, BOXED)["s"].level == -1.0 and outcomes(own, said, SelfVerification())["s"].level == 1.0


def test_a_state_on_which_nothing_was_decided_moves_no_reward():
    found = steps_of([1, 3, 5], silent=(1,))
    assert [(row["decided_before"], row["decided_after"]) for row in found] == [(5, 0), (0, 5)]
    assert [row["difference"] for row in found] == pytest.approx([0, 0.8])


def test_accuracies_of_another_policy_are_refused():
    state = {
        "trajectory_id": "s", "iteration": 0, "round": 0, "state": 0, "tokens": 0, "closed": True, "continuations": 1, "complete": True,
        **dict.fromkeys(("marker", "char_start", "char_end", "first_token", "last_token")),
    }  # fmt: skip
    stale = rows(("s", "solution", None, "", "0", 0), ("c", "continuation", "s", "", "1", 0))
    with pytest.raises(StepwiseError, match="another policy than its own"):
        step_table(to_table("states", [state]), stale, verdicts(("c", "rule", "correct", "equal", 1.0)), Stepwise(continuations=1))
    alone = rows(("s", "solution", None, "", "0", 0))
    with pytest.raises(StepwiseError, match="solution s lacks 1 of its 1 continuations, the first of state 0"):
        step_table(to_table("states", [state]), alone, verdicts(), Stepwise(continuations=1))
    with pytest.raises(StepwiseError, match="continuation c of solution s has no verdict"):
        step_table(to_table("states", [state]), stale, verdicts(), Stepwise(continuations=1))
    assert isinstance(step_table(to_table("states", []), alone, verdicts(), Stepwise()), pa.Table)


@pytest.mark.parametrize("opened", ["<think>", ""])
def test_the_oracle_says_what_each_step_of_a_chain_does(opened):
    """Also where the prompt has opened the thinking."""
    text = f"{opened}7 + 6 = 4. wait 7 + 6 = 3. but 7 + 6 = 3. hmm 7 + 6 = 9. </think>9"
    begins = [text.index(word) for word in ("wait", "but", "hmm")]
    ends = [*begins[1:], text.index("</think>")]
    spans = [("m", begin, end, 0, 0) for begin, end in zip(begins, ends, strict=True)] + [(None,) * 5]
    names = ("marker", "char_start", "char_end", "first_token", "last_token")
    states = to_table("states", [
        dict(zip(names, span, strict=True)) | {
            "trajectory_id": "s", "iteration": 0, "round": 0, "state": j, "tokens": j, "closed": True, "continuations": 1,
            "complete": True,
        }
        for j, span in enumerate(spans)
    ])  # fmt: skip
    trajectories = rows(("s", "solution", None, text, "0", 0), *((f"c{j}", "continuation", "s", "", "0", j) for j in range(4)))
    said = verdicts(*((f"c{j}", "rule", "correct" if j in (1, 2) else "wrong", "equal", None) for j in range(4)))
    chain = Chain(7, (("+", 6),), 10)
    (name,) = set(trajectories["task_id"].to_pylist())
    task = Task.create("chain", "train", chain.question(), "3", "numeric", chain.meta())
    found = step_table(states, trajectories, said, Stepwise(continuations=1), tasks={name: task}).to_pylist()
    assert [row["oracle_effect"] for row in found] == ["helpful", "ineffective", "harmful"] == [row["effect"] for row in found]
    other = Task.create("sums", "train", "7 + 6", "13", "numeric")
    others = step_table(states, trajectories, said, Stepwise(continuations=1), tasks={name: other})
    assert others["oracle_effect"].to_pylist() == [None] * 3
