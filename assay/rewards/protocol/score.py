"""SCORE (C.1.2 of the method file): gates x step scale x meaning, in [0, 2.5] with the defaults, exactly 0 where a gate fails.

    SCORE   = I_format * I_cons * r_scale * r_sem
    r_scale = f(|N - N*|) / g(L)
    r_sem   = Order + 1/|W| sum over (i, j) in W of m_ij (Obj_ij + 0.5 Par_ij)

N and N* are the steps of prediction and gold, W the alignment, L the mean words of an orc step.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from math import cos, pi
from typing import Any

from assay.params.protocols import ScoreOptions
from assay.rewards.protocol.align import align_as_evaluated, align_as_figured, is_subsequence, lcs_length
from assay.rewards.protocol.parse import Parsed, Step, parse
from assay.rewards.protocol.validate import consistency, normalised, read_gold

DEFAULTS = ScoreOptions()
_EDGE = 1e-9


@dataclass(frozen=True)
class StepScore:
    """A predicted step and what it brings. Positions are characters of the text, `end` exclusive."""

    number: int
    """Its place in the key, from 1."""
    action: str
    objects: tuple[str, ...]
    parameters: tuple[str, ...]
    orc: str
    words: int
    start: int
    end: int
    aligned: int | None
    """Place of the gold step, None where it has none."""
    object_overlap: float
    parameter_overlap: float
    decay: float
    """m_ij."""
    content: float
    """m_ij (Obj + 0.5 Par); 0 where nothing is aligned."""


@dataclass(frozen=True)
class Score:
    """SCORE and its components. Where the text cannot be parsed, what rests on its steps is 0."""

    total: float
    format: float
    """I_format, 0 or 1."""
    format_reason: str
    """What the first problem is, empty where there is none."""
    consistency: float
    """I_cons, 0 or 1."""
    coverage: float
    """Share of the key's items that the orc mentions."""
    missing: tuple[tuple[int, str], ...]
    predicted_steps: int
    gold_steps: int
    tolerance: int
    """M: the difference of steps at which f is 0."""
    difference: int
    """d"""
    step_scale: float
    """f(d)"""
    words_per_step: float
    """L"""
    length_penalty: float
    """g(L), at least 1"""
    scale: float
    order: float
    lcs: float
    content: float
    meaning: float
    """r_sem"""
    unknown_actions: tuple[str, ...]
    """Actions outside the allowed list: stored, never charged."""
    blocks: dict[str, tuple[int, int]]
    """(start, end) of what stands between a block's tags; empty where the blocks are not as they should be."""
    steps: tuple[StepScore, ...]

    def components(self) -> dict[str, Any]:
        """All but the steps, as JSON can hold it."""
        values = {name: value for name, value in asdict(self).items() if name != "steps"}
        blocks = {name: list(span) for name, span in self.blocks.items()}
        missing, unknown = [list(pair) for pair in self.missing], list(self.unknown_actions)
        return values | {"missing": missing, "unknown_actions": unknown, "blocks": blocks}

    def step_rows(self) -> list[dict[str, Any]]:
        """A row for each predicted step."""
        return [asdict(step) | {"objects": list(step.objects), "parameters": list(step.parameters)} for step in self.steps]


def score(text: str, gold: Sequence[Step], options: ScoreOptions = DEFAULTS, allowed: Collection[str] | None = None) -> Score:
    """SCORE of a text against the steps of a gold (`read_gold`).

    `allowed`: the actions that the prompt offers. Raises ValueError for a gold without steps. With the format gate off, the lines that can
    be read count; with no block readable there are none.
    """
    if not gold:
        raise ValueError("the gold has no steps: read it with `read_gold`, which refuses such a gold")
    parsed = parse(text, numbering=options.numbering)
    gate = consistency(parsed)
    passes_format = parsed.well_formed
    passes_consistency = bool(parsed.key) and gate.passes(options.coverage)
    predicted, wanted = actions(parsed.key), actions(gold)
    steps = _score_steps(parsed, gold, options)
    aligned = [step for step in steps if step.aligned is not None]
    size = len(aligned) if options.denominator == "matched" else max(len(predicted), len(wanted))
    content = sum(step.content for step in aligned) / size if aligned else 0.0
    words = sum(line.words for line in parsed.orc) / len(parsed.orc) if parsed.orc else 0.0
    closeness = step_scale(len(predicted), len(wanted))
    penalty = length_penalty(words, options.words_per_step)
    scale = (closeness if options.step_scale else 1.0) / (penalty if options.length_penalty else 1.0)
    common = 2 * lcs_length(predicted, wanted) / (len(predicted) + len(wanted))
    order = common if options.order == "lcs" else strict_order(predicted, wanted)
    meaning = meaning_of(order, content, options)
    total = combine(passes_format, passes_consistency, scale, order, content, options)
    return Score(
        total=total, format=float(passes_format), format_reason=parsed.problems[0].code if parsed.problems else "",
        consistency=float(passes_consistency), coverage=gate.coverage, missing=gate.missing, predicted_steps=len(predicted),
        gold_steps=len(wanted), tolerance=tolerance(len(wanted)),
        difference=abs(len(predicted) - len(wanted)), step_scale=closeness, words_per_step=words, length_penalty=penalty,
        scale=scale, order=order, lcs=common, content=content, meaning=meaning,
        blocks={name: (block.start, block.end) for name, block in parsed.blocks.items()},
        unknown_actions=() if allowed is None else tuple(sorted(set(predicted) - set(map(normalised, allowed)))), steps=steps,
    )  # fmt: skip


def own_shortfall(gold: str, options: ScoreOptions = DEFAULTS, least: float | None = None) -> str | None:
    """Why a gold (that `read_gold` takes) does not earn `least` against itself, by default all there is; None where it does.

    With the gates passed and all steps aligned only g(L) is left: its sentences are too long.
    """
    found = score(gold, read_gold(gold), options)
    if found.total >= (options.maximum if least is None else least) - _EDGE:
        return None
    words = f"its orc has {found.words_per_step:.0f} words a step, more than {options.words_per_step:g}"
    return f"the gold earns {found.total:.3g} of {options.maximum:g} against itself: {words}"


def combine(
    passes_format: bool, passes_consistency: bool, scale: float, order: float, content: float, options: ScoreOptions = DEFAULTS
) -> float:
    """SCORE from its components: it never falls where one of them rises."""
    if (options.format_gate and not passes_format) or (options.consistency_gate and not passes_consistency):
        return 0.0
    meaning = meaning_of(order, content, options)
    return scale * meaning if options.final == "product" else scale + meaning


def meaning_of(order: float, content: float, options: ScoreOptions) -> float:
    """r_sem. Without the order, the content alone."""
    if options.order == "off":
        return content
    return order + content if options.combine == "sum" else order * content


def tolerance(gold_steps: int) -> int:
    """M = max(1, floor(0.6 N*)), in integers: 0.6 has no exact float."""
    return max(1, 6 * gold_steps // 10)


def step_scale(predicted_steps: int, gold_steps: int) -> float:
    """f(d) = cos(pi d / (2 M)) of the difference d of the numbers of steps, 0 from M on."""
    difference, limit = abs(predicted_steps - gold_steps), tolerance(gold_steps)
    return cos(pi * difference / (2 * limit)) if difference < limit else 0.0


def length_penalty(words_per_step: float, limit: float = 30.0) -> float:
    """g(L) = max(1, L / 30): the paper says "proportional penalty above the limit"."""
    return max(1.0, words_per_step / limit)


def strict_order(predicted: Sequence[str], gold: Sequence[str]) -> float:
    """1 where the actions are equal or one sequence is a subsequence of the other. Without any action nothing is ordered: 0."""
    return float(bool(predicted) and (is_subsequence(predicted, gold) or is_subsequence(gold, predicted)))


def position_decay(i: int, j: int, gold_steps: int, power: float = 1.5) -> float:
    """m_ij = max(0, 1 - (|i - j| / D)^lambda) with D = max(1, N*)."""
    return max(0.0, 1 - (abs(i - j) / max(1, gold_steps)) ** power)


def overlap(first: Collection[str], second: Collection[str]) -> float:
    """Intersection over union of two sets: 1 where both are empty."""
    a, b = set(first), set(second)
    return len(a & b) / len(a | b) if a | b else 1.0


def object_overlap(predicted: Sequence[str], gold: Sequence[str], fallback: bool = True) -> float:
    """Obj: overlap of the names; with `fallback`, of their words where no name is shared (the published evaluator's)."""
    first, second = [normalised(name) for name in predicted], [normalised(name) for name in gold]
    shared = overlap(first, second)
    return shared or (overlap(" ".join(first).split(), " ".join(second).split()) if fallback and first and second else 0.0)


def parameter_overlap(predicted: Sequence[str], gold: Sequence[str], by: str = "tokens") -> float:
    """Par without its threshold: overlap of the words of all parameters, or of the parameters as they are."""
    first, second = [normalised(value) for value in predicted], [normalised(value) for value in gold]
    return overlap(first, second) if by == "strings" else overlap(" ".join(first).split(), " ".join(second).split())


def actions(steps: Sequence[Step]) -> list[str]:
    """(steps,) actions, written alike."""
    return [normalised(step.action) for step in steps]


def _score_steps(parsed: Parsed, gold: Sequence[Step], options: ScoreOptions) -> tuple[StepScore, ...]:
    align = align_as_figured if options.alignment == "figure" else align_as_evaluated
    partners = dict(align(actions(parsed.key), actions(gold)))
    sentences = {line.number: line for line in reversed(parsed.orc)}
    found = []
    for i, step in enumerate(parsed.key, 1):
        j, line = partners.get(i), sentences.get(step.number)
        of_objects = of_parameters = decay = 0.0
        if j is not None:
            other = gold[j - 1]
            of_objects = object_overlap(step.objects, other.objects, options.object_fallback) if options.objects else 1.0
            if options.parameters and of_objects >= options.object_threshold:
                of_parameters = parameter_overlap(step.parameters, other.parameters, options.parameter_overlap)
            decay = position_decay(i, j, len(gold), options.decay_power) if options.position_decay else 1.0
        content = decay * (of_objects + options.parameter_weight * of_parameters)
        row = StepScore(
            i, step.action, step.objects, step.parameters, line.sentence if line else "", line.words if line else 0, step.start, step.end,
            j, of_objects, of_parameters, decay, content,
        )  # fmt: skip
        found.append(row)
    return tuple(found)
