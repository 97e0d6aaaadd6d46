"""Tasks of the eight types about a setup: what is asked, the gold, and the bench that the executor is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

from assay.environments.protocols.grammar import VERBS, Bench, Move, Setup, bench_of
from assay.environments.protocols.materials import CAUTION, HAZARDS, IDLE_ACTIONS, ROLES, SHEETS
from assay.environments.protocols.planning import before, plan, reaches
from assay.environments.protocols.writing import Line, sketch_and_fill, thought
from assay.params.protocols import ProtocolType

FACTORS = (2, 3)
LEVELS: dict[ProtocolType, str] = {"overview": "comprehension", "specific": "comprehension"}
"""Of a type; all others are problem solving."""


@dataclass(frozen=True)
class Question:
    """A task but for its name and split."""

    prompt: str
    lines: tuple[Line, ...]
    """Of the gold."""
    think: str
    note: str
    before: tuple[tuple[int, int], ...]
    """The partial order of the gold's steps: see `planning.before`."""
    actions: tuple[str, ...]
    """That the prompt offers."""
    bench: dict[str, Any]
    """What the executor needs to know: JSON-able."""

    @property
    def gold(self) -> str:
        return sketch_and_fill(self.think, self.lines, self.note)


@lru_cache(maxsize=8192)
def moves_of(setup: Setup) -> tuple[Move, ...]:
    """The gold's moves, empty where there is no protocol."""
    return plan(bench_of(setup)) or ()


def fits(setup: Setup, kind: ProtocolType, goals: Sequence[str], steps: tuple[int, int]) -> bool:
    """Whether a question of a type can be asked about a setup. `goals`: of its line."""
    moves = moves_of(setup)
    if not steps[0] <= len(moves) <= steps[1] or not _is_used(setup, moves):
        return False
    if kind == "specific":
        return setup.goal not in goals
    if setup.goal not in goals:
        return False
    if kind == "retrieval":
        return any(move.action in SHEETS for move in moves)
    if kind == "scaling":
        return any(move.action == "add" for move in moves)
    if kind == "constraint":
        return bool(_substitutable(setup))
    return kind != "safety" or bool(_hazards(moves))


def ask(setup: Setup, kind: ProtocolType, distractors: tuple[int, int], random: Random) -> Question:
    """A question of a type about a setup that it `fits`."""
    setup = _shuffled(setup, random)
    bench, moves = bench_of(setup), moves_of(setup)
    pairs = before(moves)
    factor = random.choice(FACTORS) if kind == "scaling" else 1
    have = {material: random.choice(ROLES[role].amounts or ("",)) for role, material in setup.reagents if material in setup.at_hand}
    sheet = {move.action: random.choice(SHEETS[move.action]) for move in moves if move.action in SHEETS} if kind == "retrieval" else None
    outline = kind == "overview"
    lines = tuple(_line(move, have, factor, sheet, outline) for move in moves)
    actions = _offered(moves, distractors, random)
    shown, forbidden = dict(have), []
    if kind == "constraint":
        role, material = random.choice(_substitutable(setup))
        forbidden = [random.choice([other for other in ROLES[role].materials if other != material])]
        shown = _inserted(shown, forbidden[0], random.choice(ROLES[role].amounts or ("",)), random)
    begin, end = setup.words()
    parts = [f"{kind}: {begin} to {end}"]
    if shown:
        parts.append("have " + ", ".join(name if outline or not amount else f"{name} {amount}" for name, amount in shown.items()))
    parts += _demands(kind, factor, forbidden, sheet, moves, bench, random)
    parts.append(f"actions: {', '.join(actions)}")
    described = {
        "line": setup.line, "sample": setup.sample, "start": setup.start, "goal": setup.goal, "have": shown, "factor": factor,
        "without": forbidden, "sheet": None if sheet is None else {verb: list(values) for verb, values in sheet.items()},
        "outline": outline, "hazards": kind == "safety", "allowed": list(actions),
        "in": [material for material in setup.added if material not in setup.at_hand],
    }  # fmt: skip
    note = ", ".join(f"{name} {HAZARDS[name]}" for name in _hazards(moves)) if kind == "safety" else CAUTION
    return Question(". ".join(parts), lines, thought(lines, pairs), note, pairs, actions, described)


def _line(move: Move, have: dict[str, str], factor: int, sheet: dict[str, tuple[str, ...]] | None, outline: bool) -> Line:
    if outline:
        return Line(move.action, move.objects, ())
    if move.action == "add":
        number, unit = have[move.objects[0]].split()
        return Line("add", move.objects, (f"{int(number) * factor} {unit}",))
    return Line(move.action, move.objects, move.parameters if sheet is None else sheet.get(move.action, move.parameters))


def _demands(
    kind: ProtocolType, factor: int, forbidden: list[str], sheet: dict[str, tuple[str, ...]] | None, moves: Sequence[Move], bench: Bench,
    random: Random,
) -> list[str]:  # fmt: skip
    """What the question says beside start, goal, materials and actions."""
    if kind == "scaling":
        return [f"times {factor}"]
    if kind == "constraint":
        return [f"no {forbidden[0]}"]
    if sheet is not None:
        verbs = random.sample(sorted(sheet), len(sheet))
        return ["sheet: " + ", ".join(f"{verb} {' '.join(sheet[verb])}" for verb in verbs)]
    if kind == "troubleshooting":
        return ["tried " + ", ".join(move.action for move in _flawed(moves, bench, random))]
    return []


def _flawed(moves: Sequence[Move], bench: Bench, random: Random) -> list[Move]:
    """The protocol with a step left out, or two steps in a row exchanged, so that it fails."""
    left_out = [[*moves[:i], *moves[i + 1 :]] for i in range(len(moves))]
    exchanged = [[*moves[:i], moves[i + 1], moves[i], *moves[i + 2 :]] for i in range(len(moves) - 1)]
    return random.choice([tried for tried in left_out + exchanged if not reaches(bench, tried)])


def _offered(moves: Sequence[Move], distractors: tuple[int, int], random: Random) -> tuple[str, ...]:
    needed = sorted({move.action for move in moves})
    others = [verb for verb in (*VERBS, *IDLE_ACTIONS) if verb not in needed]
    offered = needed + random.sample(others, min(len(others), random.randint(*distractors)))
    return tuple(random.sample(offered, len(offered)))


def _shuffled(setup: Setup, random: Random) -> Setup:
    """With the reagents in another order: where several are added, the gold follows the order in which they are at hand."""
    return Setup(setup.line, setup.sample, tuple(random.sample(setup.reagents, len(setup.reagents))), setup.start, setup.goal)


def _is_used(setup: Setup, moves: Sequence[Move]) -> bool:
    """Whether the protocol needs all that is at hand; otherwise the same question is asked about a smaller setup."""
    return set(setup.at_hand) <= {name for move in moves for name in move.objects}


def _substitutable(setup: Setup) -> list[tuple[str, str]]:
    """(role, material) of what is still at hand and has a substitute."""
    return [(role, name) for role, name in setup.reagents if name in setup.at_hand and len(ROLES[role].materials) > 1]


def _hazards(moves: Sequence[Move]) -> list[str]:
    """Dangerous materials and actions, in the order of their use."""
    return list(dict.fromkeys(name for move in moves for name in (*move.objects, move.action) if name in HAZARDS))


def _inserted(have: dict[str, str], name: str, amount: str, random: Random) -> dict[str, str]:
    items = list(have.items())
    items.insert(random.randint(0, len(items)), (name, amount))
    return dict(items)
