"""The task: one question with a known answer, as every other room sees it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from assay.trajectories import content_hash, to_table

_TEXT = json.JSONEncoder(ensure_ascii=False).encode  # `json.dumps` with options makes an encoder on every call
_STRICT = json.JSONEncoder(allow_nan=False).encode
SPLITS = ("train", "eval", "ood")
Message = dict[str, str]


class TaskError(ValueError):
    """Tasks that cannot be made. The message names environment, file, column or row, and says what to do."""


@dataclass(frozen=True)
class Task:
    """One question. Made by `Task.create`, which checks it and computes its identity."""

    task_id: str
    """Content hash of environment, prompt and gold: the same task has the same id in every split, run and version."""
    environment: str
    split: str
    """train, eval or ood."""
    prompt: tuple[Message, ...]
    """Messages with `role` and `content`, before system prompt and chat template."""
    gold: str
    """The known answer, never empty."""
    verifier: str
    """Name of the verifier whose verdict counts for this task."""
    meta: dict[str, Any] = field(default_factory=dict)
    """JSON-able: what verifier and oracle need beside the gold. `oracle`, where present, is a key of
    `oracles.ORACLES`."""
    difficulty: float | None = None
    """Of the generator, higher is harder; null where it has none."""

    @classmethod
    def create(
        cls,
        environment: str,
        split: str,
        prompt: str | Sequence[Mapping[str, Any]],
        gold: str,
        verifier: str,
        meta: Mapping[str, Any] | None = None,
        difficulty: float | None = None,
    ) -> "Task":
        """A checked task; a prompt that is a string becomes one message of the user.

        Raises TaskError for an unknown split, an empty prompt or message, a message without role and content, an empty
        gold, or meta that JSON cannot hold.
        """
        if split not in SPLITS:
            raise TaskError(f"split {split!r} is unknown, expected one of {', '.join(SPLITS)}")
        if not isinstance(gold, str) or not gold.strip():
            raise TaskError(
                "the gold is empty"
                if gold is None or gold == "" or isinstance(gold, str)
                else f"the gold is {type(gold).__name__}, expected text"
            )
        messages = check_prompt(prompt)
        meta = dict(meta or {})
        try:
            _STRICT(meta)
        except (TypeError, ValueError) as error:
            raise TaskError(f"meta cannot be stored as JSON ({error})") from error
        identity = content_hash(environment, prompt_key(messages), gold)
        return cls(identity, environment, split, messages, gold, verifier, meta, difficulty)

    @cached_property
    def prompt_key(self) -> str:
        """Equal for equal prompts, whatever environment, split and gold."""
        return prompt_key(self.prompt)

    @cached_property
    def contamination_key(self) -> str:
        """The same without regard to case and white space: a held-out prompt that differs only so is still given
        away."""
        return prompt_key(
            [{"role": m["role"], "content": " ".join(m["content"].casefold().split())} for m in self.prompt]
        )

    @property
    def question(self) -> str:
        """What is asked, as it is quoted to a judge: the messages that are not the system's."""
        return "\n\n".join(message["content"] for message in self.prompt if message["role"] != "system")

    def to_row(self) -> dict[str, Any]:
        """Row of the `tasks` table."""
        return {
            "task_id": self.task_id, "environment": self.environment, "split": self.split, "prompt": list(self.prompt),
            "gold": self.gold, "verifier": self.verifier, "difficulty": self.difficulty,
            "meta": json.dumps(self.meta, sort_keys=True, ensure_ascii=False),
        }  # fmt: skip

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Task":
        """Inverse of `to_row`, for one row of the stored table."""
        prompt = tuple({"role": m["role"], "content": m["content"]} for m in row["prompt"])
        known = {name: row[name] for name in ("task_id", "environment", "split", "gold", "verifier", "difficulty")}
        return cls(prompt=prompt, meta=json.loads(row["meta"]), **known)


def check_prompt(prompt: Any) -> tuple[Message, ...]:
    """A prompt as messages of role and content alone. Raises TaskError."""
    if isinstance(prompt, str):
        if not prompt.strip():
            raise TaskError("the prompt is empty")
        return ({"role": "user", "content": prompt},)
    if not isinstance(prompt, (list, tuple)) or not prompt:
        raise TaskError(f"the prompt is {_describe(prompt)}, expected text or a list of messages")
    messages = []
    for message in prompt:
        role, content = (message.get("role"), message.get("content")) if isinstance(message, Mapping) else (None, None)
        if not (isinstance(role, str) and role and isinstance(content, str)):
            raise TaskError(f"a message of the prompt is {_describe(message)}, expected {{role: text, content: text}}")
        more = sorted(key for key, value in message.items() if key not in ("role", "content") and value is not None)
        if more:
            raise TaskError(
                f"a message of the prompt has the fields {', '.join(more)}, which are not supported: only "
                "role and content are"
            )
        messages.append({"role": role, "content": content})
    if not any(message["content"].strip() for message in messages):
        raise TaskError("the prompt is empty")
    return tuple(messages)


def _describe(value: Any) -> str:
    return "missing" if value is None else f"{type(value).__name__} {str(value)[:60]!r}"


def prompt_key(prompt: Sequence[Message]) -> str:
    """Canonical JSON of a prompt: equal prompts, equal keys."""
    return _TEXT([[m["role"], m["content"]] for m in prompt])


def tasks_to_table(tasks: Iterable[Task]) -> pa.Table:
    """Arrow table of the record's `tasks` schema, in the order given."""
    return to_table("tasks", [task.to_row() for task in tasks])


def tasks_from_table(table: pa.Table) -> dict[str, Task]:
    """Tasks by task_id, in the table's order."""
    return {task.task_id: task for task in map(Task.from_row, table.to_pylist())}
