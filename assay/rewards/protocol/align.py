"""Which predicted step answers which gold step, by their actions, and how far two orders of actions agree."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Hashable, Sequence


def _places(gold: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, action in enumerate(gold, 1):
        places[action].append(place)
    return places


def align_as_figured(predicted: Sequence[Hashable], gold: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Pairs (i, j), from 1: each predicted action with the first equal gold action after the last matched one; one without a partner is
    passed over and changes nothing. The paper's method figure, and the reward."""
    places, last, pairs = _places(gold), 0, []
    for i, action in enumerate(predicted, 1):
        of_action = places.get(action, [])
        at = bisect_left(of_action, last + 1)
        if at < len(of_action):
            last = of_action[at]
            pairs.append((i, last))
    return pairs


def align_as_evaluated(predicted: Sequence[Hashable], gold: Sequence[Hashable]) -> list[tuple[int, int]]:
    """The same by the published evaluator, whose pointer runs to the end in a failed search: one action out of place ends the alignment.
    Kept to reproduce its figures."""
    pointer, pairs = 0, []
    for i, action in enumerate(predicted, 1):
        while pointer < len(gold) and gold[pointer] != action:
            pointer += 1
        if pointer == len(gold):
            break
        pointer += 1
        pairs.append((i, pointer))
    return pairs


def lcs_length(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence: bit-parallel (Hyyrö 2004), so that thousands of steps cost milliseconds."""
    masks: dict[Hashable, int] = defaultdict(int)
    for place, item in enumerate(first):
        masks[item] |= 1 << place
    full = (1 << len(first)) - 1
    column = full
    for item in second:
        matched = column & masks.get(item, 0)
        column = ((column + matched) | (column - matched)) & full
    return len(first) - column.bit_count()


def is_subsequence(part: Sequence[Hashable], whole: Sequence[Hashable]) -> bool:
    """Whether `part` is left of `whole` after items are taken out."""
    rest = iter(whole)
    return all(item in rest for item in part)
