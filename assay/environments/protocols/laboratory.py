"""A bench on which steps are carried out: what happens to vessel, sample and reagents, and what cannot be done.

Part of the executor, and like it independent: it imports nothing of ours, and what it knows of materials is written down here once more.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

_QUANTITY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?([a-z]+)")
_UNITS: dict[str, tuple[str, Fraction]] = {
    "ml": ("volume", Fraction(1)), "l": ("volume", Fraction(1000)), "ul": ("volume", Fraction(1, 1000)),
    "g": ("mass", Fraction(1)), "mg": ("mass", Fraction(1, 1000)), "s": ("time", Fraction(1)), "min": ("time", Fraction(60)),
    "h": ("time", Fraction(3600)), "d": ("time", Fraction(86400)), "xg": ("speed", Fraction(1)), "c": ("temperature", Fraction(1)),
}  # fmt: skip
Quantities = dict[str, Fraction]
WASHES, DETERGENTS, DYES = {"buffer", "saline"}, {"triton", "sds"}, {"eosin": (1, 3), "iodine": (4, 8)}
"""Dyes with the minutes that they take."""
LIQUIDS = WASHES | DETERGENTS | {"water", "broth"}
SPEEDS = {"cells": (200, 500), "yeast": (800, 1500), "algae": (400, 800)}
WARMTH = {"cells": (35, 39), "yeast": (28, 32), "algae": (20, 26)}
WARNINGS: dict[str, str] = {
    "triton": "irritant", "sds": "irritant", "eosin": "stain", "iodine": "toxic", "boil": "burn", "heat": "burn", "spin": "balance",
}  # fmt: skip


class Stop(Exception):
    """A step that cannot be carried out; the message says why."""


@dataclass
class Lab:
    """The bench as it is now."""

    line: str
    sample: str
    vessel: str
    have: dict[str, str]
    factor: int
    without: set[str]
    sheet: dict[str, list[str]] | None
    outline: bool
    inside: set[str]
    """Reagents that were put into the vessel."""
    fluid: bool = False
    stirred: bool = False
    packed: bool = False
    """Spun down, with the liquid above."""
    lysed: bool = False
    washed: bool = False
    cold: bool = False
    hot: bool = False
    clear: bool = False
    molten: bool = False
    marks: set[str] = field(default_factory=set)
    """What was made: stained, imaged, collected, stored, poured, streaked, grown, counted."""
    used: set[str] = field(default_factory=set)


def quantities(parameters: list[str]) -> Quantities:
    """By what they measure, in ml, g, seconds, xg and degrees."""
    found: Quantities = {}
    for parameter in parameters:
        match = _QUANTITY.fullmatch(parameter)
        unit = _UNITS.get(match[2]) if match else None
        if match is None or unit is None:
            raise Stop(f"{parameter!r} is no quantity")
        if unit[0] in found:
            raise Stop(f"two quantities of {unit[0]}")
        found[unit[0]] = Fraction(match[1]) * unit[1]
    return found


def _demand(lab: Lab, action: str, amounts: Quantities, **ranges: tuple[float, float]) -> None:
    """That the parameters are what the sheet says, or within the usual ranges; and none beside them."""
    if lab.outline:
        return
    wanted: dict[str, tuple[float | Fraction, float | Fraction]] = dict(ranges)
    if lab.sheet is not None and action in lab.sheet:
        wanted = {what: (value, value) for what, value in quantities(lab.sheet[action]).items()}
    if set(amounts) != set(wanted):
        raise Stop(f"{action} needs {', '.join(sorted(wanted)) or 'no parameters'}")
    for what, (low, high) in wanted.items():
        if not low <= amounts[what] <= high:
            raise Stop(f"{what} of {action} is wrong")


def _on(objects: set[str], *names: str) -> None:
    if not objects or not objects <= set(names):
        raise Stop(f"{', '.join(sorted(objects)) or 'nothing'} cannot be used for this")


def _add(lab: Lab, objects: set[str], amounts: Quantities) -> None:
    if not objects:
        raise Stop("nothing is added")
    if lab.packed:
        raise Stop("adding would disturb the pellet")
    if "poured" in lab.marks:
        raise Stop("the medium is poured already")
    for name in sorted(objects):
        if name in lab.without:
            raise Stop(f"{name} is forbidden")
        if name not in lab.have or name in DYES:
            raise Stop(f"there is no {name} to add")
        if not lab.outline:
            wanted = {what: value * lab.factor for what, value in quantities([lab.have[name]]).items()}
            if amounts != wanted:
                raise Stop(f"the amount of {name} is wrong")
        del lab.have[name]
        lab.inside.add(name)
        lab.fluid |= name in LIQUIDS
    lab.stirred = lab.washed = lab.cold = lab.hot = lab.clear = lab.molten = False
    lab.marks.discard("stored")


def _mix(lab: Lab, objects: set[str], amounts: Quantities) -> None:
    _on(objects, lab.vessel, *({lab.sample} if lab.vessel == "tube" else {"solution"}))
    _demand(lab, "mix", amounts, time=(5, 120))
    if not lab.fluid:
        raise Stop("there is no liquid to mix")
    lab.stirred, lab.packed = True, False
    lab.lysed |= lab.vessel == "tube" and bool(lab.inside & DETERGENTS)


def _spin(lab: Lab, objects: set[str], amounts: Quantities) -> None:
    _in_tube(lab)
    _on(objects, "tube", lab.sample)
    _demand(lab, "spin", amounts, speed=SPEEDS[lab.sample], time=(180, 600))
    if not lab.stirred:
        raise Stop("what is spun is not suspended")
    if lab.lysed and not lab.cold:
        raise Stop("a warm lysate is spoiled by spinning")
    lab.stirred, lab.packed = False, True


def _discard(lab: Lab, objects: set[str], amounts: Quantities) -> None:
    _in_tube(lab)
    _on(objects, "supernatant")
    _demand(lab, "discard", amounts)
    if not lab.packed:
        raise Stop("there is no supernatant")
    lab.packed = lab.fluid = False
    lab.washed = bool(lab.inside & WASHES) and not lab.lysed
    lab.inside.clear()


def _stain(lab: Lab, objects: set[str], amounts: Quantities) -> None:
    dyes = objects & set(DYES)
    if len(dyes) != 1 or not objects - dyes <= {lab.sample}:
        raise Stop("staining takes the sample and one dye")
    (dye,) = dyes
    if dye in lab.without:
        raise Stop(f"{dye} is forbidden")
    if dye not in lab.have:
        raise Stop(f"there is no {dye}")
    _demand(lab, "stain", amounts, time=(60 * DYES[dye][0], 60 * DYES[dye][1]))
    if not lab.washed:
        raise Stop("the sample is not washed")
    del lab.have[dye]
    lab.marks.add("stained")


def _image(lab: Lab, objects: set[str], amounts: Quantities) -> None:
    _on(objects, lab.sample)
    _made(lab, "image", amounts, "stained", "imaged")


def _chill(lab: Lab, objects: set[str], amounts: Quantities) -> None:
    _on(objects, lab.vessel, *([lab.sample] if lab.vessel == "tube" else ["solution"]))
    _demand(lab, "chill", amounts, temperature=(0, 8))
    if not lab.fluid:
        raise Stop("there is nothing to chill")
    lab.cold, lab.hot, lab.molten = True, False, False


def _heat(lab: Lab, objects: set[str], amounts: Quantities) -> None:
    if lab.vessel != "flask":
        raise Stop("a sample is not heated")
    _on(objects, "flask", "solution")
    _demand(lab, "heat", amounts, temperature=(50, 80))
    if not lab.stirred:
        raise Stop("what is heated is not mixed")
    lab.hot = True


def _boil(lab: Lab, objects: set[str], amounts: Quantities) -> None:
    if lab.vessel != "flask":
        raise Stop("a sample is not boiled")
    _on(objects, "flask")
    _demand(lab, "boil", amounts, time=(180, 600))
    if not lab.fluid:
        raise Stop("the flask would boil dry")
    if "agar" not in lab.inside:
        raise Stop("there is no agar in the flask")
    lab.molten = True


def _filter(lab: Lab, objects: set[str], amounts: Quantities) -> None:
    _on(objects, "solution", "flask")
    _demand(lab, "filter", amounts)
    if not lab.hot or lab.line != "solution":
        raise Stop("there is no hot solution")
    lab.clear = True


def _collect(lab: Lab, objects: set[str], amounts: Quantities) -> None:
    _on(objects, "extract", "supernatant")
    _demand(lab, "collect", amounts)
    if not (lab.packed and lab.lysed):
        raise Stop("there is no extract over a pellet")
    lab.packed = lab.fluid = lab.cold = False
    lab.marks.add("collected")


def _store(lab: Lab, objects: set[str], amounts: Quantities) -> None:
    _on(objects, "extract" if lab.line == "extract" else "solution")
    _demand(lab, "store", amounts, temperature=(2, 8))
    if not (lab.clear if lab.line == "solution" else "collected" in lab.marks):
        raise Stop("there is nothing to store yet")
    lab.marks.add("stored")
    lab.hot = False


def _pour(lab: Lab, objects: set[str], amounts: Quantities) -> None:
    _on(objects, "plate", "agar")
    _demand(lab, "pour", amounts)
    if not lab.molten:
        raise Stop("there is no molten agar")
    lab.molten = lab.fluid = False
    lab.marks.add("poured")


def _streak(lab: Lab, objects: set[str], amounts: Quantities) -> None:
    if lab.sample not in objects:
        raise Stop("the sample is not streaked")
    _on(objects, lab.sample, "plate")
    _made(lab, "streak", amounts, "poured", "streaked")


def _incubate(lab: Lab, objects: set[str], amounts: Quantities) -> None:
    _on(objects, "plate", lab.sample)
    _made(lab, "incubate", amounts, "streaked", "grown", temperature=WARMTH[lab.sample], time=(12 * 3600, 48 * 3600))


def _count(lab: Lab, objects: set[str], amounts: Quantities) -> None:
    _on(objects, "colonies", lab.sample)
    _made(lab, "count", amounts, "grown", "counted")


def _made(lab: Lab, action: str, amounts: Quantities, needs: str, makes: str, **ranges: tuple[float, float]) -> None:
    _demand(lab, action, amounts, **ranges)
    if needs not in lab.marks:
        raise Stop(f"nothing is {needs} yet")
    lab.marks.add(makes)


def _in_tube(lab: Lab) -> None:
    if lab.vessel != "tube":
        raise Stop("there is no tube")


DO: dict[str, Callable[[Lab, set[str], Quantities], None]] = {
    "add": _add, "mix": _mix, "spin": _spin, "discard": _discard, "stain": _stain, "image": _image, "chill": _chill, "heat": _heat,
    "boil": _boil, "filter": _filter, "collect": _collect, "store": _store, "pour": _pour, "streak": _streak, "incubate": _incubate,
    "count": _count,
}  # fmt: skip
