"""`assay params`: the resolved parameters, where each value comes from, and what one of them means."""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from assay.params import STAGE_SECTIONS, ParameterError, Params, stage_view
from assay.params.documentation import ITEM, NAME, Documented, Key, documented, nearest
from assay.params.loading import Origins, resolve_params

HELP = "print the resolved parameters and where each value comes from; of one KEY also its meaning, and the stages that see it"
DEFAULT = "default"
WIDEST = 70
"""Columns of key and value, beyond which the origin is not aligned."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", nargs="?", metavar="KEY", help="a section or a parameter, e.g. training.advantage (default: all)")
    parser.add_argument("--root", type=Path, default=Path(), help="project folder (default: here)")


def run(arguments: argparse.Namespace) -> int:
    params, origins = resolve_params(arguments.root)
    key: Key = tuple(arguments.key.split(".")) if arguments.key else ()
    whole = params.model_dump(mode="json")
    values = {name: value for name, value in _leaves(whole) if name[: len(key)] == key}
    about = _about(key, whole) if key else []
    if not values and not about:
        others = [*(".".join(name) for name, _ in _leaves(whole)), *whole]
        raise ParameterError(f"there is no parameter {arguments.key}{nearest(arguments.key, others)} (docs/parameters.md lists all)")
    print("\n".join([*_lines(values, origins, arguments.root), *_explained(key, about, params, values)]))
    return 0


def _leaves(value: Any, path: Key = ()) -> Iterator[tuple[Key, Any]]:
    """(key, value) of everything that is not a mapping of others."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, (*path, name))
    else:
        yield path, value


def _lines(values: Mapping[Key, Any], origins: Origins, root: Path) -> Iterator[str]:
    texts = {key: f"{'.'.join(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()}
    width = max((len(text) for text in texts.values() if len(text) <= WIDEST), default=0)
    for key, text in texts.items():
        origin = origins.get(".".join(key))
        yield f"{text:<{width}}  # {Path(origin).relative_to(root) if origin else DEFAULT}"


def _about(key: Key, whole: Any) -> list[Documented]:
    """What is documented under a key: one form of it where the run has that, else all."""
    forms = [one for one in documented() if _matches(one.key, key)]
    active = [one for one in forms if all(_type_at(whole, section, key) == kind for section, kind in one.when)]
    return active or forms


def _explained(key: Key, about: list[Documented], params: Params, values: Mapping[Key, Any]) -> Iterator[str]:
    if about and not values:
        yield f"{'.'.join(key)}: not in this run"
    for one in about:
        if one.when and not values:
            yield f"where {'.'.join(one.when[-1][0])} has the type {one.when[-1][1]}:"
        yield f"type: {one.type}"
        yield f"default: {one.default}"
        if one.meaning:
            yield f"meaning: {one.meaning}"
    if key:
        stages = [stage for stage in STAGE_SECTIONS if _seen(stage_view(params, stage), key[:2])]
        yield f"stages that see it: {', '.join(stages) or 'none: changing it runs nothing again'}"


def _seen(view: Mapping[str, Any], key: Key) -> bool:
    if key[0] not in view:
        return False
    return len(key) < 2 or not isinstance(view[key[0]], Mapping) or key[0] == "environments" or key[1] in view[key[0]]


def _matches(documented_key: Key, key: Key) -> bool:
    return len(documented_key) == len(key) and all(part in (NAME, ITEM, asked) for part, asked in zip(documented_key, key, strict=True))


def _type_at(whole: Any, section: Key, key: Key) -> Any:
    """`type` of the section of this run that holds a key; names of the user's are read off the key."""
    for part, asked in zip(section, key, strict=False):
        whole = whole.get(asked if part == NAME else part) if isinstance(whole, Mapping) else None
    return whole.get("type") if isinstance(whole, Mapping) else None
