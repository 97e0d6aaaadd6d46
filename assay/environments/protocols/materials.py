"""Typed materials, how each is usually handled, and what is dangerous: the world knowledge that golds are made from.

Small on purpose: every word is one that a tokenizer of a few hundred tokens can hold.
"""

from dataclasses import dataclass

SAMPLES = ("cells", "yeast", "algae")
"""What protocols are about."""


@dataclass(frozen=True)
class Role:
    """What a recipe needs; any of its materials will do."""

    materials: tuple[str, ...]
    type: str
    """liquid, solid or dye."""
    amounts: tuple[str, ...]
    """That a bench may have of it; empty where it is used as it is."""


ROLES: dict[str, Role] = {
    "wash": Role(("buffer", "saline"), "liquid", ("2 ml", "3 ml", "4 ml", "5 ml")),
    "dye": Role(("eosin", "iodine"), "dye", ()),
    "detergent": Role(("triton", "sds"), "liquid", ("2 ml", "3 ml", "4 ml", "5 ml")),
    "solvent": Role(("water", "broth"), "liquid", ("20 ml", "30 ml", "40 ml")),
    "salt": Role(("salt",), "solid", ("2 g", "3 g", "4 g")),
    "sugar": Role(("sugar",), "solid", ("2 g", "3 g", "4 g")),
    "agar": Role(("agar",), "solid", ("2 g", "3 g", "4 g")),
}
"""Several materials in a role are substitutes for each other."""

USUAL: dict[str, tuple[str, ...]] = {
    "mix": ("10 s",),
    "spin cells": ("300 xg", "5 min"),
    "spin yeast": ("900 xg", "5 min"),
    "spin algae": ("600 xg", "5 min"),
    "stain eosin": ("2 min",),
    "stain iodine": ("5 min",),
    "chill": ("4 c",),
    "heat": ("60 c",),
    "boil": ("5 min",),
    "incubate cells": ("37 c", "24 h"),
    "incubate yeast": ("30 c", "24 h"),
    "incubate algae": ("24 c", "24 h"),
    "store": ("4 c",),
}
"""Parameters of an action, or of an action on a material."""

SHEETS: dict[str, tuple[tuple[str, ...], ...]] = {
    "mix": (("20 s",), ("40 s",), ("60 s",)),
    "spin": (("200 xg", "4 min"), ("400 xg", "6 min"), ("700 xg", "8 min")),
    "stain": (("3 min",), ("6 min",), ("9 min",)),
    "chill": (("2 c",), ("3 c",), ("6 c",)),
    "heat": (("50 c",), ("70 c",), ("80 c",)),
    "boil": (("3 min",), ("8 min",), ("9 min",)),
    "incubate": (("28 c", "12 h"), ("32 c", "36 h"), ("36 c", "48 h")),
    "store": (("2 c",), ("3 c",), ("6 c",)),
}
"""Unusual parameters that a sheet may ask for instead."""

HAZARDS: dict[str, str] = {
    "triton": "irritant",
    "sds": "irritant",
    "eosin": "stain",
    "iodine": "toxic",
    "boil": "burn",
    "heat": "burn",
    "spin": "balance",
}
"""Of a material or an action, in one word."""
CAUTION = "wear gloves"
"""The note of a protocol that is not asked for hazards."""

IDLE_ACTIONS = ("shake", "weigh", "freeze", "label", "grind", "dry", "soak", "vent")
"""Offered as distractors; nothing needs them."""
