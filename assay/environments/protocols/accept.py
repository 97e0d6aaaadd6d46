"""What replies about protocols must be to be used. Each function raises Invalid with the rule that is broken, as the model is told it."""

from collections.abc import Mapping
from typing import Any

from assay.environments.asking import Invalid, need
from assay.environments.protocols.executor import execute
from assay.environments.protocols.questions import LEVELS
from assay.environments.protocols.records import Record, RecordError, read_record
from assay.params.protocols import ProtocolType, ScoreOptions
from assay.rewards.protocol import own_shortfall

_FIELDS = ("question", "think", "key", "orc", "note")


def read_structure(reply: Any) -> dict[str, Any]:
    """The parts of a protocol."""
    found: dict[str, Any] = {"name": need(reply, "name", str).strip(), "abstract": need(reply, "abstract", str)}
    for key in ("materials", "equipment", "procedures", "notes"):
        found[key] = texts(reply, key)
    if not found["procedures"]:
        raise Invalid("'procedures' is empty, expected a text for each step")
    return found


def read_question(
    reply: Any, identity: str, kind: ProtocolType, steps: tuple[int, int], distractors: int, bench: Mapping[str, Any] | None,
    reward: ScoreOptions,
) -> Record:  # fmt: skip
    """A question with its answer. steps: smallest and largest number of steps; distractors: of actions that the key does not use; reward:
    the SCORE of the run."""
    key, others = need(reply, "key", list), texts(reply, "distractors")
    if not all(isinstance(step, dict) for step in key):
        raise Invalid("'key' is not a list of objects")
    if not steps[0] <= len(key) <= steps[1]:
        raise Invalid(f"the key has {len(key)} steps, expected {steps[0]} to {steps[1]}")
    used = [step["action"] for step in key if isinstance(step.get("action"), str)]
    if len(set(others) - set(used)) != distractors or len(others) != distractors or any(one != one.lower() for one in others):
        raise Invalid(f"distractors are {others}, expected {distractors} different actions, in lowercase, that the key does not use")
    row = {name: reply.get(name) for name in _FIELDS} | {"action": [*used, *others]}
    try:
        record = read_record({**row, "id": identity, "type": kind, "level": LEVELS.get(kind, "problem solving")})
    except RecordError as error:
        raise Invalid(str(error)) from None
    check_gold(record, bench, reward)
    return record


def check_gold(record: Record, bench: Mapping[str, Any] | None, reward: ScoreOptions) -> None:
    """Of a record whose gold is of the format: that SCORE gives the gold itself all there is, and, where there is a bench, that it can be
    carried out there and reaches the goal."""
    if why := own_shortfall(record.gold, reward):
        raise Invalid(why)
    if bench is None:
        return
    done = execute(record.gold, {**bench, "allowed": list(record.actions)})
    if not done.reached:
        where = f"step {done.failed_step}: " if done.failed_step else ""
        raise Invalid(f"the protocol cannot be carried out: {where}{done.reason}")


def texts(reply: Any, key: str) -> list[str]:
    """A field that is a list of texts, none of them blank."""
    found = need(reply, key, list)
    if not all(isinstance(one, str) and one.strip() for one in found):
        raise Invalid(f"{key!r} is not a list of texts")
    return found
