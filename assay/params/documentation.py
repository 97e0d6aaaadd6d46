"""What every parameter means, read off the sections themselves: docs/parameters.md, made by `python docs/make_parameters.py`, and what
`assay params KEY` says of one of them."""

import difflib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from assay.params.base import Section
from assay.params.schema import STAGE_SECTIONS, Params

Key = tuple[str, ...]
NAME, ITEM = "NAME", "[]"
"""Parts of a key that stand for a name of the user's, and for an item of a list."""
REQUIRED = "required"
_WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", NoneType: "null", Any: "anything"}
_HEAD = """# Parameters

*Made from the docstrings in `assay/params/` by `python docs/make_parameters.py`; change them there.*

Every key of params.yaml. Values in the file win over the presets of `method`, these over those of `environment`, these over those of
`scale`, and all over the defaults below. `assay params KEY` prints the value of a key and where it comes from. A key with types behind it,
`advantage.lam` (generalized), exists where the section around it has one of these.
"""
_TABLE = "| key | type | default | meaning |\n|---|---|---|---|\n"
_BOUNDS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))


@dataclass(frozen=True)
class Documented:
    """One parameter, as it is documented."""

    key: Key
    type: str
    default: str
    """JSON; of a nested section a dash."""
    meaning: str
    when: tuple[tuple[Key, str], ...] = ()
    """(section, its `type`): where there are several forms of a section, the one that has this key."""

    @property
    def name(self) -> str:
        return ".".join(self.key).replace(f".{ITEM}", ITEM)


def documented(section: type[Section] = Params, defaults: Section | None = None, path: Key = (), when: Any = ()) -> Iterator[Documented]:
    """Every parameter of a section, in the order in which they are written down. defaults: an instance whose values are the defaults,
    where the section around it says others than the section itself."""
    for name, field in section.model_fields.items():
        key = (*path, name)
        default = getattr(defaults, name) if defaults is not None else field.get_default(call_default_factory=True)
        forms = _sections(field.annotation)
        if not forms:
            if not (when and key == (*when[-1][0], "type")):  # told once for all forms
                yield Documented(key, type_text(field.annotation, field.metadata), _shown(default), _words(field.description), when)
            continue
        meaning = _words(field.description or (forms[0].__doc__ if len(forms) == 1 else ""))
        inside = key
        if get_origin(field.annotation) in (dict, tuple):
            inside = (*key, NAME if get_origin(field.annotation) is dict else ITEM)
            yield Documented(key, "sections by name" if inside[-1] == NAME else "list of sections", _shown(default), meaning, when)
        elif NoneType in get_args(field.annotation):
            yield Documented(key, "section or null", "null" if default is None else "–", meaning, when)
        elif len(key) > 1 and meaning:
            yield Documented(key, "section", "–", meaning, when)
        if len(forms) > 1:
            types = {_type_of(form): _words(form.__doc__).removesuffix(".") for form in forms}
            told = "; ".join(f"{kind}: {text}" for kind, text in types.items())
            own = _shown(default.type) if isinstance(default, Section) else REQUIRED  # type: ignore[attr-defined]
            yield Documented((*inside, "type"), ", ".join(types), own, told, when)
        for form in forms:
            mine = default if isinstance(default, form) else None
            yield from documented(form, mine, inside, (*when, (inside, _type_of(form))) if len(forms) > 1 else when)


def nearest(key: str, others: Iterable[str] = ()) -> str:
    """What may be meant by a key that there is not, as a question; "" where nothing is near. others: names beside the documented ones.
    Those that end alike come first, then those that are near as a whole, then those whose last part is."""
    names = dict.fromkeys([*others, *(one.name for one in documented())])
    if key in names:
        return ", which belongs to another type of its section"
    last = key.rpartition(".")[2]
    close = [name for name in names if name.rpartition(".")[2] == last] + difflib.get_close_matches(key, names, n=3, cutoff=0.8)
    if not close:
        short = difflib.get_close_matches(last, {name.rpartition(".")[2]: name for name in names}, n=3)
        close = [name for name in names if name.rpartition(".")[2] in short]
    return f": did you mean {', '.join(list(dict.fromkeys(close))[:3])}?" if close else ""


def type_text(annotation: Any, metadata: Any = ()) -> str:
    """A type as people say it, with its bounds: `whole number ≥ 1, or null`."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return type_text(inner, [part for one in more for part in (one.metadata if isinstance(one, FieldInfo) else [one])])
    bounds = "".join(
        f"{',' if number else ''} {sign} {value}"
        for number, (sign, value) in enumerate(
            (sign, getattr(limit, name)) for limit in metadata for name, sign in _BOUNDS if getattr(limit, name, None) is not None
        )
    )
    if get_origin(annotation) in (Union, UnionType):
        parts = [type_text(part, () if part is NoneType else metadata) for part in get_args(annotation)]
        return " or ".join(parts)
    if get_origin(annotation) is Literal:
        return ", ".join(str(value) for value in get_args(annotation))
    if get_origin(annotation) is tuple:
        items = get_args(annotation)
        return f"list of {type_text(items[0])}" if items[-1] is Ellipsis else f"[{', '.join(map(type_text, items))}]"
    if get_origin(annotation) is dict:
        keys, values = get_args(annotation)
        return f"mapping of {type_text(keys)} to {type_text(values)}"
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation))) + bounds


def parameters_markdown() -> str:
    """The whole of docs/parameters.md."""
    parts = [_HEAD, "\n## At the top\n\n", _TABLE]
    everything = list(documented())
    parts += [_row(one, (one.name,)) for one in everything if one.key[0] not in _nested() or one.key == ("environments",)]
    for section, form in _nested().items():
        stages = [stage for stage, sections in STAGE_SECTIONS.items() if section in sections]
        parts.append(f"\n## {section}\n\n{_words(form.__doc__) + chr(10) * 2 if form else ''}")
        parts.append(f"Seen by {', '.join(stages)}.\n" if stages else "No stage depends on it: changing it runs nothing again.\n")
        mine = [one for one in everything if one.key[0] == section and len(one.key) > 1]
        if form is not None:
            parts += ["\n", _TABLE, *_rows(mine, 1)]
            continue
        for one_form in _sections(Params.model_fields[section].annotation):
            kind = _type_of(one_form)
            parts.append(f"\n### {section}.NAME, `type: {kind}`\n\n{_words(one_form.__doc__)}\n\n{_TABLE}")
            parts += _rows([one for one in mine if one.when and one.when[0][1] == kind], 2, known=1)
    return "".join(parts)


def _nested() -> dict[str, type[Section] | None]:
    """Sections of params.yaml; None where it holds sections by name."""
    found: dict[str, type[Section] | None] = {}
    for name, field in Params.model_fields.items():
        if forms := _sections(field.annotation):
            if get_origin(field.annotation) is not tuple:
                found[name] = forms[0] if len(forms) == 1 else None
    return found


def _rows(listed: list[Documented], cut: int, known: int = 0) -> Iterator[str]:
    """Rows of a table, without the first `cut` parts of their keys; keys that several forms share are told once."""
    merged: dict[tuple[str, str, str, str], tuple[Documented, list[str]]] = {}
    for one in listed:
        same = (one.name, one.type, one.default, one.meaning)
        merged.setdefault(same, (one, []))[1].extend(kind for _, kind in one.when[known:][-1:])
    for one, kinds in merged.values():
        yield _row(one, (".".join(one.key[cut:]).replace(f".{ITEM}", ITEM), *kinds))


def _row(one: Documented, names: tuple[str, ...]) -> str:
    name, *kinds = names
    shown = f"`{name}`" + (f" ({', '.join(kinds)})" if kinds else "")
    default = f"`{one.default}`" if one.default not in ("–", REQUIRED) else one.default
    return f"| {shown} | {_escaped(one.type)} | {_escaped(default)} | {_escaped(one.meaning)} |\n"


def _sections(annotation: Any) -> list[type[Section]]:
    """The sections that an annotation names, by whatever it names them."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]


def _type_of(form: type[Section]) -> str:
    (value,) = get_args(form.model_fields["type"].annotation)
    return str(value)


def _shown(value: Any) -> str:
    return REQUIRED if value is PydanticUndefined else json.dumps(to_jsonable_python(value), ensure_ascii=False)


def _words(text: str | None) -> str:
    return " ".join((text or "").split())


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
