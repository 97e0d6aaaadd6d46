"""SCORE as a rule whose score is the reward, and the executor as an oracle, in workers as everything is verified."""

import json

import pyarrow.compute as pc
import pytest

from assay.environments import ORACLES, OracleError, Task
from assay.environments.protocols.environment import ProtocolsEnvironment
from assay.params.noise import IndependentNoise
from assay.params.protocols import ProtocolReward, Protocols
from assay.params.verification import VerificationParams
from assay.rewards.protocol import lexical_reward, read_gold, score
from assay.trajectories import schema, to_table
from assay.verifiers import REASONS, Judge, VerifierError, observe, verify_trajectories

ENVIRONMENT = ProtocolsEnvironment("bench", Protocols(types=("planning",), lines=("wash",), steps=(4, 4), ood_steps=None), 3)
TASK = next(one.task for one in ENVIRONMENT.candidates("train") if one.task.meta["bench"]["start"] == "dry")  # add, mix, spin, discard
GOLD = TASK.gold
WITHOUT_NOTE = GOLD.split("<note>")[0]
ANSWERS = {
    "gold": GOLD,
    "no note": WITHOUT_NOTE,
    "another amount": GOLD.replace("10 s", "20 s"),
    "another order": GOLD.replace('"mix"', '"?"').replace('"spin"', '"mix"').replace('"?"', '"spin"')
    .replace("Mix the", "? the").replace("Spin the", "Mix the").replace("? the", "Spin the"),
    "empty": "",
}  # fmt: skip
OFF = VerificationParams(reference="none")


def sampled(*texts, task=TASK, kind="solution"):
    blank = dict.fromkeys(schema("trajectories").names)
    return to_table("trajectories", [
        blank | {
            "trajectory_id": f"t{number}", "iteration": 0, "round": 0, "policy": "0", "task_id": task.task_id, "group_id": "g",
            "sample_index": number, "kind": kind, "prompt_ids": [1], "completion_ids": [2], "loss_mask": [True],
            "sampled_logprobs": [-1.0], "finish_reason": "stop", "text": text,
            "sampling": {"temperature": 1.0, "top_p": 1.0, "max_tokens": 4, "seed": 1, "engine": "x", "engine_version": "1"},
        }
        for number, text in enumerate(texts)
    ])  # fmt: skip


def judged(*texts, params=OFF, task=TASK):
    """Rows of the rule, rows of the oracle."""
    table = verify_trajectories({task.task_id: task}, sampled(*texts, task=task), params, 1)
    return [table.filter(pc.equal(table["role"], role)).to_pylist() for role in ("rule", "oracle")]


@pytest.fixture(scope="module")
def rows():
    rule, oracle = judged(*ANSWERS.values())
    return dict(zip(ANSWERS, zip(rule, oracle, strict=True), strict=True))


def test_the_score_is_the_reward_and_the_verdict_comes_from_it(rows):
    steps = read_gold(GOLD)
    for name, text in ANSWERS.items():
        rule, total = rows[name][0], score(text, steps).total
        assert rule["verifier"] == "protocol_score" and rule["score"] == rule["observed_reward"] == pytest.approx(total)
        assert rule["verdict"] == ("correct" if name == "gold" else "wrong") and rule["reason"] in REASONS
    assert rows["gold"][0]["score"] == 2.5 and rows["no note"][0]["reason"] == "unparseable" and rows["no note"][0]["score"] == 0
    assert 2.4 < rows["another amount"][0]["score"] < 2.475 and rows["another amount"][0]["reason"] == "different"
    assert 1 < rows["another order"][0]["score"] < 2


def test_all_parts_of_the_score_are_stored_with_a_row_for_each_step(rows):
    parts = json.loads(rows["another order"][0]["components"])
    found = score(ANSWERS["another order"], read_gold(GOLD))
    assert parts["total"] == pytest.approx(found.total, abs=1e-6) and parts["order"] == 0 and parts["lcs"] == 0.75
    assert parts["lexical"] == pytest.approx(lexical_reward(ANSWERS["another order"], GOLD), abs=1e-6) and parts["maximum"] == 2.5
    assert [step["action"] for step in parts["steps"]] == ["add", "spin", "mix", "discard"] and parts["unknown_actions"] == []
    assert [step["aligned"] for step in parts["steps"]] == [1, 3, None, 4]
    assert (parts["difference"], parts["options"], json.loads(rows["no note"][0]["components"])["blocks"]) == (0, {}, {})
    for name, (start, end) in parts["blocks"].items():
        assert ANSWERS["another order"][:start].endswith(f"<{name}>") and ANSWERS["another order"][end:].startswith(f"</{name}>")
    assert list(parts["blocks"]) == ["think", "key", "orc", "note"]
    assert json.loads(rows["no note"][0]["components"])["format_reason"] == "block"


def test_an_action_that_was_not_offered_is_stored_and_costs_nothing():
    words = VerificationParams(reference="none", protocol=ProtocolReward(numbering=True))
    rule, _ = judged(GOLD.replace('"mix"', '"vortex"').replace("Mix the", "Vortex the"), params=words)
    assert json.loads(rule[0]["components"])["unknown_actions"] == ["vortex"]


def test_the_oracle_carries_the_whole_completion_out(rows):
    said = {name: (oracle["verdict"], oracle["reason"]) for name, (_, oracle) in rows.items()}
    assert said == {
        "gold": ("correct", "equal"), "no note": ("correct", "equal"), "another amount": ("correct", "equal"),
        "another order": ("wrong", "step_impossible"), "empty": ("wrong", "unparseable"),
    }  # fmt: skip
    parts = json.loads(rows["another order"][1]["components"])
    assert parts["executable"] is False and parts["failed_step"] == 2 and parts["why"] == "spin needs speed, time"
    assert {row["verifier"] for _, row in rows.values()} == {"oracle:protocol_executor"}
    short = GOLD.replace(next(line for line in GOLD.split("\n") if '"discard"' in line) + "\n", "")
    assert judged(short)[1][0]["reason"] == "goal_missed" and {"goal_missed", "step_impossible"} <= REASONS.keys()


def test_the_oracle_for_others_says_the_same_and_refuses_a_bench_that_it_does_not_know():
    ask = ORACLES["protocol_executor"]
    assert [ask(text, GOLD, TASK.meta) for text in (GOLD, ANSWERS["another order"], "")] == [True, False, None]
    for meta in ({}, {"bench": {"line": "brew"}}):
        with pytest.raises(OracleError, match="the task's bench cannot be set up"):
            ask(GOLD, GOLD, meta)
    with Judge(OFF) as judge:
        assert judge.is_correct(TASK, ANSWERS["another amount"]) and not judge.is_correct(TASK, ANSWERS["another order"])
        assert judge.gold_problems([TASK]) == [None]


def test_a_gold_that_breaks_the_format_abstains_and_is_refused_at_generation():
    task = Task.create("bench", "train", "how?", WITHOUT_NOTE, "protocol_score", TASK.meta)
    rule, _ = judged(GOLD, "", task=task)
    assert [(row["verdict"], row["reason"], row["score"], row["observed_reward"]) for row in rule] == [
        ("abstain", "gold_unparseable", None, None)
    ] * 2
    assert "the gold is not a valid protocol" in rule[0]["components"]
    with Judge(OFF) as judge:
        assert judge.gold_problem(task).startswith("protocol_score cannot read it")
    impossible = VerificationParams(reference="none", protocol=ProtocolReward(words_per_step=1.0))
    with Judge(impossible) as judge:
        assert judge.gold_problem(TASK) == "protocol_score does not accept it as its own answer (wrong: different)"


def test_options_change_rewards_and_the_version_with_them():
    lcs = VerificationParams(reference="none", protocol=ProtocolReward(order="lcs"))
    plain, other = (judged(ANSWERS["another order"], params=params)[0][0] for params in (OFF, lcs))
    assert other["observed_reward"] == pytest.approx(plain["observed_reward"] + 0.75)
    assert plain["verifier_version"] == "2" and other["verifier_version"].startswith("2+") and other["verifier"] == "protocol_score"


def test_the_lexical_reward_takes_the_place_of_score():
    params = VerificationParams(reference="none", protocol=ProtocolReward(reward="lexical"))
    rule, _ = judged(GOLD, ANSWERS["another amount"], params=params)
    assert [row["verdict"] for row in rule] == ["correct", "wrong"]
    assert rule[1]["observed_reward"] == pytest.approx(lexical_reward(ANSWERS["another amount"], GOLD))
    assert json.loads(rule[1]["components"])["total"] > 2.4


def test_noise_and_appeals_refuse_a_rule_whose_score_is_the_reward():
    rows = sampled(GOLD, WITHOUT_NOTE)
    params = VerificationParams(reference="none", noise=IndependentNoise(false_positive_rate=0.1, false_negative_rate=0.1))
    verdicts = verify_trajectories({TASK.task_id: TASK}, rows, params, 1)
    with pytest.raises(VerifierError, match="the rule protocol_score gives its score as the reward, which neither noise"):
        observe(verdicts, {TASK.task_id: TASK}, rows, params, 0)
    untouched, _ = observe(verdicts, {TASK.task_id: TASK}, rows, OFF, 0)
    assert untouched.equals(verdicts) and verdicts["observed_reward"].to_pylist()[0] == 2.5


def test_thousands_of_steps_are_judged_and_not_all_stored_and_half_a_character_is_no_text():
    steps = "\n".join(f'Step {i}: {{"action": "add", "objects": ["buffer"], "parameters": []}}' for i in range(1, 4001))
    many = GOLD.split("<key>")[0] + f"<key>\n{steps}\n</key>" + GOLD.split("</key>")[1]
    rule, oracle = judged(many, GOLD.replace('"objects": ["', '"objects": ["\\ud800'))  # no file could hold a verdict that quotes it
    assert rule[1]["reason"] == oracle[1]["reason"] == "unparseable" and json.loads(rule[1]["components"])["format_reason"] == "fields"
    assert rule[0]["score"] == 0 and rule[0]["verdict"] == "wrong" and oracle[0]["reason"] == "unparseable"
    parts = json.loads(rule[0]["components"])
    assert parts["predicted_steps"] == 4000 and len(parts["steps"]) == len(parts["missing"]) == 64 and parts["coverage"] < 0.01
