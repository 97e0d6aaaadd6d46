"""Rows of a user's data that can be no task: an error, or, where they are few and bad_rows says so, dropped and counted."""

from collections.abc import Mapping

from assay.environments.task import TaskError

LIMIT = 0.05
"""Largest share of rows that may be dropped: more is a mistake about the data, a wrong column or verifier say."""
REASONS = {
    "gold_empty": "the gold is null or empty",
    "gold_unreadable": "the gold is neither text nor a finite number, or the verifier cannot read it",
    "prompt_unreadable": "the prompt is empty or no list of messages",
}
_SHOWN = 5  # rows named


def note_of(what: str, key: str, bad: Mapping[str, list[str]], total: int) -> str | None:
    """The sentence about what is dropped, None where nothing is. what: a person's name of the data. key: of its section. bad: where, by
    reason. Raises TaskError where they are more than LIMIT of `total` rows."""
    number = sum(map(len, bad.values()))
    if not number:
        return None
    shown = "; ".join(f"{REASONS[reason]}: {', '.join(places[:_SHOWN])}" for reason, places in bad.items() if places)
    if number > LIMIT * total:
        raise TaskError(
            f"{what}: {number} of {total} rows are bad, more than the {LIMIT:.0%} that {key}.bad_rows: drop leaves out ({shown}): correct "
            "or remove them, or choose another column or verifier"
        )
    return f"{what}: {number} of {total} rows are left out ({shown})"
