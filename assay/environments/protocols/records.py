"""Published protocols: records of SciRecipe's three kinds as tasks, each held to the rules of the format before it is one.

Question and answer: {id, type, level, question, think, key, orc, note, action[, action_new]}. Reinforcement learning: {system, query,
response}. Fine-tuning: {conversations: [{from, value}, ...][, system]} or {instruction[, input], output[, system]}. In a file of JSON
lines or of one JSON array.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from assay.environments.base import Candidate
from assay.environments.protocols.environment import VERIFIER
from assay.environments.protocols.writing import in_prose
from assay.environments.task import Task, TaskError
from assay.params.protocols import ProtocolReward, PublishedProtocols
from assay.rewards.protocol import BLOCKS, own_shortfall, parse, validate
from assay.trajectories import content_hash, seed_from

SYSTEM = (
    "Answer with a protocol in four blocks. <think>: what the order of the steps rests on. <key>: one line a step, such as "
    'Step 1: {"action": "add", "objects": ["buffer"], "parameters": ["5 ml"]}, all in lowercase. <orc>: the same steps as sentences, '
    "Step 1: Add 5 ml of buffer. <note>: what to be careful about. Close each block, as in </think>."
)
OFFER = "\nOnly these actions may be used:"
_SHOWN = 3


@dataclass(frozen=True)
class Record:
    """A protocol that was asked for, with an answer that keeps the rules of the format."""

    identity: str
    kind: str
    """Its task type; empty where the record does not say."""
    level: str
    system: str | None
    question: str
    gold: str
    actions: tuple[str, ...]
    """Those that the gold uses, each once; of a record with distractors, all that it offers."""


@dataclass(frozen=True)
class Rejected:
    """A record that is not used."""

    where: str
    """File and number of the record, from 1."""
    problem: str


class RecordError(ValueError):
    """A record that cannot be used; the message says why."""


def read_records(path: Path, distractors: bool = True, reward: ProtocolReward | None = None) -> tuple[list[Record], list[Rejected]]:
    """The records of a file that can be used, and the others with what is wrong with them.

    `distractors`: offer `action_new`, where a record has it. `reward`: that of the run, by which each gold must be a correct answer to its
    own question; None: not asked. Raises TaskError for a file that cannot be read or holds no record at all.
    """
    found: dict[str, Record] = {}
    rejected: list[Rejected] = []
    for number, row in enumerate(read_rows(path), 1):
        try:
            record = read_record(row, distractors)
            if record.identity in found:
                raise RecordError(f"the id {record.identity!r} occurs before")
            if reward is not None and reward.reward == "score" and (why := own_shortfall(record.gold, reward, reward.threshold)):
                raise RecordError(why)
        except RecordError as error:
            rejected.append(Rejected(f"{path.name}, record {number}", str(error)))
        else:
            found[record.identity] = record
    return list(found.values()), rejected


class PublishedProtocolsEnvironment:
    """A user's file of records. No oracle: the rule, SCORE, is all there is. Difficulty: the number of the gold's steps."""

    forms = 1

    def __init__(
        self, name: str, params: PublishedProtocols, seed: int, root: Path, eval_share: float, reward: ProtocolReward | None = None
    ) -> None:
        """`eval_share`: of the records, held out by a hash of each. `reward`: that of the run; see `read_records`."""
        self.name, self.path, self.seed, self.root = name, params.path, seed, root
        self.eval_share, self.distractors, self.reward = eval_share, params.distractors, reward
        self.notes: list[str] = []
        self._pools: dict[str, list[Candidate]] | None = None

    def has(self, split: str) -> bool:
        return split != "ood"

    def check(self) -> None:
        """Read the file. Raises TaskError where it holds nothing that can be used."""
        self._read()

    def candidates(self, split: str) -> Iterator[Candidate]:
        return iter(self._read().get("train" if split == "demonstration" else split, []))

    def demonstration(self, task: Task, random: Random) -> str:
        return task.gold

    def _read(self) -> dict[str, list[Candidate]]:
        if self._pools is None:
            records, rejected = read_records(self.root / self.path, self.distractors, self.reward)
            said = "; ".join(f"{one.where}: {one.problem}" for one in rejected[:_SHOWN])
            if not records:
                raise TaskError(f"environments.{self.name}: none of {len(rejected)} records can be used: {said}")
            if rejected:
                self.notes.append(f"{self.path}: {len(rejected)} of {len(records) + len(rejected)} records are not used: {said}")
            drawn = {record.identity: held_out(self.seed, record.identity) for record in records}
            share = max(self.eval_share, min(drawn.values()))
            self._pools = {"train": [], "eval": []}
            for record in sorted(records, key=lambda one: seed_from(self.seed, "order", one.identity)):
                split = "eval" if drawn[record.identity] <= share else "train"
                self._pools[split].append(Candidate(self._task(record, split), f"{self.path}, record {record.identity}"))
        return self._pools

    def pretraining_text(self, task: Task) -> str:
        """The question, and the gold as a paragraph."""
        return in_prose(task.prompt[-1]["content"].split(OFFER)[0], task.gold)

    def _task(self, record: Record, split: str) -> Task:
        return task_of(record, self.name, split, self.seed)


def task_of(record: Record, environment: str, split: str, seed: int, more: Mapping[str, Any] | None = None) -> Task:
    """The task of a record: actions are offered in an order of the seed and the record. more: of its meta."""
    actions = sorted(record.actions)
    Random(seed_from(seed, "actions", record.identity)).shuffle(actions)
    offered = "" if record.system else f"{OFFER} {', '.join(actions)}."
    prompt = [{"role": "system", "content": record.system or SYSTEM}, {"role": "user", "content": record.question + offered}]
    meta = {"type": record.kind, "level": record.level, "actions": actions, "record": record.identity} | dict(more or {})
    return Task.create(environment, split, prompt, record.gold, VERIFIER, meta, float(len(parse(record.gold).key)))


def held_out(seed: int, identity: str) -> float:
    """Where a record or text stands in [0, 1): those below the held-out share are held out, whatever else there is."""
    return seed_from(seed, "eval", identity) / 2**31


def read_rows(path: Path) -> list[Any]:
    """Values of a file of JSON lines or of one JSON array; a line that is no JSON is its RecordError. Raises TaskError for a file that
    cannot be read or holds none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path.name}: cannot be read: {error}") from error
    if text.lstrip().startswith("["):
        try:
            found = list(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise TaskError(f"{path.name}: is not a JSON array: {error}") from error
    else:
        found = [_line(line) for line in text.split("\n") if line.strip()]
    if not found:
        raise TaskError(f"{path.name}: no records")
    return found


def _line(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return RecordError(f"is not JSON: {error}")


def read_record(row: Any, distractors: bool = True) -> Record:
    """A record of one of the three kinds. Raises RecordError."""
    if isinstance(row, RecordError):
        raise row
    if not isinstance(row, Mapping):
        raise RecordError(f"is {type(row).__name__}, expected an object")
    check_text(row)
    system, actions = None, None
    if "response" in row:
        question, gold, system = _text(row, "query"), _text(row, "response"), _text(row, "system")
    elif "conversations" in row:
        (question, gold), system = _turns(row["conversations"]), _optional(row, "system")
    elif "instruction" in row:
        asked, gold, system = _text(row, "instruction"), _text(row, "output"), _optional(row, "system")
        question = "\n".join(filter(None, (asked, _optional(row, "input"))))
    else:
        question = _text(row, "question")
        gold = "\n".join(f"<{name}>\n{_body(row, name)}\n</{name}>" for name in BLOCKS)
        actions = _actions(row, distractors)
    problems = validate(gold)
    if problems:
        raise RecordError(problems[0])
    used = {step.action for step in parse(gold).key}
    if actions is not None and not used <= actions:
        raise RecordError(f"the gold uses {sorted(used - actions)[0]!r}, which is not among its actions")
    identity = str(row["id"]) if row.get("id") not in (None, "") else content_hash(question, gold)
    return Record(identity, str(row.get("type") or ""), str(row.get("level") or ""), system, question, gold, tuple(sorted(actions or used)))


def check_text(row: Mapping[str, Any]) -> None:
    """Raises RecordError for what cannot be stored: JSON may spell half a character, numbers without end, and what is none."""
    try:
        json.dumps(row, ensure_ascii=False, allow_nan=False, default=str).encode()
    except UnicodeEncodeError:
        raise RecordError("holds half a character (an escape from \\ud800 to \\udfff alone)") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"cannot be stored: {error}") from None


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise RecordError(f"{name} is {'missing' if value is None else 'no text' if not isinstance(value, str) else 'blank'}")
    return value.strip()


def _optional(row: Mapping[str, Any], name: str) -> str | None:
    return _text(row, name) if row.get(name) not in (None, "") else None


def _body(row: Mapping[str, Any], name: str) -> str:
    """A block's content; of key and orc also as a list of lines, the key's as texts or as objects."""
    value = row.get(name)
    if not isinstance(value, list):
        return _text(row, name)
    lines = [f"Step {i}: {json.dumps(one, ensure_ascii=False)}" if isinstance(one, dict) else one for i, one in enumerate(value, 1)]
    if not all(isinstance(line, str) for line in lines):
        raise RecordError(f"{name} is a list of neither texts nor objects")
    return "\n".join(lines)


def _actions(row: Mapping[str, Any], distractors: bool) -> set[str]:
    value = row.get("action_new") if distractors and row.get("action_new") else row.get("action")
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one.strip() for one in value):
        raise RecordError("action is no list of texts")
    return {one.strip() for one in value}


def _turns(value: Any) -> tuple[str, str]:
    turns = value if isinstance(value, list) else []
    said = {turn.get("from"): turn.get("value") for turn in turns if isinstance(turn, Mapping)}
    question, answer = said.get("human"), said.get("gpt")
    if len(turns) != 2 or not isinstance(question, str) or not isinstance(answer, str) or not question.strip():
        raise RecordError("conversations is not one turn of human and one of gpt")
    return question.strip(), answer.strip()
