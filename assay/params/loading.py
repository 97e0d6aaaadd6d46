"""From params.yaml and its presets to `Params`, with errors that name the file and the key."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from assay.params.base import ParameterError
from assay.params.execution import ExecutionParams
from assay.params.schema import STAGE_SECTIONS, Params

PRESETS = ("scale", "environment", "method")  # later wins
Origins = dict[str, str]


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file; an empty file is an empty mapping. Raises ParameterError."""
    if not path.is_file():
        raise ParameterError(f"{path}: no such file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
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
        elif isinstance(value, dict):
            merged[key] = merge({}, value, origin, origins, f"{path}.")
            origins[path] = origin
        else:
            merged[key] = value
            origins[path] = origin
    return merged


def load_params(root: Path = Path()) -> Params:
    """params.yaml of the project at `root`, resolved with its presets. Raises ParameterError with one clear sentence a mistake."""
    file = root / "params.yaml"
    own = read_yaml(file)
    merged: dict[str, Any] = {}
    origins: Origins = {}
    for kind in PRESETS:
        name = own.get(kind) or Params.model_fields[kind].default
        preset = root / "conf" / kind / f"{name}.yaml"
        if not preset.is_file():
            known = ", ".join(sorted(p.stem for p in preset.parent.glob("*.yaml"))) or "none"
            raise ParameterError(f"{file}: {kind} is {name!r}, but there is no {preset}; presets present: {known}")
        merged = merge(merged, read_yaml(preset), str(preset), origins)
    merged = merge(merged, own, str(file), origins)
    try:
        return Params.model_validate(merged)
    except ValidationError as error:
        raise ParameterError(explain(error, origins, file)) from error


def explain(error: ValidationError, origins: Origins, file: Path) -> str:
    """One line for each mistake: file, key, what was found, what was expected."""
    lines = []
    for item in error.errors():
        parts = [str(part) for part in item["loc"]]
        # Pydantic puts the tag of a discriminated union into the location; people do not write it.
        key = ".".join(parts)
        origin = next((origins[name] for name in _prefixes(parts) if name in origins), str(file))
        if item["type"] == "extra_forbidden":
            lines.append(f"{origin}: unknown parameter {key}")
        elif item["type"] == "value_error":
            lines.append(f"{origin}: {f'{key}: ' if key else ''}{item['ctx']['error']}")
        else:
            lines.append(f"{origin}: {key} is {item['input']!r}: {item['msg'][0].lower()}{item['msg'][1:]}")
    return "\n".join(lines)


def _prefixes(parts: list[str]) -> list[str]:
    """Candidate keys of `origins` for a location, longest first, with and without union tags."""
    found = []
    for end in range(len(parts), 0, -1):
        found.append(".".join(parts[:end]))
        for drop in range(1, end):
            found.append(".".join(parts[:drop] + parts[drop + 1 : end]))
    return found


def stage_view(params: Params, stage: str) -> dict[str, Any]:
    """The JSON-able part of the parameters that a stage may read."""
    whole = params.model_dump(mode="json")
    return {section: whole[section] for section in STAGE_SECTIONS[stage]}


def write_stage_views(params: Params, folder: Path) -> None:
    """One file per stage: STAGE.json, sorted keys, so equal parameters give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage in STAGE_SECTIONS:
        text = json.dumps(stage_view(params, stage), indent=1, sort_keys=True) + "\n"
        (folder / f"{stage}.json").write_text(text, encoding="utf-8")


def read_stage_view(path: Path) -> Params:
    """The file that `write_stage_views` wrote, as Params; sections that the stage may not read hold their defaults."""
    if not path.is_file():
        raise ParameterError(f"{path}: missing; run `dvc repro configure` first")
    return Params.model_validate(json.loads(path.read_text(encoding="utf-8")))


def load_execution(root: Path = Path()) -> ExecutionParams:
    """Machine settings, read directly from params.yaml and presets: they are nobody's dependency."""
    return load_params(root).execution
