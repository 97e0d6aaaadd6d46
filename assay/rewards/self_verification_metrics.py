"""How well a policy judges its own solutions, always beside what a judge that looks at nothing would reach.

Accuracy alone misleads: on solutions of which 20 % are right, calling everything wrong is 80 % accurate. So exact and binary accuracy come
with balanced accuracy, precision and recall of both classes, Matthews' correlation and the majority class. Intervals, which need the
tasks as clusters, are in `assay.evaluation.self_verification`.
"""

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import sqrt

from assay.rewards.critiques import THREE_LEVEL, Levels, SelfVerificationError


@dataclass(frozen=True)
class VerificationMetrics:
    """None where a metric is not defined, as precision is where nothing was called right."""

    n: int
    true_positives: int
    """Called right and right."""
    false_positives: int
    """Called right but not right."""
    false_negatives: int
    """Not called right but right."""
    true_negatives: int
    exact_accuracy: float | None
    """The score is the very level of the solution."""
    binary_accuracy: float | None
    """Called right or not, as it is right or not."""
    balanced_accuracy: float | None
    """Mean of recall and specificity: 0.5 for every judge that looks at nothing. None unless both classes occur."""
    precision: float | None
    """P(right | called right)."""
    recall: float | None
    """P(called right | right): the true-positive rate of the critic as a judge."""
    negative_precision: float | None
    """P(not right | not called right)."""
    specificity: float | None
    """P(not called right | not right): 1 minus its false-positive rate."""
    matthews: float | None
    """Correlation of the two binary columns; 0 for a constant judge, None unless both classes occur."""
    majority_accuracy: float | None
    """Binary accuracy of always naming the more frequent class."""
    majority_exact_accuracy: float | None
    """Exact accuracy of always naming the most frequent level."""
    called_right: float | None
    right: float | None
    unscored: float | None
    """Share of critiques whose box holds no level, or without one; they call nothing right and are exact for no level."""


def verification_metrics(predicted: Sequence[float | None], truth: Sequence[float], levels: Levels = THREE_LEVEL) -> VerificationMetrics:
    """Metrics over pairs of a solution and one critique of it.

    predicted: `read_score(...).value`; truth: level of the solution, of the oracle where there is one; leave abstained rows out before.
    Raises SelfVerificationError for lengths that differ and for a value that is no level.
    """
    if len(predicted) != len(truth):
        raise SelfVerificationError(f"{len(predicted)} critiques but {len(truth)} solutions: give one pair for each critique")
    for row, (guess, level) in enumerate(zip(predicted, truth, strict=True)):
        if level not in levels.values or (guess is not None and guess not in levels.values):
            raise SelfVerificationError(f"row {row}: predicted {guess}, truth {level}; the levels are {levels.values}")
    n = len(truth)
    counts = Counter((guess == levels.right, level == levels.right) for guess, level in zip(predicted, truth, strict=True))
    tp, fp, fn, tn = counts[True, True], counts[True, False], counts[False, True], counts[False, False]
    recall, specificity = _share(tp, tp + fn), _share(tn, tn + fp)
    both = recall is not None and specificity is not None
    product = sqrt(tp + fp) * sqrt(tp + fn) * sqrt(tn + fp) * sqrt(tn + fn)
    return VerificationMetrics(
        n=n,
        true_positives=tp,
        false_positives=fp,
        false_negatives=fn,
        true_negatives=tn,
        exact_accuracy=_share(sum(guess == level for guess, level in zip(predicted, truth, strict=True)), n),
        binary_accuracy=_share(tp + tn, n),
        balanced_accuracy=(recall + specificity) / 2 if recall is not None and specificity is not None else None,
        precision=_share(tp, tp + fp),
        recall=recall,
        negative_precision=_share(tn, tn + fn),
        specificity=specificity,
        matthews=None if not both else (tp * tn - fp * fn) / product if product else 0.0,
        majority_accuracy=_share(max(tp + fn, tn + fp), n),
        majority_exact_accuracy=_share(max(Counter(truth).values(), default=0), n),
        called_right=_share(tp + fp, n),
        right=_share(tp + fn, n),
        unscored=_share(sum(guess is None for guess in predicted), n),
    )


def confusion(predicted: Sequence[Hashable], truth: Sequence[Hashable]) -> dict[tuple[Hashable, Hashable], int]:
    """How often each pair (predicted, truth) occurs; pairs that do not occur are left out. None is a critique without a score."""
    return dict(Counter(zip(predicted, truth, strict=True)))


VERIFYING = ("verify", "verifying", "recheck", "validate", "re-evaluate")
"""What solutions say of checking themselves: keywords as in RISE, as whole words in any case."""
REFLECTING = ("wait", "however", "alternatively", "retry", "recheck")


def verifies(text: str) -> bool:
    """Whether a solution holds one of VERIFYING."""
    return _words(VERIFYING).search(text) is not None


def reflections(text: str) -> int:
    """Occurrences of REFLECTING in a solution."""
    return len(_words(REFLECTING).findall(text))


def _words(keywords: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, keywords))})(?!\w)", re.IGNORECASE)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
