"""A seeded walk through names, taken up where it ended: nothing is carried along but the position."""

import random
from collections.abc import Sequence

from assay.trajectories import seed_from


def draw(names: Sequence[str], count: int, position: int, seed: int) -> list[str]:
    """The `position`-th run of `count` names on an endless walk through seeded permutations of `names`, one per epoch.
    """
    start, drawn = position * count, []
    for epoch in range(start // len(names), (start + count - 1) // len(names) + 1):
        order = list(names)
        random.Random(seed_from(seed, "epoch", epoch)).shuffle(order)
        first = epoch * len(names)
        drawn += order[max(start - first, 0) : start + count - first]
    return drawn
