"""docs/parameters.md: made from the sections, complete, and current."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from assay.params import Params
from assay.params.documentation import documented, parameters_markdown, type_text

DOCS = Path(__file__).parents[2] / "docs"


def test_parameters_page_is_current():
    assert (DOCS / "parameters.md").read_text(encoding="utf-8") == parameters_markdown(), "run `python docs/make_parameters.py`"


def test_every_key_of_a_resolved_run_is_documented():
    def keys(value, path=()):
        for name, inner in value.items():
            if isinstance(inner, dict) and inner:
                yield from keys(inner, (*path, name))
            else:
                yield (*path, name)

    names = {one.key for one in documented()}
    assert set(keys(Params().model_dump())) <= names
    assert ("environments", "NAME", "columns") in names and ("iterations", "[]", "k") in names


def test_defaults_are_those_of_the_section_around():
    (timeout,) = (one for one in documented() if one.name == "execution.judge.timeout")
    (kind,) = (one for one in documented() if one.name == "training.advantage.type")
    assert timeout.default == "60.0"
    assert kind.default == '"group_zscore"' and "RLOO" in kind.meaning


@pytest.mark.parametrize(("annotation", "metadata", "text"), [
    (int, [Field(ge=0).metadata[0]], "whole number ≥ 0"),
    (float | None, [Field(gt=0).metadata[0], Field(le=1).metadata[0]], "number > 0, ≤ 1 or null"),
    (Literal["a", "b"], [], "a, b"),
    (tuple[str, ...], [], "list of text"),
    (tuple[int, int], [], "[whole number, whole number]"),
    (dict[str, Annotated[int, Field(ge=2)]], [], "mapping of text to whole number ≥ 2"),
])  # fmt: skip
def test_types_in_words(annotation, metadata, text):
    assert type_text(annotation, metadata) == text


def test_every_parameter_says_what_it_means():
    assert [one.name for one in documented() if not one.meaning and one.key[-1] != "type"] == []
