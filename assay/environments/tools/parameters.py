"""Optional parameters that tools of any kind may have, as complexity scaling adds them. None changes what a tool says; each is checked."""

from typing import Any


def _enum(description: str, *values: str, default: bool = False) -> dict[str, Any]:
    return {"type": "string", "enum": list(values), "description": description} | ({"default": values[0]} if default else {})


def _text(description: str, default: str | None = None) -> dict[str, Any]:
    return {"type": "string", "description": description} | ({"default": default} if default else {})


def _flag(description: str, *default: bool) -> dict[str, Any]:
    return {"type": "boolean", "description": description} | ({"default": default[0]} if default else {})


OPTIONAL: dict[str, dict[str, Any]] = {
    "language": _enum("Language of the record.", "english", "french", "german", default=True),
    "detail_level": _enum("How much is reported.", "basic", "full", default=True),
    "record_type": _enum("Which kind of record is consulted.", "current", "archived", default=True),
    "sort_order": _enum("Order of several results.", "ascending", "descending", default=True),
    "match_mode": _enum("How names are compared.", "exact", "whole", default=True),
    "source_kind": _enum("Where the record comes from.", "register", "survey", "press"),
    "unit_system": _enum("Units of figures.", "metric", "imperial"),
    "access_tier": _enum("Tier of the data service.", "public", "partner"),
    "region_scope": _enum("Area that is searched.", "local", "national", "global"),
    "requested_by": _text("Who asks, for the log."),
    "purpose": _text("Why it is asked, for the log."),
    "region": _text("Region, where names are not unique.", "any"),
    "period": _text("Period that is meant.", "present"),
    "category_hint": _text("A hint at the category."),
    "alias": _text("Another name of the subject."),
    "edition": _text("Edition of the register.", "latest"),
    "collection": _text("Collection that is searched.", "main"),
    "note": _text("A note that is kept with the request."),
    "client_version": _text("Version of the caller."),
    "include_history": _flag("Report former values too.", False),
    "include_sources": _flag("Report sources too.", False),
    "use_cache": _flag("Allow stored results.", True),
    "case_sensitive": _flag("Compare upper and lower case."),
    "verified_only": _flag("Verified records alone."),
    "include_inactive": _flag("Include inactive records."),
    "round_figures": _flag("Round figures.", False),
    "spell_out": _flag("Write abbreviations in full."),
    "max_results": {"type": "integer", "description": "Most results that are returned.", "default": 1},
    "confidence": {"type": "number", "description": "Least confidence of a record, from 0 to 1.", "default": 0.5},
    "weight": {"type": "number", "description": "Weight of the request in the queue."},
    "fields": {"type": "array", "items": {"type": "string"}, "description": "Fields of the record that are wanted."},
    "date_range": {
        "type": "object",
        "properties": {"start": {"type": "string"}, "end": {"type": "string"}},
        "description": "Dates between which the record was made.",
    },
}  # fmt: skip
REQUIRED = ("record_type", "detail_level", "language", "source_kind", "access_tier", "region_scope")
"""Those that may be made required: any value of their enum is accepted."""
