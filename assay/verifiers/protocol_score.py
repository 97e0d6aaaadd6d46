"""SCORE as a verifier whose score is the reward, and the executor as an oracle; both read the whole completion."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from assay.verifiers.verdicts import Finding, abstain, rounded

NAME, ORACLE = "protocol_score", "protocol_executor"
REVISION = 2
ORACLE_REVISION = 1
ADDRESS = f"{NAME}:"
PRELOAD = ("assay.verifiers.protocol_score:warm_up",)
MOST_STEPS = 64
"""Of a prediction that are stored one by one; as many items that its orc lacks, and unknown actions."""
_EDGE = 1e-9


def warm_up() -> None:
    """Import what verdicts need; called once, before workers are forked, which may not read files."""
    import assay.environments.protocols.executor  # noqa: F401
    from assay.rewards.protocol import bleu_average

    bleu_average("", "")  # its library is imported by the first call


def judge(options: Mapping[str, Any], text: str, gold: str, given: Mapping[str, Any]) -> Finding:
    """SCORE of a completion, correct from a share of what the gold itself earns. given: the task's `prompt` and `meta`, of which `actions`,
    where it has them, are those that the prompt offers. Abstains where the gold breaks the rules of the format."""
    from assay.rewards.protocol import GoldError, lexical_reward, score

    reward = _reward(json.dumps(options, sort_keys=True))
    try:
        steps = _steps(gold)
    except GoldError as error:
        return abstain("gold_unparseable", json.dumps({"error": str(error)[:200]}))
    offered = given.get("meta", {}).get("actions")
    allowed = offered if isinstance(offered, list) and all(isinstance(one, str) for one in offered) else None
    found = score(text, steps, reward, allowed)
    lexical = lexical_reward(text, gold)
    value = lexical if reward.reward == "lexical" else found.total
    parts = found.components()
    parts |= {name: parts[name][:MOST_STEPS] for name in ("missing", "unknown_actions")}
    parts |= {"lexical": lexical, "maximum": reward.maximum, "options": options, "steps": found.step_rows()[:MOST_STEPS]}
    right = value >= reward.threshold - _EDGE
    reason = "equal" if right else "different" if found.format else "unparseable"
    return Finding("correct" if right else "wrong", reason, value, json.dumps(rounded(parts), ensure_ascii=False))


def carry_out(text: str, gold: str, given: Mapping[str, Any]) -> Finding:
    """Whether the protocol of a completion can be carried out on the bench of the task's meta, and reaches its goal."""
    from assay.environments.protocols.executor import ExecutorError, execute

    try:
        done = execute(text, given["meta"]["bench"])
    except (ExecutorError, KeyError) as error:
        return abstain("gold_unparseable", json.dumps({"error": str(error)[:200]}))
    parts = json.dumps({"executable": done.executable, "failed_step": done.failed_step, "why": done.reason[:200]})
    if done.reached:
        return Finding("correct", "equal", 1.0, parts)
    reason = "goal_missed" if done.executable else "step_impossible" if done.readable else "unparseable"
    return Finding("wrong", reason, 0.0, parts)


@lru_cache(maxsize=1024)
def _steps(gold: str) -> Any:
    """Of a gold; all answers to a task are compared with the same one."""
    from assay.rewards.protocol import read_gold

    return read_gold(gold)


@lru_cache(maxsize=16)
def _reward(options: str) -> Any:
    from assay.params.protocols import ProtocolReward

    return ProtocolReward.model_validate_json(options)
