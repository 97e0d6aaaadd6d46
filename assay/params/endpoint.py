"""A language model that builds tasks, from whichever environment it is asked."""

from pydantic import Field

from assay.params.base import Section


class Endpoint(Section):
    """A language model behind OpenAI-compatible chat endpoints. Where it is: execution.teacher."""

    model: str | None = None
    """Its name there; null: the endpoints are asked for it. Part of what replies are remembered by."""
    temperature: float = Field(0.7, ge=0)
    """At which it is asked; 0: always the most likely token."""
    max_tokens: int = Field(4096, ge=1)
    """Of a reply."""
