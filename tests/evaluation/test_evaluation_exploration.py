"""Keep and explore rates at k tries, curves against policy 0, and what they say together."""

from itertools import combinations

import numpy as np
import pytest
from hand_made import sample_tables, tasks_table, values
from scipy.special import betaincinv

from assay.evaluation import again_at_k, evaluate, explore_at_k, keep_at_k, keep_rate, pass_at_k
from assay.evaluation.estimators import Estimate
from assay.evaluation.exploration import Curves, curve_ks, curves, diversity_sentence
from assay.evaluation.samples import gather
from assay.params.sampling import EvaluationParams

TASKS = {name: ("sums", "eval") for name in "abc"}
PARAMS = EvaluationParams(samples=4, pass_at=(1, 4))


def tables(before: dict[str, str], after: dict[str, str]):
    rows = [(k, task, {"rule": sign}) for k, side in enumerate((before, after)) for task, signs in side.items() for sign in signs]
    return tasks_table(TASKS), *sample_tables(rows)


def solves(signs: str, k: int) -> list[bool]:
    """Of each set of k tries out of these, whether one is right."""
    return ["+" in chosen for chosen in combinations(signs, k)]


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_kept_and_newly_solved_are_means_over_all_sets_of_tries(k):
    """Brute force: every set of k tries of the base beside every set of k tries of the policy, task by task."""
    before, after = {"a": "++--", "b": "+---", "c": "----"}, {"a": "+++-", "b": "----", "c": "+---"}
    solved = kept = missed = found = 0.0
    for task in before:
        pairs = [(one, two) for one in solves(before[task], k) for two in solves(after[task], k)]
        solved += np.mean([one for one, _ in pairs])
        kept += np.mean([one and two for one, two in pairs])
        missed += np.mean([not one for one, _ in pairs])
        found += np.mean([two and not one for one, two in pairs])
    base, policy = (pass_at_k([4, 4, 4], [signs.count("+") for signs in side.values()], k) for side in (before, after))
    assert keep_at_k(base, policy).value == pytest.approx(kept / solved)
    assert explore_at_k(base, policy).value == pytest.approx(found / missed)


@pytest.mark.parametrize("k", [1, 2])
def test_chance_keeps_what_two_separate_sets_of_tries_both_solve(k):
    counts = {"a": "++--", "b": "+---", "c": "----"}
    sums = np.zeros(4)
    for signs in counts.values():
        pairs = [
            ("+" in {signs[i] for i in one}, "+" in {signs[i] for i in two})
            for one in combinations(range(4), k) for two in combinations(range(4), k) if not set(one) & set(two)
        ]  # fmt: skip
        sums += [np.mean(rows) for rows in ([a for a, _ in pairs], [a and b for a, b in pairs],
                                            [not a for a, _ in pairs], [b and not a for a, b in pairs])]  # fmt: skip
    kept, found = again_at_k([4, 4, 4], [2, 1, 0], k)
    assert (kept.value, found.value) == pytest.approx((sums[1] / sums[0], sums[3] / sums[2]))


def test_at_all_samples_it_is_the_keep_rate_with_almost_its_interval():
    random = np.random.default_rng(0)
    base, now = random.random(200) < 0.6, random.random(200) < 0.7
    one, other = keep_at_k(base, now, samples=8), keep_rate(base, now)
    assert (one.value, one.n) == (pytest.approx(other.value), other.n)
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=2e-3)
    every = keep_at_k([1.0] * 50, [1.0] * 50)
    assert every.value == every.high == 1 and 0.9 < every.low < 0.95
    assert keep_at_k([0.0, 0.0], [1.0, 1.0]).n == 0 and explore_at_k([1.0], [0.5]).n == 0


@pytest.mark.parametrize("k", [1, 4, 8])
def test_coverage_of_the_keep_rate(k):
    """Tasks easier for the later policy, but partly forgotten; the truth comes from many tasks with known ease."""
    random = np.random.default_rng(k)

    def ease(size):
        before = random.beta(0.6, 0.9, size)
        return before, np.where(random.random(size) < 0.2, 0.2 * before, before**0.4)

    def reach(p):
        return 1 - (1 - p) ** k

    before, after = ease(400_000)
    truth = (reach(before) * reach(after)).sum() / reach(before).sum()
    hits, runs = 0, 500
    for _ in range(runs):
        first, last = (pass_at_k(8, random.binomial(8, p), k) for p in ease(150))
        estimate = keep_at_k(first, last, samples=8, k=k)
        hits += estimate.low <= truth <= estimate.high
    assert 0.92 <= hits / runs <= 0.98


@pytest.mark.parametrize(("tasks", "samples", "k", "a", "b"), [(256, 16, 8, 2, 1), (512, 8, 4, 4, 1), (64, 8, 4, 2, 1), (150, 8, 1, 1, 1)])
def test_coverage_of_the_explore_rate(tasks, samples, k, a, b):
    """Most tasks are solved by nearly every set of tries: some ten of them bear all the weight of those that are not."""
    random = np.random.default_rng(3)

    def misses(ease):
        return (1 - ease) ** k

    known = betaincinv(a, b, (np.arange(100_000) + 0.5) / 100_000)
    truth = (misses(known) * (1 - misses(known**0.6))).sum() / misses(known).sum()
    hits, runs = 0, 400
    for _ in range(runs):
        ease = random.beta(a, b, tasks)
        first, last = (pass_at_k(samples, random.binomial(samples, p), k) for p in (ease, ease**0.6))
        estimate = explore_at_k(first, last, samples=samples, k=k)
        hits += estimate.low <= truth <= estimate.high
    assert 0.92 <= hits / runs <= 0.995


def test_one_task_that_bears_nearly_all_weight_leaves_the_explored_share_open():
    estimate = explore_at_k([0.0, *[1 - 1e-9] * 30], [0.5, *[1.0] * 30], samples=8, k=4)
    assert estimate.high - estimate.low > 0.9 and estimate.value == pytest.approx(0.5)


def test_rates_at_k_are_rows_of_evaluations():
    table = evaluate(*tables({"a": "++--", "b": "+---", "c": "----"}, {"a": "++++", "b": "----", "c": "----"}), PARAMS)
    last = values(table, iteration=1, environment="all", split="eval")
    assert last["keep@1"] == (pytest.approx(0.5 / 0.75), 2) and last["explore@1"] == (pytest.approx(0.5 / 2.25), 3)
    assert last["keep@4"] == last["keep_rate"] == (0.5, 2) and last["explore@4"] == last["explore_rate"] == (0.0, 1)
    first = values(table, iteration=0, environment="all", split="eval")
    # Chance: of a, 2 of 12 ordered pairs of different tries are both right, of b none; 3 of 4 tries are right over all.
    assert first["keep@1"] == (pytest.approx(1 / 6 / 0.75), 2)
    assert "keep@4" not in first and "explore@4" not in first


def test_curves_are_the_metrics_of_the_record_at_each_k():
    args = tables({"a": "++--", "b": "+---", "c": "----"}, {"a": "++++", "b": "+++-", "c": "----"})
    first, last = curves(gather(*args), "eval", PARAMS)
    assert first.ks == last.ks == (1, 2, 4) and not first.gains
    assert [e.value for e in first.passes] == pytest.approx([0.25, (5 / 6 + 1 / 2) / 3, 2 / 3])
    assert [e.value for e in last.gains] == pytest.approx([1 / 3, (1 / 6 + 1 / 2) / 3, 0], abs=1e-12)
    table = evaluate(*args, EvaluationParams(samples=4, pass_at=(1, 2, 4)))
    for curve in (first, last):
        rows = {r["metric"]: r for r in table.to_pylist() if r["iteration"] == curve.iteration and r["environment"] == "all"}
        series = {"pass@{}": curve.passes, "pass@{}_gain": curve.gains, "keep@{}": curve.kept, "explore@{}": curve.explored}
        for name, estimates in series.items():
            for k, estimate in zip(curve.ks, estimates, strict=False):
                row = rows[name.format(k)]
                if row["n"]:
                    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (row["value"], row["low"], row["high"], row["n"])


def test_curves_end_where_one_task_in_ten_has_no_more_decided_samples():
    """With 64 samples of each task; abstentions of a single task do not shorten the curve, those of many do."""
    names = [f"t{i}" for i in range(20)]
    tasks = tasks_table({name: ("sums", "eval") for name in names})

    def ks(abstaining):
        rows = [(0, name, {"rule": "?" if name in abstaining and i < 3 else "+-"[i % 2]}) for name in names for i in range(64)]
        return curve_ks(gather(tasks, *sample_tables(rows)), "eval", (1, 8))

    assert ks(names[:1]) == (1, 2, 4, 8, 16, 32, 64)
    assert ks(names[:4]) == (1, 2, 4, 8, 16, 32, 61)
    assert curve_ks(gather(tasks, *sample_tables([(0, "t0", {"rule": "?"})])), "eval") == ()


@pytest.mark.parametrize(("low", "high", "words"), [
    ((0.1, 0.05, 0.2), (-0.2, -0.3, -0.1), "training has narrowed it."),
    ((0.1, 0.05, 0.2), (0.1, 0.05, 0.2), "more is within its reach."),
    ((0.1, 0.05, 0.2), (0.0, -0.1, 0.1), "shows no clear change."),
    ((0.0, -0.1, 0.1), (0.0, -0.1, 0.1), "pass@64 +0.000 [-0.100, +0.100]."),
])  # fmt: skip
def test_the_sentence_reads_the_two_ends_together(low, high, words):
    curve = Curves(3, (1, 64), (), (Estimate(*low, 9), Estimate(*high, 9)))
    assert diversity_sentence([curve], 0).startswith(f"Policy 3 minus policy 0, paired by task: pass@1 {low[0]:+.3f}")
    assert diversity_sentence([curve], 0).endswith(words)
    assert diversity_sentence([Curves(0, (1, 64), ())], 0) == ""
