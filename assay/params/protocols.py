"""Sections about protocols: where tasks come from, and SCORE, the reward of answers (arXiv 2510.15600)."""

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from assay.params.base import ORDERED, Section
from assay.params.endpoint import Endpoint

ProtocolType = Literal["overview", "specific", "retrieval", "planning", "troubleshooting", "constraint", "scaling", "safety"]
PROTOCOL_TYPES: tuple[ProtocolType, ...] = get_args(ProtocolType)
"""The task types of SciRecipe: two of comprehension, six of problem solving."""
Work = Literal["wash", "extract", "solution", "culture"]
Steps = Annotated[int, Field(ge=2)]
Distractors = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class TemplateProtocols(Section):
    """Recipes for a small bench, by a seeded grammar: no model is needed."""

    type: Literal["template"] = "template"


class EndpointProtocols(Endpoint):
    """A language model makes questions and answers of raw texts about protocols (SciRecipe's construction)."""

    type: Literal["endpoint"] = "endpoint"
    temperature: float = Field(0.6, ge=0)
    """Of construction; reviews are asked for at 0."""
    path: str | None = None
    """Raw texts: a folder of .txt and .md files, or JSON lines, or one JSON array, of {text[, id][, bench]}. Relative paths start at the
    project's root."""
    topics: tuple[str, ...] = ()
    """Instead of texts: what the model itself writes protocols about, taken in turn, again and again."""
    reviewer: str | None = None
    """Name of another model there that reviews; null: the same one."""
    max_characters: int = Field(20_000, ge=1)
    """Of a text; longer ones are left out."""

    @model_validator(mode="after")
    def _of_texts_or_topics(self) -> "EndpointProtocols":
        if (self.path is None) == (not self.topics):
            given = "neither is" if self.path is None else "both are"
            raise ValueError(f"path and topics say what protocols are about, and {given} given: give one of them")
        return self


ProtocolBackend = Annotated[TemplateProtocols | EndpointProtocols, Field(discriminator="type")]


class Protocols(Section):
    """Protocols, asked for in eight ways. The rule is SCORE against the gold. Of the built-in recipes for a small bench an oracle carries
    the answer out."""

    type: Literal["protocols"] = "protocols"
    share: float = Field(1.0, gt=0)
    """Relative share of this environment among all tasks."""
    backend: ProtocolBackend = TemplateProtocols()
    types: tuple[ProtocolType, ...] = Field(PROTOCOL_TYPES, min_length=1)
    """A type that is named twice is asked twice as often."""
    lines: tuple[Work, ...] = Field(get_args(Work), min_length=1)
    """Lines of work of the built-in recipes."""
    steps: Annotated[tuple[Steps, Steps], ORDERED] = (2, 4)
    """Smallest and largest number of steps of a gold."""
    ood_steps: Annotated[tuple[Steps, Steps], ORDERED] | None = (5, 6)
    """The same for the out-of-distribution split of the built-in recipes; None: no such split."""
    distractors: Annotated[tuple[Distractors, Distractors], ORDERED] = (1, 3)
    """Smallest and largest number of offered actions that the gold does not use."""
    noise: Share = 0.0
    """Share of demonstrations with a fault in one step, so that the warm start leaves something to reinforcement learning. Of the built-in
    recipes alone."""

    @model_validator(mode="after")
    def _longer_elsewhere(self) -> "Protocols":
        built_in = isinstance(self.backend, TemplateProtocols)
        if built_in and self.ood_steps is not None and self.ood_steps[0] <= self.steps[1]:
            raise ValueError(f"ood_steps begins at {self.ood_steps[0]}, but steps goes up to {self.steps[1]}: leave no overlap")
        return self

    @model_validator(mode="after")
    def _faults_are_known(self) -> "Protocols":
        if self.noise and isinstance(self.backend, EndpointProtocols):
            raise ValueError(f"noise is {self.noise:g}, but faults are known of the built-in recipes alone: set it to 0 for an endpoint")
        return self


class PublishedProtocols(Section):
    """A user's file of records in SciRecipe's forms (docs/environments.md). There is no oracle."""

    type: Literal["published_protocols"] = "published_protocols"
    share: float = Field(1.0, gt=0)
    """Relative share of this environment among all tasks; it never gives more tasks than there are records."""
    path: str
    """JSON lines or one JSON array. Relative paths start at the project's root."""
    distractors: bool = True
    """Offer `action_new`, actions that the gold does not use among them, where a record has it."""


SCORED = ("protocols", "published_protocols")
"""Types of environments whose rule's score is the reward."""


class ScoreOptions(Section):
    """SCORE. Every part can be left out or computed in another way: the ablations of the paper are these switches. Defaults are those of
    the published launch script, names of its variables in brackets."""

    format_gate: bool = True
    """I_format: 0 without the four blocks, in order and valid."""
    consistency_gate: bool = True
    """I_cons: 0 where the orc does not say what the key does."""
    coverage: Share = 0.95
    """Least share of the key's items that the orc mentions."""
    numbering: bool = True
    """Whether the format gate demands that steps are numbered 1..n."""
    step_scale: bool = True
    """f(d): the number of steps."""
    length_penalty: bool = True
    """g(L): the words of a step."""
    words_per_step: float = Field(30.0, gt=0)
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
    decay_power: float = Field(1.5, gt=0)
    """lambda of m_ij."""
    objects: bool = True
    """Whether the overlap of objects counts; without it, Obj is 1 for every aligned pair."""
    parameters: bool = True
    """Whether the overlap of parameters counts."""
    object_fallback: bool = True
    """Objects without any in common are compared by their words."""
    parameter_overlap: Literal["tokens", "strings"] = "tokens"
    """What their intersection over union is taken of: words, or whole entries."""
    parameter_weight: float = Field(0.5, ge=0)
    """Of Par beside Obj."""
    object_threshold: Share = 0.5
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


class ProtocolReward(ScoreOptions):
    """What the verifier protocol_score gives: SCORE by its options, as the reward, and a verdict from it."""

    reward: Literal["score", "lexical"] = "score"
    """lexical: overlap of words with the gold's orc in place of SCORE, the paper's "vanilla" ablation."""
    correct_at: float = Field(0.99, gt=0, le=1)
    """Share of what the gold itself earns from which on an answer is correct. At 0.99 one wrong amount fails a protocol of up to a dozen
    steps, while a few words too many do not. The reward does not depend on it."""

    @property
    def threshold(self) -> float:
        """Of a correct answer: 2.475 by default."""
        return self.correct_at * (1.0 if self.reward == "lexical" else self.maximum)
