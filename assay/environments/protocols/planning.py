"""Protocols found by forward search over the grammar's states, and the partial order of their steps."""

from collections import deque
from collections.abc import Iterator, Sequence
from functools import lru_cache

from assay.environments.protocols.grammar import Bench, Facts, Move

Pairs = tuple[tuple[int, int], ...]


@lru_cache(maxsize=4096)
def plan(bench: Bench) -> tuple[Move, ...] | None:
    """The shortest protocol from start to goal, of equally short ones the first in the order of the bench's moves; None where there is
    none."""
    paths: dict[Facts, tuple[Move, ...]] = {bench.start: ()}
    queue = deque([bench.start])
    while queue:
        state = queue.popleft()
        if bench.goal <= state:
            return paths[state]
        for move in bench.moves:
            after = apply(state, move)
            if after is not None and after not in paths:
                paths[after] = (*paths[state], move)
                queue.append(after)
    return None


def apply(state: Facts, move: Move) -> Facts | None:
    """The state after a move; None where it lacks what the move needs."""
    return (state - move.removes) | move.gives if move.needs <= state else None


def reaches(bench: Bench, moves: Sequence[Move]) -> bool:
    """Whether the moves can be made in this order, and end in the goal."""
    state: Facts | None = bench.start
    for move in moves:
        state = None if state is None else apply(state, move)
    return state is not None and bench.goal <= state


@lru_cache(maxsize=4096)
def before(moves: tuple[Move, ...]) -> Pairs:
    """Pairs (i, j) of places, from 1, such that step i must stay before step j; steps in no pair, not even through others, commute.

    Two steps may not change places where one gives or removes what the other needs, or one removes what the other gives. Pairs that follow
    from others are in it too.
    """
    count = len(moves)
    tied = {(i, j) for j in range(count) for i in range(j) if _depend(moves[i], moves[j])}
    for middle in range(count):
        tied |= {(i, j) for i in range(middle) for j in range(middle + 1, count) if {(i, middle), (middle, j)} <= tied}
    return tuple(sorted((i + 1, j + 1) for i, j in tied))


def _depend(first: Move, second: Move) -> bool:
    return any(
        one.gives & other.needs or one.removes & other.needs or one.removes & other.gives
        for one, other in ((first, second), (second, first))
    )


def orders(count: int, pairs: Pairs) -> Iterator[tuple[int, ...]]:
    """All orders of `count` steps, as places from 1, that the pairs allow."""

    def extend(taken: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(taken) == count:
            yield taken
        for place in range(1, count + 1):
            if place not in taken and all(i in taken for i, j in pairs if j == place):
                yield from extend((*taken, place))

    yield from extend(())


def layers(count: int, pairs: Pairs) -> list[list[int]]:
    """Places by the length of the longest chain of steps before them."""
    depth: dict[int, int] = {}
    for place in range(1, count + 1):
        depth[place] = 1 + max((depth[i] for i, j in pairs if j == place), default=-1)
    return [[place for place in depth if depth[place] == level] for level in range(max(depth.values(), default=-1) + 1)]
