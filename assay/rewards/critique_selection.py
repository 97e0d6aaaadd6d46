"""Which solutions are put before the policy to be judged, out of a batch that is stored group by group.

Choices are by hash of (seed, row), so that they are the same in every process and whatever the order of the rows.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Literal

from assay.rewards.critiques import SelfVerificationError
from assay.trajectories.identity import content_hash

Selection = Literal["uniform", "first_groups", "stratified"]


def choose_for_critique(
    rows: Sequence[str],
    groups: Sequence[str],
    count: int,
    *,
    seed: int,
    how: Selection = "uniform",
    levels: Sequence[Hashable] | None = None,
) -> list[int]:
    """Indices of `count` rows, in the order of the rows.

    rows, groups: trajectory and group ids, leave abstained rows out before. uniform: every group gives one row, then every group a second
    one, and so on until the count is reached, groups in a random order; within a group rows are drawn at random without replacement.
    first_groups: groups in the order of the rows, as the paper's code has it (the same distribution where data are shuffled). stratified:
    the levels (targets) give one row each in turn, so that they are as even as the batch allows; in the paper, early batches are almost
    all of one level, and a critic learns a constant. Raises SelfVerificationError for a count above the number of rows or below 0, ids
    that repeat, and stratified without levels.
    """
    if len(rows) != len(groups) or (levels is not None and len(levels) != len(rows)):
        raise SelfVerificationError(f"{len(rows)} rows, {len(groups)} groups and {'no' if levels is None else len(levels)} levels")
    if not 0 <= count <= len(rows):
        raise SelfVerificationError(f"{count} solutions are to be judged, but there are {len(rows)}: lower the number of critique prompts")
    if len(set(rows)) != len(rows):
        raise SelfVerificationError("a trajectory id occurs twice among the solutions to be judged")
    if how not in ("uniform", "first_groups", "stratified"):
        raise SelfVerificationError(f"selection is {how!r}, expected uniform, first_groups or stratified")
    if how == "stratified" and levels is None:
        raise SelfVerificationError("a stratified selection needs the level of each solution")

    strata = groups if how != "stratified" or levels is None else levels
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, stratum in enumerate(strata):
        members[stratum].append(index)
    for indices in members.values():
        indices.sort(key=lambda index: content_hash("critique", seed, rows[index]))
    order = list(members)
    if how != "first_groups":
        # Also by what is in it: of levels, which are few, always the same one would get the remainder of each batch.
        order.sort(key=lambda stratum: content_hash("critique group", seed, str(stratum), min(str(rows[i]) for i in members[stratum])))
    turns = ((turn, place, index) for place, stratum in enumerate(order) for turn, index in enumerate(members[stratum]))
    return sorted(index for _, _, index in sorted(turns)[:count])
