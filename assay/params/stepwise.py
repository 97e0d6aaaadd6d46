"""Section about rewards of single reasoning steps (VSRM). Formulas: docs/methods.md."""

from typing import Literal

from pydantic import Field, model_validator

from assay.params.base import Section


class Stepwise(Section):
    """VSRM (arXiv 2508.10293): a trace is split at marker phrases; from each split the policy answers at once, several times; a step earns
    what it changes in the share of right answers."""

    continuations: int = Field(0, ge=0)
    """N, of each intermediate state; 0: no step rewards. The paper: 5."""
    max_tokens: int = Field(768, ge=1)
    """Longest continuation."""
    gamma: float = Field(0.7, ge=0, le=1)
    """Propagating decay: a step that changes nothing earns gamma^q of the change q steps ahead. 0: none is passed back."""
    window: int = Field(4, ge=0)
    """Steps ahead that are looked at; 0: none."""
    epsilon: float = Field(1e-5, gt=0)
    """Smaller changes are none."""
    place: Literal["end", "start"] = "end"
    """Token that bears a step's reward: its last, so that the return of all of its tokens has it, or its first (the released code)."""
    overwrite: bool = False
    """The outcome replaces a step's reward on the last token (the released code) instead of being added."""
    unit: Literal["characters", "tokens"] = "characters"
    """Of opening and interval."""
    opening: int = Field(1000, ge=0)
    """Markers closer to the beginning of the thinking split nothing: the problem is restated there."""
    interval: int = Field(400, ge=1)
    """Markers closer to the last split split nothing."""
    markers: tuple[str, ...] | None = Field(None, min_length=1)
    """Phrases, in any case. Null: those of the paper."""
    parity: bool = False
    """Split and cut as the released code does, its oversights included: markers within words, the point of 3.5 as the end of a sentence,
    the first seven characters in place of a trace that is not closed."""
    open_tag: str = Field("<think>", min_length=1)
    """Begins a trace of steps."""
    close_tag: str = Field("</think>", min_length=1)
    """Ends it."""

    @model_validator(mode="after")
    def _splits_something(self) -> "Stepwise":
        for index, marker in enumerate(self.markers or ()):
            if not marker.strip():
                raise ValueError(f"markers[{index}] is {marker!r}, which stands everywhere: give a word or phrase, or leave it out")
        if self.open_tag.strip() == self.close_tag.strip() or not (self.open_tag.strip() and self.close_tag.strip()):
            raise ValueError(
                f"open_tag is {self.open_tag!r} and close_tag {self.close_tag!r}: expected two different texts that are not blank, or the "
                "thinking would have no end"
            )
        return self
