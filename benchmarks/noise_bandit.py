"""Noisy verifiers where everything is exact but the sampling: bandits and a tabular policy, over the whole grid of 1 - fpr - fnr.

    python -m benchmarks.noise_bandit [--seeds 20] [--only bandit|tabular]

Softmax policies trained by group policy gradients, groups of 8, one on-policy step per batch, with plain SGD and with Adam, with and
without a penalty towards the start (coefficient x KL(policy || start), its exact gradient). For each it prints the expected accuracy of
the last policy (exact: a sum over actions, not a sample), and differences paired by seed. Intervals are 95 % t intervals over seeds. Arms
of one seed share the start, the batches of contexts and the uniforms behind actions, flips, appeals and the judge's errors. The arms are
in noise_arms.py.

What the theory says to expect: noise and both corrections have one expected direction, so no arm stalls while c = 1 - fpr - fnr > 0;
backward is the matched control over c, so under Adam they tie without a penalty, and with one the control's penalty is 1 / c too strong:
it goes to the limit of rewards of strength c (so does forward at scale 1), backward and forward at scale c to that of strength 1. The
z-score changes the strength in its own way. Under SGD backward has the control's learning rate over c. Direct and forward have no
baseline, so a variance that is large where most answers are right (direct) or wrong (forward). Appeals raise c itself, to
(1 - fpr) (1 - q judge's fpr) - fnr (1 - q judge's tpr): much where right answers are lost, little, or less than nothing, where fnr is 0.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.evaluation.estimators import mean_with_interval
from benchmarks.noise_arms import JUDGE, NAMES, PROBABILITY, Batch, arms

Rows = list[dict[str, Any]]
Rates = Sequence[tuple[float, float]]
Say = Callable[[str], None]

GROUP = 8
THRESHOLD = 0.8
RATES = (
    (0.0, 0.0), (0.0, 0.2), (0.2, 0.0), (0.1, 0.2), (0.2, 0.1), (0.1, 0.5), (0.5, 0.1), (0.1, 0.7), (0.7, 0.1), (0.1, 0.8), (0.8, 0.1),
)  # fmt: skip
"""(fpr, fnr): c is 1, .8, .7, .4, .2 and .1, mostly lost right answers and mostly accepted wrong ones."""
PAIRS = (
    ("noise, z-score", "oracle, z-score"), ("backward", "noise, leave-one-out"), ("appeals + forward", "noise, direct"),
    ("forward", "noise, direct"), ("forward", "noise, leave-one-out"), ("appeals", "noise, z-score"),
    ("appeals + forward", "appeals + direct"),
)  # fmt: skip
"""Arms whose difference is taken, seed by seed: of the last policy's accuracy, and of the first three also of the mean over updates."""
MEANS = PAIRS[:3]


@dataclass(frozen=True)
class Problem:
    """A softmax policy over actions for each context, and which actions are right."""

    name: str
    start: np.ndarray
    """(seeds, contexts, actions) logits."""
    right: np.ndarray
    """(seeds, contexts, actions), true where right."""
    groups: int
    """Sampled at each update, each of a context of its own; all of the one context of a bandit."""
    updates: int
    rates: dict[str, float]
    """Learning rate of each optimizer."""


def bandit(actions: int, seeds: int) -> Problem:
    """One context. Two actions: P(right) starts at .3, as in the worked numbers; otherwise all are equally likely."""
    start = np.zeros((seeds, 1, actions))
    if actions == 2:
        start[..., 0] = np.log(0.3 / 0.7)
    right = np.zeros((seeds, 1, actions), dtype=bool)
    right[..., 0] = True
    return Problem(f"bandit of {actions} arms", start, right, groups=4, updates=200, rates={"sgd": 0.5, "adam": 0.05})


def tabular(seeds: int, contexts: int = 64, actions: int = 16, correct: int = 2) -> Problem:
    """Contexts of different difficulty: standard normal logits, and `correct` right actions in each; 16 contexts an update."""
    start, right = np.empty((seeds, contexts, actions)), np.zeros((seeds, contexts, actions), dtype=bool)
    for seed in range(seeds):
        generator = np.random.default_rng([seed, 1])
        start[seed] = generator.normal(size=(contexts, actions))
        np.put_along_axis(right[seed], generator.random((contexts, actions)).argsort(1)[:, :correct], True, 1)
    name = f"tabular, {contexts} contexts of {actions} actions"
    return Problem(name, start, right, groups=16, updates=300, rates={"sgd": 16.0, "adam": 0.1})


def run_bandit(seeds: int = 20, rates: Rates = RATES, coefficient: float = 0.2, say: Say = lambda line: None) -> Rows:
    """Both bandits under SGD and Adam, without and with the penalty: a row for each setting, pair of rates and arm. See `rows_of`."""
    return [row for actions in (2, 10) for row in run(bandit(actions, seeds), rates, coefficient, say)]


def run_tabular(seeds: int = 20, rates: Rates = RATES, coefficient: float = 0.2, say: Say = lambda line: None) -> Rows:
    """The tabular task under SGD and Adam, without and with the penalty. Rows as run_bandit."""
    return run(tabular(seeds), rates, coefficient, say)


def run(problem: Problem, rates: Rates, coefficient: float, say: Say) -> Rows:
    rows: Rows = []
    for optimizer in problem.rates:
        for penalty in (0.0, coefficient):
            began = time.perf_counter()
            rows += rows_of(problem, rates, optimizer, penalty, *train(problem, rates, optimizer, penalty))
            say(f"{problem.name}, {optimizer}, penalty {penalty:g}: {time.perf_counter() - began:.0f} s")
    return rows


def train(problem: Problem, rates: Rates, optimizer: str, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Expected accuracy after 0, 1, ... updates, (arms, rates, seeds, updates + 1), and KL(policy || start) after the last, (arms, rates,
    seeds), a mean over contexts. All arms, rates and seeds go side by side.
    """
    seeds, contexts, actions = problem.start.shape
    shape = (len(NAMES), len(rates), seeds)
    logits = np.broadcast_to(problem.start, (*shape, contexts, actions)).copy()
    step = Adam(logits, problem.rates["adam"]) if optimizer == "adam" else Sgd(logits, problem.rates["sgd"])
    fpr, fnr = (np.reshape([pair[side] for pair in rates], (-1, 1, 1, 1)) for side in (0, 1))
    rows = (len(rates), seeds, problem.groups, GROUP)
    per_row = [np.broadcast_to(rate, rows).reshape(-1) for rate in (fpr, fnr)]
    ids = np.repeat(np.arange(np.prod(rows[:-1])), GROUP)
    draws = [np.random.default_rng([seed, 2]) for seed in range(seeds)]
    judges, advantages = [np.random.default_rng([seed, 3]) for seed in range(seeds)], arms()
    this, start, curves = np.arange(seeds)[:, None], log_softmax(problem.start), [accuracy(logits, problem.right)]
    for _ in range(problem.updates):
        # Common random numbers: nothing drawn here depends on the arm or the rates.
        drawn = [draw(generator, problem, contexts) for generator in draws]
        sampled, actions_drawn, flips_drawn = (np.stack(parts) for parts in zip(*drawn, strict=True))
        asked, judged = (
            np.broadcast_to(parts, rows).reshape(-1)
            for parts in np.stack([generator.random((2, problem.groups, GROUP)) for generator in judges], 1)
        )
        logs = log_softmax(logits[:, :, this, sampled])
        chances = np.exp(logs)
        chosen = (actions_drawn[..., None] >= np.cumsum(chances, -1)[..., None, :-1]).sum(-1)
        right = np.take_along_axis(problem.right[this, sampled][None, None], chosen, -1)
        seen = np.where(right, flips_drawn >= fnr, flips_drawn < fpr).astype(float)
        weights = np.empty(chosen.shape)
        for arm, advantage in enumerate(advantages.values()):
            clean, observed = right[arm].astype(float).reshape(-1), seen[arm].reshape(-1)
            batch = Batch(clean, observed, ids, per_row[0], per_row[1], asked, judged, len(rates) * seeds)
            weights[arm] = advantage(batch).reshape(rows)
        # The score of an action is its one-hot vector minus the policy.
        ascent = summed(weights, chosen, actions) - chances * weights.sum(-1, keepdims=True)
        ascent /= GROUP
        if penalty:
            gap = logs - start[this, sampled]
            ascent -= penalty * chances * (gap - (chances * gap).sum(-1, keepdims=True))
        ascent /= problem.groups
        gradient = np.zeros_like(logits)
        if contexts == 1:
            gradient[..., 0, :] = ascent.sum(-2)
        else:
            gradient[:, :, this, sampled] = ascent
        step(gradient)
        curves.append(accuracy(logits, problem.right))
    logs = log_softmax(logits)
    return np.stack(curves, -1), (np.exp(logs) * (logs - start)).sum(-1).mean(-1)


def draw(generator: np.random.Generator, problem: Problem, contexts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contexts of an update, and the uniforms that decide its actions and its flips."""
    sampled = np.zeros(problem.groups, dtype=int) if contexts == 1 else generator.permutation(contexts)[: problem.groups]
    return sampled, generator.random((problem.groups, GROUP)), generator.random((problem.groups, GROUP))


def summed(weights: np.ndarray, chosen: np.ndarray, actions: int) -> np.ndarray:
    """(..., group) weights summed by action: (..., actions)."""
    before = chosen.shape[:-1]
    cells = np.arange(np.prod(before)).reshape(*before, 1) * actions + chosen
    return np.bincount(cells.reshape(-1), weights.reshape(-1), minlength=int(np.prod(before)) * actions).reshape(*before, actions)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def accuracy(logits: np.ndarray, right: np.ndarray) -> np.ndarray:
    """P(a right action), mean over contexts: exact."""
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return ((odds * right).sum(-1) / odds.sum(-1)).mean(-1)


class Sgd:
    """Gradient ascent, in place."""

    def __init__(self, values: np.ndarray, rate: float) -> None:
        self.values, self.rate = values, rate

    def __call__(self, gradient: np.ndarray) -> None:
        self.values += self.rate * gradient


class Adam:
    """Adam (Kingma and Ba 2015) with its usual constants, ascending, in place."""

    def __init__(self, values: np.ndarray, rate: float) -> None:
        self.values, self.rate, self.steps = values, rate, 0
        self.mean, self.square = np.zeros_like(values), np.zeros_like(values)

    def __call__(self, gradient: np.ndarray) -> None:
        self.steps += 1
        self.mean += 0.1 * (gradient - self.mean)
        self.square += 0.001 * (gradient**2 - self.square)
        deviation = np.sqrt(self.square / (1 - 0.999**self.steps)) + 1e-8
        self.values += (self.rate / (1 - 0.9**self.steps)) * self.mean / deviation


def rows_of(problem: Problem, rates: Rates, optimizer: str, penalty: float, curves: np.ndarray, divergence: np.ndarray) -> Rows:
    """A row for each arm and pair of rates: final accuracy and mean over updates (area) by seed and with intervals, updates to .8, and
    the last policy's true objective, accuracy - penalty x KL."""
    rows: Rows = []
    best = limit(problem, 1.0, penalty)
    for (arm, name), (index, (fpr, fnr)) in ((a, r) for r in enumerate(rates) for a in enumerate(NAMES)):
        curve = curves[arm, index]
        final, area = mean_with_interval(curve[:, -1], bounded=False), mean_with_interval(curve.mean(1), bounded=False)
        objective = mean_with_interval(curve[:, -1] - penalty * divergence[arm, index], bounded=False)
        reached = (curve >= THRESHOLD).any(1)
        steps = np.where(reached, (curve >= THRESHOLD).argmax(1), np.inf)
        middle = float(np.median(steps))
        rows.append({
            "task": problem.name, "optimizer": optimizer, "penalty": penalty, "updates": problem.updates, "seeds": len(curve),
            "determinant": round(1 - fpr - fnr, 10), "fpr": fpr, "fnr": fnr, "arm": name,
            "final": final.value, "final_low": final.low, "final_high": final.high, "final_by_seed": curve[:, -1].tolist(),
            "area": area.value, "area_low": area.low, "area_high": area.high, "area_by_seed": curve.mean(1).tolist(),
            "objective": objective.value, "objective_low": objective.low, "objective_high": objective.high,
            "limit": best, "limit_of_noise": limit(problem, 1 - fpr - fnr, penalty),
            "divergence": float(divergence[arm, index].mean()),
            "reached": float(reached.mean()), "updates_to_threshold": middle if np.isfinite(middle) else None,
        })  # fmt: skip
    return rows


def limit(problem: Problem, strength: float, penalty: float) -> float | None:
    """Accuracy of the policy that maximises strength x accuracy - penalty x KL: start x exp(strength x right / penalty), normalised."""
    if not penalty:
        return None
    return float(accuracy(problem.start + strength / penalty * problem.right, problem.right).mean())


def format_rows(rows: Rows) -> str:
    """Markdown: for each task, optimizer and penalty a table of final accuracies, arms by pairs of rates, and one of paired differences."""
    updates = ", ".join(f"{count} ({task})" for task, count in dict.fromkeys((row["task"], row["updates"]) for row in rows))
    parts = [
        f"Accuracy of the last policy (exact) ± half of its 95 % t interval over {rows[0]['seeds']} seeds. Updates: {updates}; groups of "
        f"K = {GROUP}, one on-policy step an update. With a penalty, the gradient of coefficient x KL(policy || start) is taken off; its "
        "limits are the accuracies of the best policy for rewards of that strength. Columns: c = 1 - fpr - fnr (fpr, fnr). Appeals: judge "
        f"with tpr {JUDGE.true_positive:g} and fpr {JUDGE.false_positive:g}, upheld answers rewarded; every refusal is asked about, or "
        f"q = {PROBABILITY:g} of them (so also `+ direct`, `+ forward`). Differences are paired by seed: of the last accuracy, and "
        "of the mean accuracy over all updates, which tells speed."
    ]
    for task, optimizer, penalty in dict.fromkeys((row["task"], row["optimizer"], row["penalty"]) for row in rows):
        mine = [row for row in rows if (row["task"], row["optimizer"], row["penalty"]) == (task, optimizer, penalty)]
        by = {(row["fpr"], row["fnr"], row["arm"]): row for row in mine}
        columns = list(dict.fromkeys((row["fpr"], row["fnr"]) for row in mine))
        rates = [f"{1 - fpr - fnr:.3g} ({fpr:g}, {fnr:g})" for fpr, fnr in columns]
        finals = [["final accuracy", *rates]]
        finals += [[arm, *(f"{by[*column, arm]['final']:.3f} ± {_half(by[*column, arm])}" for column in columns)] for arm in NAMES]
        if penalty:
            for label, name in (("limit, strength c", "limit_of_noise"), ("limit, strength 1", "limit")):
                finals.append([f"*{label}*", *(f"{by[*column, NAMES[0]][name]:.3f}" for column in columns)])
        differences = [["difference", *rates]]
        for label, name, pairs in (("final", "final_by_seed", PAIRS), ("mean", "area_by_seed", MEANS)):
            for one, other in pairs:
                cells = [_difference(by[*column, one][name], by[*column, other][name]) for column in columns]
                differences.append([f"{label}: {one} − {other}", *cells])
        kind = f"penalty {penalty:g}" if penalty else "no penalty"
        parts += [f"### {task}, {optimizer}, {kind}", _table(finals), _table(differences)]
    return "\n\n".join(parts)


def _half(row: dict[str, Any]) -> str:
    return f"{(row['final_high'] - row['final_low']) / 2:.3f}"


def _difference(one: list[float], other: list[float]) -> str:
    found = mean_with_interval(np.subtract(one, other), bounded=False)
    # + 0.0: no "-0.000".
    return f"{round(found.value, 3) + 0.0:+.3f} ± {(found.high - found.low) / 2:.3f}"


def _table(cells: list[list[str]]) -> str:
    lines = [f"| {' | '.join(line)} |" for line in cells]
    return "\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", choices=("bandit", "tabular"))
    arguments = parser.parse_args()
    for name, function in (("bandit", run_bandit), ("tabular", run_tabular)):
        if arguments.only in (None, name):
            print(format_rows(function(seeds=arguments.seeds, say=lambda line: print(line, file=sys.stderr, flush=True))), flush=True)


if __name__ == "__main__":
    main()
