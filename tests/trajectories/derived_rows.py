"""What a policy samples because of its own solutions, for the synthetic record: critiques, states and their continuations, steps."""

import json
import random
from itertools import pairwise

from assay.trajectories import content_hash

LEVELS = (1.0, -0.5)
"""Of a right solution and of a wrong one."""
CRITIQUES, CONTINUATIONS = 4, 2
MARKERS = ("wait", "However", "hmm")


def derived(
    task_rows: list[dict], rows: list[dict], verdict_rows: list[dict], version: str
) -> tuple[list[dict], list[dict], list[dict], list[dict]]:
    """Trajectories, verdicts, and the tables `states` and `steps`. Of each group its first solution and first evaluation sample are
    judged; every solution has up to two steps."""
    gold = {task["task_id"]: task["gold"] for task in task_rows}
    made, said, states, steps = [], [], [], []
    by_role: dict[str, dict[str, dict]] = {"rule": {}, "oracle": {}}
    for verdict in verdict_rows:
        by_role.get(verdict["role"], {})[verdict["trajectory_id"]] = verdict
    for row in rows:
        if row["sample_index"] == 0:
            critiques = _critiques(row)
            made += critiques
            rule, oracle = (by_role[role].get(row["trajectory_id"]) for role in by_role)
            said += [found for one in critiques for found in _critique_verdicts(one, rule, oracle, version)]
        if row["kind"] == "solution":
            parts = _thought(row, gold[row["task_id"]], version)
            for table, part in zip((made, said, states, steps), parts, strict=True):
                table += part
    return made, said, states, steps


def _child(parent: dict, kind: str, index: int, group: str, text: str) -> dict:
    draw = random.Random(f"{kind} {parent['trajectory_id']} {index}")
    ids = [draw.randrange(5, 500) for _ in range(draw.randint(1, 4))] + [2]
    return parent | {
        "trajectory_id": content_hash(kind, parent["trajectory_id"], index), "group_id": group, "sample_index": index, "kind": kind,
        "parent_id": parent["trajectory_id"], "completion_ids": ids, "loss_mask": [True] * len(ids),
        "sampled_logprobs": [-draw.random() for _ in ids], "finish_reason": "stop", "text": text,
    }  # fmt: skip


def _critiques(row: dict) -> list[dict]:
    """Each says that the solution is right, wrong, or nothing; which, its text alone tells."""
    kind = "critique" if row["kind"] == "solution" else "evaluation_critique"
    draw = random.Random(f"critic {row['trajectory_id']}")
    texts = [draw.choice(("\\boxed{1}", "\\boxed{-0.5}", "\\boxed{-0.5}", "no box")) for _ in range(CRITIQUES)]
    return [_child(row, kind, index, content_hash("critiques of", row["trajectory_id"]), text) for index, text in enumerate(texts)]


def _critique_verdicts(row: dict, rule: dict, oracle: dict | None, version: str) -> list[dict]:
    says = {"\\boxed{1}": 1.0, "\\boxed{-0.5}": -0.5}.get(row["text"])
    observed = rule["observed_reward"]
    seen = None if rule["verdict"] == "abstain" else observed == 1
    found = []
    for role, right in (("rule", seen), *([("oracle", oracle["verdict"] == "correct")] if oracle else [])):
        target = None if right is None else LEVELS[not right]
        components = {
            "target": target, "observed": observed, "says": says, "says_right": says == 1.0,
            "status": "missing" if says is None else "given", "boxes": int(says is not None), "contradictory": False, "lenient": None,
        }  # fmt: skip
        agrees = says == target
        earns = None if target is None else LEVELS[0] if agrees else -1.0 if says is None else LEVELS[1]
        found.append(_verdict(row, role, "critique", version, None if target is None else agrees) | {
            "reason": "parent_abstained" if target is None else "no_score" if says is None else "equal" if agrees else "different",
            "components": json.dumps(components, sort_keys=True), "observed_reward": earns if role == "rule" else None,
        })  # fmt: skip
    return found


def _verdict(row: dict, role: str, verifier: str, version: str, right: bool | None) -> dict:
    score = None if right is None else float(right)
    return {
        "trajectory_id": row["trajectory_id"], "iteration": row["iteration"], "round": 0, "verifier": verifier, "verifier_version": version,
        "role": role, "verdict": "abstain" if right is None else "correct" if right else "wrong",
        "reason": "timeout" if right is None else "equal" if right else "different", "score": score, "answer": row["text"],
        "answer_format": "text", "components": None, "appealed": False, "audited": False, "upheld": None, "flipped": False,
        "observed_reward": score if role == "rule" else None,
    }  # fmt: skip


def _thought(row: dict, gold: str, version: str) -> tuple[list[dict], list[dict], list[dict], list[dict]]:
    """Steps are equal parts of the tokens before the end token; a state's accuracy is that of its continuations, as VSRM has it."""
    draw = random.Random(f"steps {row['trajectory_id']}")
    tokens = len(row["completion_ids"]) - 1
    count = min(draw.randint(0, 2), tokens)
    cuts = [tokens * j // max(count, 1) for j in range(count + 1)]
    keys = {"trajectory_id": row["trajectory_id"], "iteration": row["iteration"], "round": 0}
    over, under = gold.split("/")
    doubled = f"{2 * int(over)}/{2 * int(under)}"
    made, said, states, accuracies, decided, places = [], [], [], [], [], []
    for state in range(count + 1):
        place = dict.fromkeys(("marker", "char_start", "char_end", "first_token", "last_token"))
        if state < count:
            place = {"marker": draw.choice(MARKERS), "char_start": state, "char_end": state + 1}
            place |= {"first_token": cuts[state], "last_token": cuts[state + 1] - 1}
        places.append(place)
        states.append(keys | place | {
            "state": state, "tokens": cuts[state] if count else tokens, "closed": state < count, "continuations": CONTINUATIONS,
            "complete": True,
        })  # fmt: skip
        verdicts, silent = [], draw.random() < 0.1
        for index in range(state * CONTINUATIONS, (state + 1) * CONTINUATIONS):
            answer = draw.choice((gold, gold, doubled, "99"))
            one = _child(row, "continuation", index, content_hash("state", row["trajectory_id"], state), answer)
            one["prompt_ids"] = row["prompt_ids"] + row["completion_ids"][: states[-1]["tokens"]]
            verdicts.append(None if silent or draw.random() < 0.1 else answer == gold or (version != "1" and answer == doubled))
            made.append(one)
            said.append(_verdict(one, "rule", "string_match", version, verdicts[-1]))
        known = [verdict for verdict in verdicts if verdict is not None]
        decided.append(len(known))
        accuracies.append(sum(known) / len(known) if known else accuracies[-1] if accuracies else 0.0)
    steps = []
    for j, (before, after) in enumerate(pairwise(accuracies)):
        effect = "helpful" if after > before else "harmful" if after < before else "ineffective"
        steps.append(keys | places[j] | {
            "step": j, "decided_before": decided[j], "decided_after": decided[j + 1], "accuracy_before": before, "accuracy_after": after,
            "difference": after - before, "distance": 0 if after != before else None, "reward": after - before, "effect": effect,
        })  # fmt: skip
    return made, said, states, steps


def token_streams(row: dict, reward: float | None, own: list[dict]) -> dict:
    """Rewards, values and returns of a trained row's tokens: steps at their last tokens, the outcome on the last of all."""
    draw = random.Random(f"critic {row['trajectory_id']}")
    rewards = [0.0] * len(row["completion_ids"])
    for step in own:
        rewards[step["last_token"]] += step["reward"]
    rewards[-1] += reward or 0.0
    returns = [sum(rewards[i:]) for i in range(len(rewards))]
    values = [0.5 * value + draw.gauss(0, 0.1) for value in returns]
    return {"token_rewards": rewards, "token_values": values, "token_returns": returns}
