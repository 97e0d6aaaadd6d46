"""Tasks with tools: the reward of a turn, and what an episode achieved. Pure: what the tools said is in the transcript, none is executed.

A turn that was sampled alone is scored by FTRL's reward. An episode is right where its last text holds the answer, as in FTRL (`exact` says
whether that is all that it says); its score is the sum of
its turns' rewards on the train split, and Solve-F1 on held-out tasks, where no reward is defined.
"""

import json
from collections.abc import Mapping
from typing import Any

from assay.verifiers.verdicts import Finding, abstain, rounded

NAME = "tool_use"
ADDRESS = f"{NAME}:"
REVISION = 3
FULL = "f1"
"""Branch of a turn with calls."""


def judge(options: Mapping[str, Any], transcript: str, gold: str) -> Finding:
    """Verdict on a transcript as `Transcripts` holds it. Abstains where there is none: an episode's text does not tell what tools said."""
    if not transcript:
        return abstain("no_transcript")
    played = json.loads(transcript)
    turns = [_scored(turn, gold, options) for turn in played["turns"]]
    parts = _episode(played, turns) if played["whole"] else turns[0]
    reason = _why_wrong(played, turns) if played["whole"] else _why_turn_is_wrong(turns[0])
    score = _score(played, turns, parts)
    components = json.dumps(rounded(parts), sort_keys=True)
    return Finding("wrong" if reason else "correct", reason or "equal", score, components)


def _scored(turn: Mapping[str, Any], gold: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Reward and counts of one turn. Whether a reward is defined for its task is the caller's affair."""
    from assay.rewards.tool_use import Call, State, says_only, turn_reward

    calls = [Call(call["name"], call["arguments"], call["feedback"]) for call in turn["calls"]]
    state = State(turn["unsolved"], gold, turn["solve_rate"])
    found = turn_reward(turn["content"], calls, state, echo_guard=turn["echo_guard"], **options)
    return {
        "reward": found.reward, "branch": found.branch, "t": found.t, "p": found.p, "q": found.q,
        "echoes": sum(match.echo for match in found.matches), "exact": found.branch == "answer" and says_only(turn["content"], gold),
    }  # fmt: skip


def _episode(played: Mapping[str, Any], turns: list[dict[str, Any]]) -> dict[str, Any]:
    from assay.rewards.tool_use import episode_metrics

    solved, calls, total = sum(turn["q"] for turn in turns), sum(turn["p"] for turn in turns), played["sub_answers"]
    metrics = episode_metrics(solved, calls, total)
    rewards = [turn["reward"] for turn in turns] if played["rewarded"] else None
    return {
        "solve_p": metrics.precision, "solve_p_strict": metrics.strict_precision, "solve_r": metrics.recall, "solve_f1": metrics.f1,
        "solved": solved, "calls": calls, "sub_answers": total, "turns": len(turns), "stop": played["stop"], "rewards": rewards,
        "echoes": sum(turn["echoes"] for turn in turns), "scenario": played["scenario"],
        "exact": played["stop"] == "answered" and turns[-1]["exact"],
    }  # fmt: skip


def _score(played: Mapping[str, Any], turns: list[dict[str, Any]], parts: Mapping[str, Any]) -> float:
    if not played["whole"]:
        return float(turns[0]["reward"])
    return float(sum(turn["reward"] for turn in turns) if played["rewarded"] else parts["solve_f1"])


def _why_wrong(played: Mapping[str, Any], turns: list[dict[str, Any]]) -> str:
    """Reason of an episode's failure, "" where it is right."""
    if played["stop"] != "answered":
        return f"tool_{played['stop']}"
    branch, left = turns[-1]["branch"], turns[-1]["t"]
    if branch == "answer":
        return ""
    return {"empty": "tool_empty", "malformed": "tool_malformed"}.get(branch, "tool_unsolved" if left else "different")


def _why_turn_is_wrong(turn: Mapping[str, Any]) -> str:
    """Right is a turn whose every call solves something, or the answer once nothing is left to be solved."""
    if turn["branch"] == FULL:
        return "" if turn["q"] == turn["p"] else "tool_wasted"
    if turn["branch"] == "answer":
        return "tool_unsolved" if turn["t"] else ""
    return {"empty": "tool_empty", "malformed": "tool_malformed"}.get(turn["branch"], "tool_unsolved" if turn["t"] else "different")
