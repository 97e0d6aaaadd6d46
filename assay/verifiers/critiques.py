"""Verdicts on critiques: a critique is right where it finds of its solution what the outcome verifier found (RISE).

Its rule row compares with what training saw of the solution, injected noise and appeals included; its oracle row with the truth. What the
critique said stands in `components`, from which accuracies are computed and rewards corrected.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assay.params.self_verification import SelfVerification
from assay.rewards.boxes import is_answered
from assay.rewards.self_verification import (
    BINARY,
    Levels,
    Score,
    SelfVerificationError,
    critique_reward,
    outcome_level,
    read_score,
)
from assay.trajectories import to_table
from assay.verifiers.extract import answer_format

CRITIQUES = ("critique", "evaluation_critique")
"""Kinds of trajectory."""
VERIFIER, VERSION = "critique", "1"


@dataclass(frozen=True)
class Outcome:
    """What is known of a solution."""

    policy: str
    level: float | None
    """By what training sees of it; None: the rule abstained."""
    observed: float | None
    """1 or 0."""
    true_level: float | None
    """By the oracle; None: there is none, or it abstained."""


def level_of(verdict: str, reason: str, text: str, own: SelfVerification) -> float | None:
    """outcome_level of a solution. verdict: the one that is believed. reason: of the rule's."""
    answered = is_answered(text, right=verdict == "correct", read=reason != "unparseable", boxed=own.boxed)
    return outcome_level(verdict, answered=answered, levels=Levels(*own.levels))


def outcomes(solutions: pa.Table, verdicts: pa.Table, own: SelfVerification) -> dict[str, Outcome]:
    """By trajectory id. verdicts: of the solutions (others are passed over), of the rule and, where there is one, the oracle."""
    oracle = verdicts.filter(pc.equal(verdicts["role"], "oracle"))
    truth = dict(zip(oracle["trajectory_id"].to_pylist(), oracle["verdict"].to_pylist(), strict=True))
    known = zip(*(solutions[name].to_pylist() for name in ("trajectory_id", "policy", "text")), strict=True)
    written = {name: (policy, text) for name, policy, text in known}
    rule = verdicts.filter(pc.equal(verdicts["role"], "rule"))
    names = ("trajectory_id", "verdict", "reason", "observed_reward")
    found = {}
    for name, verdict, reason, observed in zip(*(rule[column].to_pylist() for column in names), strict=True):
        if name not in written:
            continue
        policy, text = written[name]
        seen = "abstain" if verdict == "abstain" else "correct" if observed == 1 else "wrong"
        true = truth.get(name, "abstain")
        found[name] = Outcome(policy, level_of(seen, reason, text, own), observed, level_of(true, reason, text, own))
    return found


def critique_verdicts(critiques: pa.Table, known: dict[str, Outcome], own: SelfVerification, *, online: bool = True) -> pa.Table:
    """Table `verdicts`: a row of the rule for each critique, then a row of the oracle for those whose solution's truth is known.

    known: outcomes of the solutions. online: refuse a solution of another policy. Raises SelfVerificationError for that, and for a
    critique of a solution that is not known.
    """
    levels = Levels(*own.levels)
    rewards = levels if own.reward == "levels" else BINARY
    texts = critiques["text"].to_pylist()
    said = {text: read_score(text, levels) for text in dict.fromkeys(texts)}
    rules: list[dict[str, Any]] = []
    truths: list[dict[str, Any]] = []
    names = ("trajectory_id", "iteration", "round", "policy", "parent_id")
    for name, iteration, round_, policy, parent, text in zip(*(critiques[column].to_pylist() for column in names), texts, strict=True):
        if parent not in known:
            raise SelfVerificationError(f"critique {name} judges {parent}, which is not among the verified solutions: run rollout again")
        outcome, score = known[parent], said[text]
        if online and outcome.policy != policy:
            raise SelfVerificationError(f"critique {name} of policy {policy} judges {parent}, a solution of policy {outcome.policy}")
        base = {
            "trajectory_id": name, "iteration": iteration, "round": round_, "verifier": VERIFIER, "verifier_version": VERSION,
            "answer": (score.raw or "")[:200], "answer_format": answer_format(score.raw or ""), "appealed": False, "audited": False,
            "flipped": False,
        }  # fmt: skip
        earns = {"observed_reward": critique_reward(score, outcome.level, rewards)}
        rules.append(base | _row("rule", score, outcome.level, outcome) | earns)
        if outcome.true_level is not None:
            truths.append(base | _row("oracle", score, outcome.true_level, outcome))
    empty = dict.fromkeys(("upheld", "noise_draw", "appeal_draw", "observed_reward"))
    return to_table("verdicts", [empty | row for row in (*rules, *truths)])


def _row(role: str, score: Score, target: float | None, outcome: Outcome) -> dict[str, Any]:
    reason = {"missing": "no_score", "out_of_scale": "out_of_scale"}.get(score.status)
    agrees = target is not None and score.value == target
    components = {"target": target, "observed": outcome.observed, "says": score.value, **asdict(score)}
    del components["value"], components["raw"]
    return {
        "role": role,
        "verdict": "abstain" if target is None else "correct" if agrees else "wrong",
        "reason": "parent_abstained" if target is None else reason or ("equal" if agrees else "different"),
        "score": None if target is None else float(agrees),
        "components": json.dumps(components, sort_keys=True),
    }


def says_right(components: Sequence[str]) -> list[float | None]:
    """1 or 0 by what each critique says, None where it gives no score. components: of its verdicts."""
    read = map(json.loads, components)
    return [None if one["says"] is None else float(one["says_right"]) for one in read]
