"""The suites: what is expected of each gate's frames, as a literal table."""

from dataclasses import dataclass
from typing import Any, Literal

Gate = Literal["tasks", "trajectories", "verdicts", "batch"]
GATES: tuple[Gate, ...] = ("tasks", "trajectories", "verdicts", "batch")

KINDS = ("solution", "evaluation", "episode", "continuation", "critique", "evaluation_critique", "presample")
ROLES = ("rule", "reference", "oracle", "judge")
DROP_REASONS = ("", "abstained", "truncated", "zero_variance", "duplicate", "mismatch")
LARGEST_LOGPROB = 1e-4
"""Nats. A log-probability is at most 0; float32 arithmetic may miss it by a rounding error."""


@dataclass(frozen=True)
class Limits:
    """Numbers of this run that the suites compare with; None is not checked."""

    abstain: float = 0.05
    """Largest share of abstained verdicts of the rule (verification.abstain_limit), and of each environment's where there are several."""
    group_size: int | None = None
    """Rows of each group (sampling.group_size)."""
    critique_group_size: int | None = None
    """The same of a group of critiques, where there are such."""
    steps: int | None = None
    """Optimizer steps, each of which has at least one row (training.steps_per_iteration)."""
    vocabulary: int | None = None
    """Token ids lie below this."""


@dataclass(frozen=True)
class Check:
    """One expectation of Great Expectations over one frame."""

    frame: str
    expectation: str
    """Class of great_expectations.expectations."""
    arguments: dict[str, Any]
    says: str
    """What is expected, in words."""


def checks(gate: Gate, limits: Limits) -> list[Check]:
    """The suite of a gate."""
    return {"tasks": _tasks, "trajectories": _trajectories, "verdicts": _verdicts, "batch": _batch}[gate](limits)


def _between(frame: str, column: str, says: str, low: float | None = None, high: float | None = None) -> Check:
    bounds = {"min_value": low, "max_value": high}
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    return Check(frame, "ExpectColumnValuesToBeBetween", {"column": column, **given}, says)


def _one_of(frame: str, column: str, says: str, values: tuple[Any, ...]) -> Check:
    return Check(frame, "ExpectColumnValuesToBeInSet", {"column": column, "value_set": list(values)}, says)


def _true(frame: str, column: str, says: str) -> Check:
    return _one_of(frame, column, says, ("True",))


def _some(frame: str, says: str) -> Check:
    return Check(frame, "ExpectTableRowCountToBeBetween", {"min_value": 1}, says)


def _tasks(limits: Limits) -> list[Check]:
    return [
        _some("tasks", "there are tasks"),
        _between("tasks", "occurrences", "task ids are unique", high=1),
        _one_of("tasks", "split", "the split is train, eval or ood", ("train", "eval", "ood")),
        _between("tasks", "splits_of_prompt", "no prompt is in two splits", high=1),
        _between("tasks", "messages", "the prompt has a message", low=1),
        _between("tasks", "messages_with_text", "the prompt is not empty", low=1),
        _between("tasks", "gold_characters", "the gold is not empty", low=1),
        _between("tasks", "verifier_characters", "a verifier is named", low=1),
    ]


def _trajectories(limits: Limits) -> list[Check]:
    top = "" if limits.vocabulary is None else f" below {limits.vocabulary:,}"
    return [
        _some("trajectories", "there are trajectories"),
        _between("trajectories", "occurrences", "trajectory ids are unique", high=1),
        _true("trajectories", "task_known", "the task exists"),
        _one_of("trajectories", "kind", f"the kind is one of {', '.join(KINDS)}", KINDS),
        _one_of("trajectories", "finish_reason", "the finish reason is stop or length", ("stop", "length")),
        _true("trajectories", "has_prompt", "the prompt has tokens"),
        _true("trajectories", "has_completion", "the completion has tokens"),
        _between("trajectories", "unknown_tokens", f"token ids are from 0 upwards{top}", high=0),
        *_stream_checks("trajectories"),
    ]


def _stream_checks(frame: str) -> list[Check]:
    return [
        _between(frame, "mask_minus_tokens", "the loss mask is as long as the completion", 0, 0),
        _between(frame, "logprobs_minus_tokens", "there is a log-probability for each token", 0, 0),
        _between(frame, "unreadable_logprobs", "log-probabilities are finite", high=0),
        _between(frame, "positive_logprobs", "log-probabilities are at most 0", high=0),
    ]


def _verdicts(limits: Limits) -> list[Check]:
    return [
        _some("verdicts", "there are verdicts"),
        _true("verdicts", "trajectory_known", "the trajectory exists"),
        _between("verdicts", "occurrences", "a verifier judges a trajectory once", high=1),
        _one_of("verdicts", "role", f"the role is one of {', '.join(ROLES)}", ROLES),
        _one_of("verdicts", "verdict", "the verdict is correct, wrong or abstain", ("correct", "wrong", "abstain")),
        _true("verdicts", "has_score_or_abstains", "there is a score unless the verifier abstained"),
        _between("rules", "rule_verdicts", "each trajectory has one verdict of the rule", 1, 1),
        _between(
            "abstentions", "share_of_all", f"the rule abstains on at most {limits.abstain:.3g} of the rows",
            high=limits.abstain,
        ),
        _between(
            "abstentions", "least_share_of_environment",
            f"in each environment it abstains on at most {limits.abstain:.3g} of the rows, within three standard errors",
            high=limits.abstain,
        ),
    ]  # fmt: skip


def _batch(limits: Limits) -> list[Check]:
    size, other = limits.group_size, limits.critique_group_size
    sizes = [] if size is None else [_between("groups", "rows", f"each group has {size} rows", size, size)]
    if size is not None and other not in (None, size):
        sizes = [_one_of("groups", "rows", f"each group has {size} rows, {other} of critiques", (size, other))]
    return [
        _some("rows", "there are rows"),
        _some("steps", "there are rows to train on"),
        _between("steps", "rows", "each optimizer step has rows", low=1),
        *sizes,
        _between("rows", "occurrences", "a trajectory is offered once", high=1),
        _true("rows", "trajectory_known", "the trajectory exists"),
        _true("rows", "kept_or_reason_given", "a row is kept or says why not"),
        _one_of("rows", "drop_reason", f"the reason is one of {', '.join(filter(None, DROP_REASONS))}", DROP_REASONS),
        _true("rows", "has_step_where_kept", "kept rows have an optimizer step"),
        _true("rows", "has_tokens_where_kept", "kept rows have tokens"),
        _true("rows", "finite_advantage_where_kept", "kept rows have a finite advantage"),
        _between("rows", "reference_logprobs_minus_tokens", "reference log-probabilities fit the tokens", 0, 0),
        _between("rows", "token_advantages_minus_tokens", "token advantages fit the tokens", 0, 0),
        *_stream_checks("rows"),
    ]
