"""How often do the intervals of appeals cover the error rates that a batch really has?

    python -m benchmarks.appeals_coverage                    # three to five minutes on one core
    python -m benchmarks.appeals_coverage --repetitions 300  # a minute

Each cell of the grid is a true false-negative rate, an accuracy of the policy, a number of rows, a probability of appeal and a judge.
A repetition draws right and wrong answers, the rule's verdicts, which are appealed (or audited) and what the judge says, and asks
whether the 95 % interval holds the share that was realised. The judge's true rates are given to the estimator. Cells in which fewer
than 20 appeals (audits) are expected are left out, and so are repetitions in which fewer than 20 were drawn. The lowest of many
cells is low by luck too, so cells below 92 % are drawn anew, four times as often, and the new figure stands. Intervals rest on 200 draws
of the posterior where runs use 8000: they are rougher, which costs a few tenths of a per cent of coverage.

Three parts: without false positives, with false positives that an audit measures, and with a false-positive rate that is assumed
(truly). Ends with 1 where the mean coverage of a part is outside 93 to 97 %, or a cell below 90 %.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from assay.verifiers.appeals_estimator import AppealsEstimator, JudgeErrors

JUDGES = (JudgeErrors(), JudgeErrors(0.95, 0.02), JudgeErrors(0.9, 0.05), JudgeErrors(0.8, 0.1))
LEAST = 20
"""Appeals, or audits."""
MEAN, WORST, DOUBTFUL, OVER = (0.93, 0.97), 0.90, 0.92, 0.975


@dataclass(frozen=True)
class Cell:
    judge: JudgeErrors
    probability: float
    """Of appeal, and of audit."""
    false_negative_rate: float
    accuracy: float
    rows: int
    false_positive_rate: float = 0.0
    audited: bool = False

    @property
    def exact(self) -> bool:
        """Everything is judged and the judge makes no errors, so that nothing is left to estimate."""
        return self.probability == 1 and self.judge == JudgeErrors() and (self.audited or not self.false_positive_rate)

    def expected(self) -> float:
        """Sampled appeals, or audits where they are fewer."""
        missed, passed = self.accuracy * self.false_negative_rate, (1 - self.accuracy) * self.false_positive_rate
        rejected = 1 - self.accuracy - passed + missed
        return self.rows * self.probability * (min(rejected, 1 - rejected) if self.audited else rejected)

    def __str__(self) -> str:
        return (
            f"judge {self.judge.true_positive:g}/{self.judge.false_positive:g}, q {self.probability:g}, false-negative rate "
            f"{self.false_negative_rate:g}, false-positive rate {self.false_positive_rate:g}, accuracy {self.accuracy:g}, rows {self.rows}"
        )


@dataclass(frozen=True)
class Outcome:
    cell: Cell
    covered: float
    width: float
    bias: float
    """Mean of estimated less realised rate."""
    error: float
    """Largest difference of estimated and realised rate."""
    positive_covered: float
    positive_width: float


def simulate(cell: Cell, repetitions: int, generator: np.random.Generator, draws: int = 200, cells: int = 128) -> Outcome:
    binomial, judge = generator.binomial, cell.judge
    right = binomial(cell.rows, cell.accuracy, repetitions)
    missed, passed = binomial(right, cell.false_negative_rate), binomial(cell.rows - right, cell.false_positive_rate)
    positives = right - missed + passed
    audit = cell.probability if cell.audited else 0.0
    appealed = {True: binomial(missed, cell.probability), False: binomial(cell.rows - right - passed, cell.probability)}
    audited = {True: binomial(right - missed, audit), False: binomial(passed, audit)}
    tpr, fpr = judge.true_positive, judge.false_positive
    counts: dict[str, np.ndarray] = {
        "rule_positives": positives, "rule_negatives": cell.rows - positives,
        "probability": np.full(repetitions, cell.probability), "audit_probability": np.full(repetitions, audit),
        "appealed": appealed[True] + appealed[False], "upheld": binomial(appealed[True], tpr) + binomial(appealed[False], fpr),
        "audited": audited[True] + audited[False], "refused": binomial(audited[True], 1 - tpr) + binomial(audited[False], 1 - fpr),
        "abstained": np.zeros(repetitions, int), "audit_abstained": np.zeros(repetitions, int),
    }  # fmt: skip
    enough = (counts["appealed"] >= LEAST) & (right > 0) & (right < cell.rows)
    if cell.audited:
        enough &= counts["audited"] >= LEAST
    counts = {name: value[enough] for name, value in counts.items()}
    truth, other = (missed / np.maximum(right, 1))[enough], (passed / np.maximum(cell.rows - right, 1))[enough]
    assumed = 0.0 if cell.audited else cell.false_positive_rate
    estimator = AppealsEstimator(assumed_false_positive_rate=assumed, draws=draws, cells=cells)
    found = estimator.estimate_batches(counts, judge, generator)

    def covers(kind: str, rate: np.ndarray) -> tuple[float, float]:
        low, high = found[f"{kind}_low"], found[f"{kind}_high"]
        return float(np.mean((low - 1e-12 <= rate) & (rate <= high + 1e-12))), float(np.mean(high - low))

    away = found["false_negative_rate"] - truth
    return Outcome(cell, *covers("false_negative", truth), float(away.mean()), float(np.abs(away).max()), *covers("false_positive", other))


def grid(part: str) -> Iterator[Cell]:
    """Cells of `none` (no false positives), `audited` or `assumed`."""
    if part == "none":
        for judge, q, rate, accuracy, rows in product(
            JUDGES, (0.1, 0.3, 0.6, 1.0), (0.02, 0.05, 0.1, 0.2, 0.4, 0.6), (0.1, 0.3, 0.6, 0.9), (128, 512, 1024, 4096)
        ):
            yield Cell(judge, q, rate, accuracy, rows)
        return
    for judge, q, rate, accuracy, rows, false in product(
        JUDGES, (0.1, 0.3, 1.0), (0.05, 0.2, 0.6), (0.1, 0.3, 0.6, 0.9), (512, 4096), (0.02, 0.1)
    ):
        yield Cell(judge, q, rate, accuracy, rows, false, part == "audited")


def table(outcomes: list[Outcome], covered: str, width: str) -> bool:
    """Prints coverage by judge and probability; whether it is as it should be, cells that are exact left aside."""
    print(f"{'judge tpr/fpr':>14}{'q':>6}{'cells':>7}{'mean coverage':>15}{'least':>8}{'most':>8}{'mean width':>12}")
    for judge, q in sorted({(o.cell.judge, o.cell.probability) for o in outcomes}, key=lambda key: (JUDGES.index(key[0]), key[1])):
        of = [o for o in outcomes if (o.cell.judge, o.cell.probability) == (judge, q)]
        shares, widths = [getattr(o, covered) for o in of], [getattr(o, width) for o in of]
        name = f"{judge.true_positive:g}/{judge.false_positive:g}"
        print(
            f"{name:>14}{q:>6g}{len(of):>7}{np.mean(shares):>15.2%}{min(shares):>8.1%}{max(shares):>8.1%}{np.mean(widths):>12.3f}"
            + ("   exact" if all(o.cell.exact for o in of) else "")
        )
    open_ = [o for o in outcomes if not o.cell.exact]
    mean = float(np.mean([getattr(o, covered) for o in open_]))
    worst = min(open_, key=lambda o: getattr(o, covered))
    everything = np.mean([getattr(o, covered) for o in outcomes])
    print(f"mean {mean:.2%} over {len(open_)} cells ({everything:.2%} with exact ones); least {getattr(worst, covered):.2%}: {worst.cell}")
    return MEAN[0] <= mean <= MEAN[1] and getattr(worst, covered) >= WORST


def over_covering(outcomes: list[Outcome], listed: int) -> None:
    """Cells above 97.5 %: counts are discrete (few wrong rows can be hit or missed) or lie at the edge of what is possible."""
    over = sorted((o for o in outcomes if not o.cell.exact and o.covered > OVER), key=lambda o: -o.covered)
    few = sum(o.cell.rows * o.cell.accuracy * o.cell.false_negative_rate < 30 for o in over)
    print(f"\n{len(over)} cells above {OVER:.1%}, {few} of them with fewer than 30 false negatives expected" + (":" if over else ""))
    for outcome in over[:listed]:
        print(f"  {outcome.covered:.1%}  {outcome.cell}")
    if len(over) > listed:
        print(f"  ... and {len(over) - listed} more (--listed)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--listed", type=int, default=1000, help="over-covering cells to print")
    arguments = parser.parse_args()
    began, good = time.monotonic(), True
    for number, part in enumerate(("none", "audited", "assumed")):
        cells = [cell for cell in grid(part) if cell.expected() >= LEAST]
        repetitions = arguments.repetitions if part == "none" else max(arguments.repetitions // 4, 1)
        outcomes, again = [], 0
        for index, cell in enumerate(cells):
            outcome = simulate(cell, repetitions, np.random.default_rng((arguments.seed, number, index)))
            if min(outcome.covered, outcome.positive_covered if cell.audited else 1) < DOUBTFUL:
                again += 1
                outcome = simulate(cell, 4 * repetitions, np.random.default_rng((arguments.seed, number, index, 1)))
            outcomes.append(outcome)
            if sys.stderr.isatty() or index % 200 == 199:
                print(f"{part}: cell {index + 1} of {len(cells)}", file=sys.stderr, end="\r" if sys.stderr.isatty() else "\n")
        print(f"\nFalse-negative rate, false positives: {part} ({repetitions} repetitions of each cell, {again} cells drawn anew)")
        good &= table(outcomes, "covered", "width")
        if part == "audited":
            print("\nFalse-positive rate, audited")
            good &= table(outcomes, "positive_covered", "positive_width")
        exact = [o.error for o in outcomes if o.cell.exact]
        if exact:
            print(f"exact cells: {len(exact)}, estimated and realised rate differ by {max(exact):.1e} at most (pseudo-counts)")
        print(f"mean of estimated less realised rate, over all cells: {np.mean([o.bias for o in outcomes]):+.4f}")
        over_covering(outcomes, arguments.listed)
    print(f"\n{time.monotonic() - began:.0f} s; " + ("as it should be" if good else "OUTSIDE the limits"))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
