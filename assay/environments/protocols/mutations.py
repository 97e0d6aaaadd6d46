"""Protocols with one fault: noise for a warm start, and what an executor must find."""

from collections.abc import Callable, Sequence
from random import Random

from assay.environments.protocols.materials import ROLES, SHEETS
from assay.environments.protocols.writing import Line

Lines = list[Line]
_MATERIALS = tuple(name for role in ROLES.values() for name in role.materials)


def dropped(lines: Sequence[Line], random: Random) -> Lines:
    """Without one step; a protocol of one step stays."""
    if len(lines) < 2:
        return list(lines)
    place = random.randrange(len(lines))
    return [*lines[:place], *lines[place + 1 :]]


def duplicated(lines: Sequence[Line], random: Random) -> Lines:
    """With one step twice."""
    place = random.randrange(len(lines))
    return [*lines[: place + 1], *lines[place:]]


def swapped(lines: Sequence[Line], random: Random) -> Lines:
    """With two neighbours exchanged."""
    if len(lines) < 2:
        return list(lines)
    place = random.randrange(len(lines) - 1)
    return [*lines[:place], lines[place + 1], lines[place], *lines[place + 2 :]]


def misparametered(lines: Sequence[Line], random: Random) -> Lines:
    """With the parameters of one step changed; as it is where no step has any."""
    places = [place for place, line in enumerate(lines) if line.parameters]
    if not places:
        return list(lines)
    place = random.choice(places)
    line = lines[place]
    others = SHEETS.get(line.action) or tuple((amount,) for role in ROLES.values() for amount in role.amounts)
    changed = random.choice([values for values in others if values != line.parameters])
    return [*lines[:place], Line(line.action, line.objects, changed), *lines[place + 1 :]]


def misplaced_object(lines: Sequence[Line], random: Random) -> Lines:
    """With another material in place of an object."""
    place = random.randrange(len(lines))
    line = lines[place]
    wrong = random.choice([name for name in _MATERIALS if name not in line.objects])
    return [*lines[:place], Line(line.action, (wrong, *line.objects[1:]), line.parameters), *lines[place + 1 :]]


MUTATIONS: dict[str, Callable[[Sequence[Line], Random], Lines]] = {
    "dropped": dropped,
    "duplicated": duplicated,
    "swapped": swapped,
    "misparametered": misparametered,
    "misplaced_object": misplaced_object,
}


def corrupt(lines: Sequence[Line], random: Random) -> Lines:
    """With one fault of a kind drawn at random."""
    return MUTATIONS[random.choice(list(MUTATIONS))](lines, random)
