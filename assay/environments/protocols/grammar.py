"""The recipe grammar: lines of work, their actions with conditions before and after, and the points a protocol leads from and to.

A state is a set of facts (STRIPS, Fikes and Nilsson 1971): a move needs some, gives some and removes some.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from assay.environments.protocols.materials import ROLES, SAMPLES, USUAL

Facts = frozenset[str]


@dataclass(frozen=True)
class Move:
    """An action on a given bench, with its conditions: a step of a protocol before amounts are known."""

    action: str
    objects: tuple[str, ...]
    parameters: tuple[str, ...]
    """As they usually are; of `add` empty, for amounts are a question's."""
    needs: Facts
    gives: Facts
    removes: Facts = frozenset()


@dataclass(frozen=True)
class Action:
    """A schema of moves. In its texts `{vessel}`, `{sample}` and the names of roles in braces are filled in."""

    verb: str
    objects: tuple[str, ...]
    needs: tuple[str, ...]
    gives: tuple[str, ...]
    removes: tuple[str, ...] = ()
    usual: str | None = None
    """Key of USUAL; None where it takes no parameters."""


@dataclass(frozen=True)
class Point:
    """A state that a protocol can begin or end with. As a goal, the fact of its name is asked for, and those of all reagents where
    `facts` has them (`in:*`)."""

    name: str
    words: str
    facts: tuple[str, ...]
    """That hold at a start, beside what is at hand."""


@dataclass(frozen=True)
class Line:
    """A line of work: reagents are added to a vessel, then something is done with it."""

    name: str
    vessel: str
    samples: tuple[str, ...]
    added: tuple[str, ...]
    """Roles of the reagents that go in."""
    optional: tuple[str, ...]
    """Those of them of which a recipe has at least one, but not always all."""
    others: tuple[str, ...]
    """Roles that are used otherwise."""
    open: str | None
    """Fact without which nothing can be added."""
    spoils: tuple[str, ...]
    """Facts that adding something ends."""
    actions: tuple[Action, ...]
    points: tuple[Point, ...]
    """In the order in which a protocol passes them. Reagents are at hand at the first alone: at the others they are in."""
    goals: tuple[str, ...]
    """Points that are worth a whole protocol; the others end sections."""


_MIX = Action("mix", ("{vessel}",), ("wet",), ("mixed", "unspun"), ("spun",), "mix")
LINES: tuple[Line, ...] = (
    Line(
        "wash", "tube", SAMPLES, ("wash",), (), ("dye",), "unspun", ("mixed", "washed"),
        (
            _MIX,
            Action("spin", ("{vessel}",), ("mixed",), ("spun",), ("mixed", "unspun"), "spin {sample}"),
            Action("discard", ("supernatant",), ("spun",), ("washed", "unspun"), ("spun", "wet")),
            Action("stain", ("{sample}", "{dye}"), ("washed", "have:{dye}"), ("stained",), ("have:{dye}",), "stain {dye}"),
            Action("image", ("{sample}",), ("stained",), ("imaged",)),
        ),
        (
            Point("dry", "dry {sample}", ("unspun",)),
            Point("wet", "{sample} in {wash}", ("wet", "unspun")),
            Point("mixed", "mixed {sample}", ("wet", "mixed", "unspun")),
            Point("spun", "spun {sample}", ("wet", "spun")),
            Point("washed", "washed {sample}", ("washed", "unspun")),
            Point("stained", "stained {sample}", ("washed", "stained", "unspun")),
            Point("imaged", "image of {sample}", ()),
        ),
        ("washed", "stained", "imaged"),
    ),
    Line(
        "extract", "tube", SAMPLES, ("detergent",), (), (), "unspun", ("mixed", "cold"),
        (
            _MIX,
            Action("chill", ("{vessel}",), ("wet",), ("cold",), (), "chill"),
            Action("spin", ("{vessel}",), ("mixed", "cold"), ("spun",), ("mixed", "unspun"), "spin {sample}"),
            Action("collect", ("extract",), ("spun",), ("collected",), ("spun", "wet", "cold")),
            Action("store", ("extract",), ("collected",), ("stored",), (), "store"),
        ),
        (
            Point("dry", "dry {sample}", ("unspun",)),
            Point("wet", "{sample} in {detergent}", ("wet", "unspun")),
            Point("mixed", "lysed {sample}", ("wet", "mixed", "unspun")),
            Point("spun", "spun lysate of {sample}", ("wet", "cold", "spun")),
            Point("collected", "extract of {sample}", ("collected",)),
            Point("stored", "stored extract of {sample}", ()),
        ),
        ("collected", "stored"),
    ),
    Line(
        "solution", "flask", SAMPLES[:1], ("solvent", "salt", "sugar"), ("salt", "sugar"), (), None, ("mixed", "hot", "clear", "stored"),
        (
            Action("mix", ("{vessel}",), ("wet",), ("mixed",), (), "mix"),
            Action("heat", ("{vessel}",), ("mixed",), ("hot",), (), "heat"),
            Action("filter", ("solution",), ("hot",), ("clear",)),
            Action("store", ("solution",), ("clear",), ("stored",), ("hot",), "store"),
        ),
        (
            Point("empty", "empty flask", ()),
            Point("mixed", "mixed solution", ("in:*", "wet", "mixed")),
            Point("hot", "hot solution", ("in:*", "wet", "mixed", "hot")),
            Point("clear", "clear solution", ("in:*", "wet", "mixed", "hot", "clear")),
            Point("stored", "stored solution", ("in:*",)),
        ),
        ("clear", "stored"),
    ),
    Line(
        "culture", "flask", SAMPLES, ("agar", "solvent"), (), (), "unpoured", ("molten",),
        (
            Action("boil", ("{vessel}",), ("wet", "in:agar"), ("molten",), (), "boil"),
            Action("pour", ("plate",), ("molten",), ("poured",), ("molten", "wet", "unpoured")),
            Action("streak", ("{sample}",), ("poured",), ("streaked",)),
            Action("incubate", ("plate",), ("streaked",), ("grown",), (), "incubate {sample}"),
            Action("count", ("colonies",), ("grown",), ("counted",)),
        ),
        (
            Point("empty", "empty flask", ("unpoured",)),
            Point("molten", "molten agar", ("in:*", "wet", "molten", "unpoured")),
            Point("poured", "agar plate", ("in:*", "poured")),
            Point("streaked", "plate with {sample}", ("in:*", "poured", "streaked")),
            Point("grown", "grown {sample}", ("in:*", "poured", "streaked", "grown")),
            Point("counted", "counted {sample}", ("in:*",)),
        ),
        ("poured", "grown", "counted"),
    ),
)  # fmt: skip
VERBS = tuple(sorted({"add", *(action.verb for line in LINES for action in line.actions)}))


@dataclass(frozen=True)
class Setup:
    """What a question is about, but for amounts: a line, its materials, and from where to where."""

    line: str
    sample: str
    reagents: tuple[tuple[str, str], ...]
    """(role, material) of the roles that it uses; the order of those that are added is the order in which they go in."""
    start: str
    goal: str

    @property
    def added(self) -> list[str]:
        """Reagents that go into the vessel, or are in it."""
        return [material for role, material in self.reagents if role in line_of(self.line).added]

    @property
    def at_hand(self) -> list[str]:
        """Reagents that are not in yet."""
        line = line_of(self.line)
        return [material for role, material in self.reagents if role not in line.added or self.start == line.points[0].name]

    def words(self) -> tuple[str, str]:
        """Start and goal, as a question says them."""
        line = line_of(self.line)
        names = _names(line, self)
        start, goal = (next(point.words for point in line.points if point.name == name) for name in (self.start, self.goal))
        return start.format(**names), goal.format(**names)


@dataclass(frozen=True)
class Bench:
    """A setup as a problem of planning."""

    moves: tuple[Move, ...]
    """All that can be done; of equally short protocols the one whose moves come first here is preferred."""
    start: Facts
    goal: Facts


def line_of(name: str) -> Line:
    """The line of work of that name, one of LINES. Raises StopIteration for another."""
    return next(line for line in LINES if line.name == name)


@lru_cache(maxsize=8192)
def bench_of(setup: Setup) -> Bench:
    """Moves, start and goal of a setup."""
    line = line_of(setup.line)
    names = _names(line, setup)
    moves = [_adding(line, role, material) for role, material in setup.reagents if role in line.added]
    moves += [_ground(action, names) for action in line.actions if _fields(action) <= set(names)]
    facts = {point.name: {fact for fact in point.facts if fact != "in:*"} for point in line.points}
    everything = {f"in:{material}" for material in setup.added}
    start = facts[setup.start] | {f"have:{material}" for material in setup.at_hand}
    if setup.start != line.points[0].name:
        start |= everything
    together = any("in:*" in point.facts for point in line.points)
    return Bench(tuple(moves), frozenset(start), frozenset({setup.goal} | (everything if together else set())))


def setups() -> list[Setup]:
    """Every setup there is, whatever the length of its protocol; in a fixed order."""
    found = []
    for line in LINES:
        order = [point.name for point in line.points]
        for roles in _recipes(line):
            materials = product(*(ROLES[role].materials for role in roles))
            for chosen, sample in product(list(materials), line.samples):
                reagents = tuple(zip(roles, chosen, strict=True))
                for place, start in enumerate(order):
                    found += [Setup(line.name, sample, reagents, start, goal) for goal in order[place + 1 :]]
    return found


def _recipes(line: Line) -> Iterable[tuple[str, ...]]:
    """The roles that a recipe can use: all but some of the optional ones, and with or without each of the others."""
    fixed = [role for role in line.added if role not in line.optional]
    for kept in product((True, False), repeat=len(line.optional)):
        chosen = [role for role, keep in zip(line.optional, kept, strict=True) if keep]
        if line.optional and not chosen:
            continue
        for more in product((False, True), repeat=len(line.others)):
            yield (*fixed, *chosen, *(role for role, keep in zip(line.others, more, strict=True) if keep))


def _names(line: Line, setup: Setup) -> dict[str, str]:
    return {"vessel": line.vessel, "sample": setup.sample, **dict(setup.reagents)}


def _adding(line: Line, role: str, material: str) -> Move:
    at_hand = f"have:{material}"
    needs = {at_hand} if line.open is None else {at_hand, line.open}
    gives = {f"in:{material}"} | ({"wet"} if ROLES[role].type == "liquid" else set())
    return Move("add", (material,), (), frozenset(needs), frozenset(gives), frozenset({at_hand, *line.spoils}))


def _fields(action: Action) -> set[str]:
    texts = [*action.objects, *action.needs, *action.gives, *action.removes, action.usual or ""]
    return {part.split("}")[0] for text in texts for part in text.split("{")[1:]}


def _ground(action: Action, names: Mapping[str, str]) -> Move:
    def filled(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(text.format(**names) for text in texts)

    usual = USUAL[action.usual.format(**names)] if action.usual else ()
    needs, gives, removes = (frozenset(filled(texts)) for texts in (action.needs, action.gives, action.removes))
    return Move(action.verb, filled(action.objects), usual, needs, gives, removes)
