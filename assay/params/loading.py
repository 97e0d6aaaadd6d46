"""From params.yaml and its presets to `Params`, with errors that name the file and the key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from assay.params.base import ParameterError
from assay.params.execution import ExecutionParams
from assay.params.functions import with_source
from assay.params.lengths import check_lengths
from assay.params.schema import Params

PRESETS = ("scale", "environment", "method")  # later wins
Origins = dict[str, str]


class _Loader(yaml.SafeLoader):
    """A key that is given twice is a mistake: YAML would drop the first without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key {key.value} is given twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file; an empty file is an empty mapping. Raises ParameterError."""
    if not path.is_file():
        raise ParameterError(f"{path}: no such file")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or 2024-13-45, which looks like a date
        raise ParameterError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ParameterError(f"{path}: expected a mapping of parameters, found {type(content).__name__}")
    return content


def merge(base: Mapping[str, Any], over: Mapping[str, Any], origin: str, origins: Origins, prefix: str = "") -> dict[str, Any]:
    """`over` onto `base`, key by key. Null means "as the presets say". A mapping whose `type` differs replaces the whole."""
    merged = dict(base)
    for key, value in over.items():
        path = f"{prefix}{key}"
        if value is None:
            continue
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and value.get("type", old.get("type")) == old.get("type"):
            merged[key] = merge(old, value, origin, origins, f"{path}.")
            origins[path] = origin
        elif isinstance(value, dict):
            _forget(path, origins)
            merged[key] = merge({}, value, origin, origins, f"{path}.")
            origins[path] = origin
        else:
            _forget(path, origins)
            merged[key] = value
            origins[path] = origin
    return merged


def _forget(path: str, origins: Origins) -> None:
    """What a mapping held that another value replaces as a whole."""
    for name in [name for name in origins if name.startswith(f"{path}.")]:
        del origins[name]


def load_params(root: Path = Path()) -> Params:
    """params.yaml of the project at `root`, resolved with its presets. Raises ParameterError with one clear sentence a mistake."""
    file = root / "params.yaml"
    params, _ = resolve_params(root)
    return with_functions(with_template(params, root, file), root, file)


def resolve_params(root: Path = Path()) -> tuple[Params, Origins]:
    """The same without the texts of templates and functions, and the file that each value was written in: keys that no file sets
    are not among them. Raises ParameterError."""
    file = root / "params.yaml"
    own = read_yaml(file)
    merged: dict[str, Any] = {}
    origins: Origins = {}
    for kind in PRESETS:
        name = own.get(kind) or Params.model_fields[kind].default
        preset = root / "conf" / kind / f"{name}.yaml"
        if len(str(name)) > 100 or not preset.is_file():
            known = ", ".join(sorted(p.stem for p in preset.parent.glob("*.yaml"))) or "none"
            raise ParameterError(f"{file}: {kind} is {name!r}, but there is no {preset}; presets present: {known}")
        merged = merge(merged, read_yaml(preset), str(preset), origins)
    merged = merge(merged, own, str(file), origins)
    try:
        params = Params.model_validate(merged)
    except ValidationError as error:
        raise ParameterError(explain(error, merged, origins, file)) from error
    if not params.iterations:
        raise ParameterError(f"{file}: iterations is empty; list at least one, e.g. - {{k: 0, next: 1}}")
    if params.last_policy is None:
        expected = len(params.iterations)
        raise ParameterError(f"{file}: last_policy is missing; set it to {expected}, the `next` of the last of the iterations")
    try:
        check_lengths(params)
    except ValueError as error:
        raise ParameterError(f"{file}: {error}") from None
    return params, origins


def with_template(params: Params, root: Path, file: Path) -> Params:
    """The same parameters with the text of the chat template that they name."""
    name = params.policy.chat_template
    if name is None:
        return params
    try:
        text = (root / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"{file}: policy.chat_template is {name!r}, which cannot be read ({error}); name a file of text") from error
    return params.model_copy(update={"policy": params.policy.model_copy(update={"chat_template": None, "chat_template_text": text})})


def with_functions(params: Params, root: Path, file: Path) -> Params:
    """The same parameters with the text of the reward functions that they name."""
    if not params.verification.functions:
        return params
    functions = with_source(params.verification.functions, root, file)
    return params.model_copy(update={"verification": params.verification.model_copy(update={"functions": functions})})


def explain(error: ValidationError, merged: Mapping[str, Any], origins: Origins, file: Path) -> str:
    """One line for each mistake: file, key, what was found, what was expected."""
    from assay.params.documentation import nearest  # needed for mistakes alone

    lines = []
    for item in error.errors():
        parts = _written(item["loc"], merged)
        key = ".".join(parts)
        origin = next((origins[name] for name in _prefixes(parts) if name in origins), str(file))
        if item["type"] == "extra_forbidden":
            lines.append(f"{origin}: unknown parameter {key}{nearest(key)}")
        elif item["type"] == "missing":
            lines.append(f"{origin}: {key} is missing")
        elif item["type"] == "value_error":
            lines.append(f"{origin}: {f'{key}: ' if key else ''}{item['ctx']['error']}")
        else:
            lines.append(f"{origin}: {key} is {item['input']!r}: {item['msg'][0].lower()}{item['msg'][1:]}")
    return "\n".join(lines)


def _written(location: tuple[int | str, ...], merged: Any) -> list[str]:
    """A location of pydantic's as people write it: without the tags of discriminated unions, which it puts in between."""
    parts, value = [], merged
    for part in location:
        if isinstance(value, Mapping) and part not in value and part == value.get("type"):
            continue
        parts.append(str(part))
        inside = isinstance(value, Mapping) or (isinstance(value, list | tuple) and isinstance(part, int) and part < len(value))
        value = (value.get(part) if isinstance(value, Mapping) else value[part]) if inside else None
    return parts


def _prefixes(parts: list[str]) -> list[str]:
    """Candidate keys of `origins` for a location, longest first."""
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def load_execution(root: Path = Path()) -> ExecutionParams:
    """Machine settings, read directly from params.yaml and presets: they are nobody's dependency."""
    return load_params(root).execution


def with_abstain_limit(params: Params, root: Path = Path()) -> Params:
    """Parameters with the verification.abstain_limit of params.yaml and presets. It stops a run or lets it go on, and is in no result: no
    finished round may be lost because it was raised."""
    limit = load_params(root).verification.abstain_limit
    return params.model_copy(update={"verification": params.verification.model_copy(update={"abstain_limit": limit})})
