"""Metrics of protocols (C.1.5 of the method file), each in [0, 1]: steps, order, content and words of one answer beside its gold.

Lines that cannot be read are skipped, as in the published evaluator. Where a text has no key or no orc, all of it is the key and the orc
is empty.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

from assay.rewards.protocol import Step, align_as_evaluated, align_as_figured, bleu_average, lcs_length, read_leniently, rouge_l, token_f1
from assay.rewards.protocol.score import actions, object_overlap, parameter_overlap, position_decay

CONTENT_MAXIMUM = 1.5
_BESIDE = ("content", "order_tau_parity", "semantic_parity")


@dataclass(frozen=True)
class ProtocolMetrics:
    """Of one answer. `average` leaves out what needs a downloaded model (METEOR, keywords by embedding)."""

    step_match: float
    """Step-M: 1 where the key has as many non-blank lines as the gold's."""
    order_strict: float
    """Order-S: 1 where the actions are the gold's, in its order."""
    order_lcs: float
    order_tau: float
    """Kendall's tau of the order in which the shared actions stand; below 0 where it is rather reversed."""
    order_tau_parity: float
    """The published evaluator's: of greedily aligned pairs, which rise on both sides, so it is 1 from two pairs on and else 0."""
    content: float
    """Semantic-A before scaling, at most 1.5."""
    semantic: float
    """Semantic-A: content / 1.5."""
    semantic_parity: float
    """The same by the published evaluator, whose alignment ends at the first action out of place."""
    bleu: float
    rouge: float
    tokens: float
    """Token-F1, for the keyword F1."""

    @property
    def average(self) -> float:
        """Mean of the eight: Step-M, Order-S, Order-LCS, tau, Semantic-A, BLEU-AVG, ROUGE-L, token-F1."""
        parts = asdict(self)
        return sum(value for name, value in parts.items() if name not in _BESIDE) / 8


def protocol_metrics(text: str, gold: str) -> ProtocolMetrics:
    """All metrics of a text against the text of a gold.

    Raises ValueError where the gold has no step that can be read.
    """
    lines, steps, orc = read_leniently(text)
    gold_lines, gold_steps, gold_orc = read_leniently(gold)
    if not gold_steps:
        raise ValueError(f"the gold has no step that can be read: {gold[:80]!r}")
    said, wanted = actions(steps), actions(gold_steps)
    content = content_of(steps, gold_steps)
    return ProtocolMetrics(
        step_match=float(len(lines) == len(gold_lines)), order_strict=float(said == wanted),
        order_lcs=2 * lcs_length(said, wanted) / (len(said) + len(wanted)), order_tau=tau(said, wanted),
        order_tau_parity=float(len(align_as_evaluated(said, wanted)) >= 2), content=content, semantic=content / CONTENT_MAXIMUM,
        semantic_parity=content_of(steps, gold_steps, parity=True) / CONTENT_MAXIMUM,
        bleu=bleu_average(orc, gold_orc), rouge=rouge_l(orc, gold_orc), tokens=token_f1(orc, gold_orc),
    )  # fmt: skip


def content_of(steps: Sequence[Step], gold: Sequence[Step], *, parity: bool = False) -> float:
    """The content term of SCORE over the aligned pairs; 0 where there is none."""
    pairs = (align_as_evaluated if parity else align_as_figured)(actions(steps), actions(gold))
    total = 0.0
    for i, j in pairs:
        objects = object_overlap(steps[i - 1].objects, gold[j - 1].objects)
        parameters = parameter_overlap(steps[i - 1].parameters, gold[j - 1].parameters) if objects >= 0.5 else 0.0
        total += position_decay(i, j, len(gold)) * (objects + 0.5 * parameters)
    return total / len(pairs) if pairs else 0.0


def tau(predicted: Sequence[Hashable], gold: Sequence[Hashable]) -> float:
    """Kendall's tau of the gold places of the actions that both have, in [-1, 1]; the k-th occurrence of an action answers the k-th. 0
    with fewer than two pairs."""
    from scipy.stats import kendalltau

    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, action in reversed(list(enumerate(gold))):
        places[action].append(place)
    found = [places[action].pop() for action in predicted if places.get(action)]
    return float(kendalltau(range(len(found)), found).statistic) if len(found) >= 2 else 0.0
