"""What a verifier says: correct, wrong, or that it cannot tell, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

VerdictName = Literal["correct", "wrong", "abstain"]
VERDICTS: tuple[VerdictName, ...] = get_args(VerdictName)
Role = Literal["rule", "reference", "oracle", "judge"]

REASONS: dict[str, str] = {
    "equal": "the answer is the gold, or equal to it",
    "different": "the answer was read and is not equal to the gold",
    "unparseable": "there is no answer, or it cannot be read: wrong",
    "too_long": "the answer is longer than verification.max_answer_characters: wrong, and not read",
    "gold_unparseable": "the verifier cannot read the gold",
    "not_applicable": "the verifier does not fit the task, or the environment has no oracle",
    "too_complex": "reading or evaluating the answer would take more than any verifier should (nesting, huge powers)",
    "sql_syntax": "the answer is not SQL that DuckDB can read: wrong",
    "sql_forbidden": "the answer is not one SELECT over the task's tables (writes, files, settings, random numbers): wrong, not executed",
    "sql_error": "the answer fails while it is bound or executed (unknown names, types, values): wrong",
    "sql_timeout": "the answer takes more processor time than the task allows: wrong",
    "sql_memory": "the answer takes more memory than the task allows: wrong",
    "sql_rows": "the answer's result has more rows than the task allows: wrong",
    "step_impossible": "a step of the protocol cannot be carried out: wrong",
    "goal_missed": "the protocol can be carried out, but does not do what the task asks: wrong",
    "tool_wasted": "the turn calls tools to no purpose: wrong",
    "tool_unsolved": "answered, wrongly or by itself, though sub-answers are still to be found with tools: wrong",
    "tool_malformed": "a tag of a tool call, but no call that can be read: wrong",
    "tool_empty": "neither a call nor a text: wrong",
    "tool_max_turns": "the episode has no answer within sampling.episodes.max_turns: wrong",
    "tool_overlong": "the episode ended for want of room: a turn was cut, or another would not fit: wrong",
    "no_transcript": "the turns and calls of the episode are not in the record",
    "no_score": "the critique gives no score in a closed box: wrong",
    "out_of_scale": "the critique's score is none of self_verification.levels: wrong",
    "parent_abstained": "the rule abstained on the solution that the critique judges",
    "timeout": "no verdict within verification.timeout",
    "memory": "no verdict within verification.memory_mib",
    "crash": "the verifier's process died",
    "error": "the verifier raised an exception",
    "judge_unreachable": "the judge could not be asked: its endpoint is down, slow, refuses, or answers what is no chat completion",
    "judge_unparseable": "the judge's reply is neither clearly True nor clearly False",
    "judge_unreadable": "the judge cannot be shown the case: its prompt would be longer than max_prompt_tokens",
}
"""Every reason that is written into the record, and what it means. The last ones are those of judges of appeals."""


class VerifierError(ValueError):
    """A verifier that cannot be used as asked. The message names task or parameter and says what to do."""


@dataclass(frozen=True)
class Finding:
    """A verdict on an (answer, gold) pair. `score` is the verifier's own, None where it abstains."""

    verdict: VerdictName
    reason: str
    score: float | None = None
    components: str | None = None
    """JSON: parts of a composed score, or the message of a failure."""


@dataclass(frozen=True)
class Verdict:
    """A finding on a whole text, with the answer that was extracted from it."""

    verdict: VerdictName
    reason: str
    score: float | None
    answer: str
    answer_format: str
    components: str | None = None


def correct(score: float = 1.0) -> Finding:
    """The answer is right."""
    return Finding("correct", "equal", score)


def wrong(reason: str = "different", score: float = 0.0) -> Finding:
    """The answer is wrong."""
    return Finding("wrong", reason, score)


def abstain(reason: str, components: str | None = None) -> Finding:
    """The verifier cannot tell."""
    return Finding("abstain", reason, None, components)


def is_sound(value: Any) -> bool:
    """Whether a value is a finding that the record can hold. Not every finding that comes from a worker was made by our code."""
    return (
        type(value) is Finding
        and value.verdict in VERDICTS
        and isinstance(value.reason, str)
        and value.reason in REASONS
        and (value.score is None or type(value.score) in (int, float))
        and (value.components is None or isinstance(value.components, str))
    )


def rounded(value: Any) -> Any:
    """Components with six decimals: more would only be stored."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, Mapping):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list | tuple) else value
