"""Which candidates become tasks: duplicates, contamination and prompts that are too long are dropped and counted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from assay.environments.bad_rows import REASONS
from assay.environments.base import Candidate, Environment
from assay.environments.task import Task

Progress = Callable[[str, int, int], None]
Counts = dict[str, dict[str, dict[str, int]]]
"""environment -> split or "demonstrations" -> what -> number."""
DROPS = ("duplicates", "contamination", "conflicting_gold", "too_long", *REASONS)
"""Why a candidate is dropped: its prompt is in this split already; it is in a split that was chosen before (eval,
ood, then train), also where it differs only in case or white space; it is known with another gold; it has more tokens
than policy.max_prompt_tokens; its row is bad."""
PATIENCE = 4
"""Draws for each task that is asked for, beyond the first thousand, before an environment is taken to have no more."""
LONG_PATIENCE = 100
"""The same of prompts that are too long, beyond the first ten thousand: of a data set they may be most of the rows."""


@dataclass
class Seen:
    """Prompts that are taken, and those that no split may have."""

    exact: dict[str, tuple[str, str]] = field(default_factory=dict)
    """prompt -> (split, gold)"""
    loose: dict[str, str] = field(default_factory=dict)
    """prompt without case and white space -> split"""
    too_long: Callable[[Task], bool] = lambda task: False

    def refuse(self, task: Task) -> str | None:
        """Why the task may not be added, or None after adding it."""
        if self.too_long(task):
            return "too_long"
        exact, loose = task.prompt_key, task.contamination_key
        if exact in self.exact:
            split, gold = self.exact[exact]
            if split != task.split:
                return "contamination"
            return "duplicates" if gold == task.gold else "conflicting_gold"
        if self.loose.get(loose, task.split) != task.split:
            return "contamination"
        self.exact[exact] = (task.split, task.gold)
        self.loose[loose] = task.split
        return None


def collect(
    environment: Environment, split: str, wanted: int, refuse: Callable[[Task], str | None], progress: Progress | None
) -> tuple[list[Candidate], dict[str, int]]:
    """Candidates until enough are kept, or until so many in a row brought nothing new that a finite family must be
    exhausted: of equally likely tasks, ten times as many draws as were found miss the last one with probability e^-10.
    Where tasks are far from equally likely, rare ones would be drawn for without end: `patience` bounds the draws.
    """
    count = {"requested": wanted, "kept": 0, "generated": 0} | dict.fromkeys(DROPS, 0)
    kept: list[Candidate] = []
    stale = 0
    candidates = environment.candidates(split)
    patience = 1000 + PATIENCE * wanted
    while (
        len(kept) < wanted
        and stale <= 1000 + 10 * len(kept)
        and count["generated"] - count["too_long"] < patience
        and count["too_long"] <= 10_000 + LONG_PATIENCE * len(kept)
        and (candidate := next(candidates, None)) is not None
    ):
        count["generated"] += 1
        reason = candidate.drop or refuse(candidate.task)
        if reason is not None:
            count[reason] += 1
            stale += reason != "too_long"
            continue
        stale = 0
        kept.append(candidate)
        if progress is not None:
            progress(f"{environment.name}, {split}", len(kept), wanted)
    count["kept"] = len(kept)
    return kept, count


def empty(name: str, split: str, count: Mapping[str, int], limit: int) -> str:
    """What an error says of a split without tasks. limit: policy.max_prompt_tokens."""
    if count["generated"] and count["too_long"] == count["generated"]:
        return (
            f"environments.{name}: split {split} is empty: the prompts of all its {count['generated']} candidates are longer than "
            f"policy.max_prompt_tokens ({limit}): raise it"
        )
    dropped = ", ".join(f"{count[reason]} {reason}" for reason in DROPS if count[reason]) or "it offers none"
    return (
        f"environments.{name}: split {split} is empty: {count['generated']} candidates, of which none "
        f"is left ({dropped}). Ask for fewer tasks of the splits chosen before it (eval, ood), or give the "
        "environment more different tasks"
    )


def remarks(counts: Counts, limit: int) -> list[str]:
    """Sentences about splits that have fewer tasks than were asked for, and about prompts that are too long."""
    found = []
    for name, parts in counts.items():
        for what, count in parts.items():
            if count["too_long"]:
                found.append(
                    f"environments.{name}: {what}: {count['too_long']} of {count['generated']} candidates are dropped, as their "
                    f"prompts are longer than policy.max_prompt_tokens ({limit})"
                )
            if count["kept"] < count["requested"]:
                why = "it has no more different tasks" if not count["gold_unreadable"] else "bad rows are left out"
                found.append(f"environments.{name}: {what}: {count['kept']} instead of {count['requested']}, {why}")
    return found


def describe(counts: Counts) -> str:
    """The counts as a table for the terminal: a line for each environment and split."""
    columns = ("requested", "kept", "generated", *DROPS, "reused")
    lines = [["environment", "split", *columns]]
    for name, parts in counts.items():
        lines += [[name, what, *(str(count.get(column, "")) for column in columns)] for what, count in parts.items()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [[cell.ljust(w) for cell, w in zip(line[:2], widths[:2], strict=True)] for line in lines]
    numbers = [[cell.rjust(w) for cell, w in zip(line[2:], widths[2:], strict=True)] for line in lines]
    return "\n".join("  ".join([*left, *right]) for left, right in zip(table, numbers, strict=True))
