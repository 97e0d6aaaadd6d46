"""The rule's error rates from appeals: some of what it rejects (and, as an audit, accepts) was put before a judge.

Paper "Reinforcement Learning with Verifiable yet Noisy Rewards", B.9 and E.4: a Horvitz-Thompson count of false negatives, u / q, and the
rate (FN + alpha) / (FN + TP + alpha + beta). Beyond the paper: the judge's own errors are taken out, false positives are measured or
assumed instead of ignored, and both rates have an interval, for the rates realised in this batch (see count_posterior).
benchmarks/appeals_coverage.py shows how often it holds. Pure: equal counts, rates and seed give equal results.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from assay.verifiers.count_posterior import CountPosterior, Floats, count_posterior, ends
from assay.verifiers.noise_state import Counts

Array = NDArray[Any]
"""Counts, or numbers made of them."""


@dataclass(frozen=True)
class JudgeErrors:
    """How often the judge accepts right and wrong answers. Raises ValueError where that does not tell them apart."""

    true_positive: float = 1.0
    false_positive: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.false_positive < self.true_positive <= 1:
            raise ValueError(
                f"the judge accepts {self.true_positive:g} of right and {self.false_positive:g} of wrong answers: expected shares between "
                "0 and 1, that of right ones the larger; any other judge measures nothing: use a better one, or give its true rates"
            )


@dataclass(frozen=True)
class AppealCounts:
    """What one batch says. Abstentions are taken to have nothing to do with whether the answer is right."""

    rule_positives: int
    rule_negatives: int
    probability: float
    """q: of each rule negative to be appealed."""
    appealed: int
    """Appeals that the judge decided."""
    upheld: int
    """Of those, the ones he accepted."""
    abstained: int = 0
    """Appeals that he did not decide."""
    audit_probability: float = 0.0
    """Of each rule positive to be audited."""
    audited: int = 0
    refused: int = 0
    """Audited rows that he did not accept."""
    audit_abstained: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for counts that no batch can have."""
        if not 0 < self.probability <= 1:
            raise ValueError(f"probability of appeal is {self.probability:g}, expected above 0 and at most 1: counts are divided by it")
        if not 0 <= self.audit_probability <= 1 or (self.audited and not self.audit_probability):
            raise ValueError(
                f"audit_probability is {self.audit_probability:g} with {self.audited} audited rows: expected 0 to 1, above 0 for any"
            )
        _nested("upheld", self.upheld, "appealed", self.appealed)
        _nested("appealed and abstained", self.appealed + self.abstained, "rule_negatives", self.rule_negatives)
        _nested("refused", self.refused, "audited", self.audited)
        _nested("audited and audit_abstained", self.audited + self.audit_abstained, "rule_positives", self.rule_positives)
        if min(self.abstained, self.audit_abstained) < 0:
            raise ValueError(f"abstained is {self.abstained}, audit_abstained {self.audit_abstained}: expected 0 or more")


def _nested(part: str, few: int, whole: str, many: int) -> None:
    if not 0 <= few <= many:
        raise ValueError(f"{part}: {few}, {whole}: {many}; expected 0 <= {part} <= {whole}")


@dataclass(frozen=True)
class Estimate:
    """None: nothing was judged that would tell. Each rate lies within its interval."""

    false_negatives: float | None
    """Horvitz-Thompson count. It may contradict what the examined rows prove (their number varies); the rate then uses the nearest
    end of the count's interval instead."""
    false_negative_rate: float | None
    false_negative_low: float | None
    false_negative_high: float | None
    false_positives: float | None
    false_positive_rate: float | None
    false_positive_low: float | None
    """None also where the rate is assumed: an assumption has no interval."""
    false_positive_high: float | None
    false_positive_source: Literal["audit", "assumed"]


@dataclass(frozen=True)
class AppealsEstimator:
    """Options of the estimate; `estimate` makes one of the counts of a batch."""

    alpha: float = 1e-5
    """Pseudo-count of false negatives."""
    beta: float = 1e-5
    """Pseudo-count of accepted right answers."""
    confidence: float = 0.95
    assumed_false_positive_rate: float = 0.0
    """P(rule accepts | wrong) where no audit measures it."""
    draws: int = 8000
    """Of the posterior. At 8000 another seed moves an end of the interval by less than a hundredth of its width."""
    cells: int = 1024
    """Of the grid of the share's posterior."""

    def estimate(
        self, counts: AppealCounts, judge: JudgeErrors | None = None, seed: int = 0, auditor: JudgeErrors | None = None
    ) -> Estimate:
        """Both rates of one batch. `judge`: the judge's own errors on appealed answers, as far as known (None: it makes none);
        `auditor`: those on audited ones, which are other answers (None: the same)."""
        arrays = {name: np.asarray([value]) for name, value in asdict(counts).items()}
        found = self.estimate_batches(arrays, judge or JudgeErrors(), np.random.default_rng(seed), auditor)
        values = {name: None if np.isnan(value[0]) else float(value[0]) for name, value in found.items()}
        return Estimate(**values, false_positive_source="audit" if counts.audited else "assumed")

    def estimate_batches(
        self, counts: Mapping[str, Array], judge: JudgeErrors, generator: np.random.Generator, auditor: JudgeErrors | None = None
    ) -> dict[str, Floats]:
        """The same for many batches at once, as simulations need it.

        counts: the fields of AppealCounts as arrays, (batches,), not checked. Returns the numbers of Estimate, (batches,), nan for None.
        """
        positives, negatives, audited = counts["rule_positives"], counts["rule_negatives"], counts["audited"] > 0
        auditor = auditor or judge
        refusing = JudgeErrors(1 - auditor.false_positive, 1 - auditor.true_positive)
        rejected = self._count(negatives, counts["appealed"], counts["upheld"], judge, generator)
        missed = horvitz_thompson(counts["upheld"], counts["appealed"], counts["abstained"], counts["probability"], judge)
        passed = horvitz_thompson(counts["refused"], counts["audited"], counts["audit_abstained"], counts["audit_probability"], refusing)

        odds = self.assumed_false_positive_rate / (1 - self.assumed_false_positive_rate)
        false_negatives = np.clip(missed, *rejected.interval())
        assumed = np.minimum((negatives - false_negatives) * odds, positives)
        accepted = self._assumed(rejected, positives, negatives, odds, generator)
        if audited.any():
            audit = self._count(positives, counts["audited"], counts["refused"], refusing, generator)
            audit = replace(audit, draws=generator.permuted(audit.draws, axis=1))  # strata of one count beside any of the other
            accepted = _choose(audited, audit, accepted)
        false_positives = np.where(audited, np.clip(passed, *accepted.interval()), assumed)

        rate = _ratio(false_negatives + self.alpha, false_negatives + positives - false_positives + self.alpha + self.beta, np.nan)
        other = _ratio(false_positives, false_positives + negatives - false_negatives, self.assumed_false_positive_rate)
        other = np.where(audited & (false_positives + negatives - false_negatives <= 0), np.nan, other)  # nothing wrong to be accepted
        low, high = _interval(rejected, accepted, positives)
        other_low, other_high = _interval(accepted, rejected, negatives)
        known = (counts["appealed"] > 0) | ((negatives == 0) & (positives > 0))
        defined = known & np.isfinite(rate)  # without pseudo-counts there may be nothing right
        where = {
            "false_negatives": (missed, known),
            "false_negative_rate": (rate, defined),
            "false_negative_low": (np.fmin(low, rate), defined),
            "false_negative_high": (np.fmax(high, rate), defined),
            "false_positives": (np.where(audited, passed, assumed), audited | known),
            "false_positive_rate": (other, known),
            "false_positive_low": (np.fmin(other_low, other), audited & known),
            "false_positive_high": (np.fmax(other_high, other), audited & known),
        }
        return {name: np.where(told, values, np.nan) for name, (values, told) in where.items()}

    def _count(
        self, population: Array, examined: Array, found: Array, judge: JudgeErrors, generator: np.random.Generator
    ) -> CountPosterior:
        hit, false_alarm = judge.true_positive, judge.false_positive
        return count_posterior(population, examined, found, hit, false_alarm, self.confidence, generator, self.draws, self.cells)

    def _assumed(
        self, rejected: CountPosterior, positives: Array, negatives: Array, odds: float, generator: np.random.Generator
    ) -> CountPosterior:
        """Without an audit: as many false positives as the assumed rate makes of the wrong answers that the rule has rejected (negative
        binomial)."""
        wrong = negatives[:, None] - rejected.draws
        made = np.minimum(generator.poisson(generator.standard_gamma(wrong) * odds), positives[:, None]) if odds else np.zeros_like(wrong)
        half, none = np.full(len(positives), (1 - self.confidence) / 2), np.zeros_like(positives)
        return CountPosterior(made, half, half, none, positives if odds else none)


def _choose(where: Array, first: CountPosterior, second: CountPosterior) -> CountPosterior:
    """Batch by batch."""
    return CountPosterior(
        np.where(where[:, None], first.draws, second.draws),
        np.where(where, first.below, second.below), np.where(where, first.above, second.above),
        np.where(where, first.least, second.least), np.where(where, first.most, second.most),
    )  # fmt: skip


def horvitz_thompson(said: Array, decided: Array, abstained: Array, probability: Array, judge: JudgeErrors, bounded: bool = True) -> Floats:
    """Count of right answers among all that might have been asked about: those among the decided, (u - fpr m) / (tpr - fpr), which is
    u for a judge without errors, over the probability of being decided, q m / (m + abstained). 0 where none was decided.

    bounded: no fewer than none of the decided and no more than all, which a judge's errors can make of few right ones. Bounded counts
    are nearer the truth, but on average too many (or few): for averages over batches they are not bounded."""
    share = probability * _ratio(decided, decided + abstained, 0.0)
    right = (said - judge.false_positive * decided) / (judge.true_positive - judge.false_positive)
    return _ratio(np.clip(right, 0, decided) if bounded else right, share, 0.0)


def unbounded_counts(
    counts: AppealCounts, judge: JudgeErrors, auditor: JudgeErrors, assumed_false_positive_rate: float
) -> tuple[Counts, Counts]:
    """What one batch adds to averages over batches: counts that are right on average, as linear functions of what was said."""
    refusing = JudgeErrors(1 - auditor.false_positive, 1 - auditor.true_positive)

    def count(said: int, decided: int, abstained: int, probability: float, errors: JudgeErrors) -> float:
        one, of, open_, q = (np.asarray([value]) for value in (said, decided, abstained, probability))
        return float(horvitz_thompson(one, of, open_, q, errors, bounded=False)[0])

    missed = count(counts.upheld, counts.appealed, counts.abstained, counts.probability, judge)
    wrong = counts.rule_negatives - missed
    if counts.audited:
        passed = count(counts.refused, counts.audited, counts.audit_abstained, counts.audit_probability, refusing)
    else:
        passed = wrong * assumed_false_positive_rate / (1 - assumed_false_positive_rate)
    return (missed, counts.rule_positives - passed), (passed, wrong)


def smooth_counts(carried: Counts | None, rate: float | None, found: Counts, decay: float) -> Counts:
    """Moving average of counts. Where only a rate is carried (a given start, or averages of rates), it is that of as many answers as this
    batch has."""
    if carried is None and rate is not None:
        size = sum(max(value, 0.0) for value in found)
        carried = rate * size, (1 - rate) * size
    before: tuple[float | None, float | None] = carried or (None, None)
    return smooth(before[0], found[0], decay), smooth(before[1], found[1], decay)


def share(counts: Counts, alpha: float = 0.0, beta: float = 0.0) -> float | None:
    """The rate that averaged counts give: here, once, they are bounded. None where there is nothing."""
    part, other = (max(value, 0.0) for value in counts)
    whole = part + other + alpha + beta
    return (part + alpha) / whole if whole > 0 else None


def _interval(part: CountPosterior, rival: CountPosterior, others: Array) -> tuple[Floats, Floats]:
    """(batches,) interval of part / (part + others - rival), the rate of part among all rows of its kind.

    What is left out is divided between below and above as for part and rival each, in the measure in which they make the rate uncertain.
    Where all of a kind may be missing, the rate may be anything.
    """
    if not rival.draws.any():
        low, high = part.interval()
        return _ratio(low, low + others, 0.0), _ratio(high, high + others, 1.0)
    kept = others[:, None] - rival.draws
    own = part.draws.var(axis=1) * kept.mean(axis=1) ** 2
    foreign = rival.draws.var(axis=1) * part.draws.mean(axis=1) ** 2
    weight = _ratio(own, own + foreign, 0.5)
    below = weight * part.below + (1 - weight) * rival.below
    above = weight * part.above + (1 - weight) * rival.above
    low, _ = ends(_ratio(part.draws, part.draws + kept, 0.0), below, above)
    _, high = ends(_ratio(part.draws, part.draws + kept, 1.0), below, above)
    least = _ratio(part.least, part.least + others - rival.least, 0.0)
    most = _ratio(part.most, part.most + others - rival.most, 1.0)
    return np.where(below > 0, low, least), np.where(above > 0, high, most)


def _ratio(part: Array, whole: Array, otherwise: float) -> Floats:
    """part / whole, or `otherwise` where whole is 0."""
    empty = np.broadcast_to(otherwise, np.broadcast_shapes(np.shape(part), np.shape(whole))).astype(np.float64)
    return np.divide(part, whole, out=empty, where=np.asarray(whole) > 0)


def smooth(previous: float | None, value: float, decay: float) -> float:
    """Moving average, decay x previous + (1 - decay) x value (lambda in B.9); the first value begins it."""
    return value if previous is None else decay * previous + (1 - decay) * value


def residual_rates(false_negative_rate: float, false_positive_rate: float, probability: float, judge: JudgeErrors) -> tuple[float, float]:
    """Rates of the reward after upheld appeals, each taken with the given probability, have become right: (false-negative, false-positive).

    (1 - q) x the false-negative rate for a judge without errors; one with errors also makes wrong answers right."""
    negative = false_negative_rate * (1 - probability * judge.true_positive)
    return negative, false_positive_rate + (1 - false_positive_rate) * probability * judge.false_positive


def measured_judge_errors(
    right_accepted: int, right_judged: int, wrong_accepted: int, wrong_judged: int, minimum: int = 20
) -> JudgeErrors | None:
    """The judge's errors on answers that an oracle decides too: the shares he accepts of right and of wrong ones.

    A class with fewer than `minimum` judged answers keeps the value of a judge without errors, as it would unmeasured; None where both
    have fewer. That the shares are measured, not known, does not widen any interval. Raises ValueError (JudgeErrors) where they do not
    tell right from wrong.
    """
    _nested("right_accepted", right_accepted, "right_judged", right_judged)
    _nested("wrong_accepted", wrong_accepted, "wrong_judged", wrong_judged)
    if max(right_judged, wrong_judged) < minimum:
        return None
    right = right_accepted / right_judged if right_judged >= minimum else 1.0
    wrong = wrong_accepted / wrong_judged if wrong_judged >= minimum else 0.0
    return JudgeErrors(right, wrong)
