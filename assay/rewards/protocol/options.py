"""The switches of SCORE. Defaults are those of the published launch script; names of its variables in brackets."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ScoreOptions:
    """Every part of SCORE can be left out or computed in another way; the ablations of the paper are these switches."""

    format_gate: bool = True
    consistency_gate: bool = True
    coverage: float = 0.95
    """Least share of the key's items that the orc mentions."""
    numbering: bool = True
    """Whether the format gate demands that steps are numbered 1..n."""
    step_scale: bool = True
    """f(d): the number of steps."""
    length_penalty: bool = True
    """g(L): the words of a step."""
    words_per_step: float = 30.0
    """Mean words of an orc step above which g grows."""
    order: Literal["strict", "lcs", "off"] = "strict"
    """strict: equal, or one a subsequence of the other; lcs: 2 LCS / (n + m) (ORDER_MODE)."""
    combine: Literal["sum", "product"] = "sum"
    """Order with content (COMBINE_MODE)."""
    denominator: Literal["matched", "max_len"] = "matched"
    """Of the content: aligned pairs, or the longer protocol's steps (CONTENT_DENOM)."""
    final: Literal["product", "sum"] = "product"
    """Scale with semantics (FINAL_COMBINE)."""
    alignment: Literal["figure", "parity"] = "figure"
    """figure: a step that finds no partner leaves the pointer where it is; parity: the published evaluator's, where it does not."""
    position_decay: bool = True
    """m_ij."""
    decay_power: float = 1.5
    """lambda of m_ij."""
    objects: bool = True
    """Whether the overlap of objects counts; without it, Obj is 1 for every aligned pair."""
    parameters: bool = True
    """Whether the overlap of parameters counts."""
    object_fallback: bool = True
    """Objects without any in common are compared by their words."""
    parameter_overlap: Literal["tokens", "strings"] = "tokens"
    parameter_weight: float = 0.5
    object_threshold: float = 0.5
    """Overlap of objects below which parameters do not count."""

    @property
    def maximum(self) -> float:
        """SCORE of the gold itself: 2.5 by default."""
        content = 1.0 + self.parameter_weight * self.parameters
        if self.order == "off":
            meaning = content
        else:
            meaning = 1.0 + content if self.combine == "sum" else content
        return meaning + 1.0 if self.final == "sum" else meaning
