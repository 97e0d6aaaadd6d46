"""Noisy verifiers where everything is exact but the sampling: bandits and a tabular policy, over the whole grid of 1 - fpr - fnr.

    python -m benchmarks.noise_bandit [--seeds 20] [--only bandit|tabular]

Softmax policies trained by group policy gradients, groups of 8, one on-policy step per batch, with plain SGD and with Adam, with and
without a penalty towards the start (coefficient x KL(policy || start), its exact gradient). For each it prints the expected accuracy of
the last policy (exact: a sum over actions, not a sample) and the median update at which .8 is reached; then the mean accuracy over all
updates, and differences paired by seed. Intervals are 95 % t intervals over seeds. Arms of one seed share the start, the batches of
contexts and the uniforms behind actions and flips.

What the theory says to expect: noise and both corrections have one expected direction, so no arm stalls while c = 1 - fpr - fnr > 0;
backward is the matched control over c, so under Adam they tie without a penalty, and with one the control's penalty is 1 / c too strong:
it goes to the limit of rewards of strength c (so does forward at scale 1), backward and forward at scale c to that of strength 1. The
z-score changes the strength in its own way. Under SGD backward has the control's learning rate over c. Direct and forward have no
baseline, so a variance that is large where most answers are right (direct) or wrong (forward).
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.evaluation.estimators import mean_with_interval
from assay.objectives.advantages import group_zscore
from assay.objectives.corrections import backward_advantages, direct, forward_advantages, leave_one_out_control

Rows = list[dict[str, Any]]
Rates = Sequence[tuple[float, float]]
Say = Callable[[str], None]
Arm = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]

GROUP = 8
THRESHOLD = 0.8
RATES = (
    (0.0, 0.0), (0.0, 0.2), (0.2, 0.0), (0.1, 0.2), (0.2, 0.1), (0.1, 0.5), (0.5, 0.1), (0.1, 0.7), (0.7, 0.1), (0.1, 0.8), (0.8, 0.1),
)  # fmt: skip
"""(fpr, fnr): c is 1, .8, .7, .4, .2 and .1, mostly lost right answers and mostly accepted wrong ones."""
ARMS: dict[str, Arm] = {
    "oracle, z-score": lambda clean, seen, groups, fpr, fnr: group_zscore(clean, groups),
    "oracle, leave-one-out": lambda clean, seen, groups, fpr, fnr: leave_one_out_control(clean, groups),
    "noise, z-score": lambda clean, seen, groups, fpr, fnr: group_zscore(seen, groups),
    "noise, leave-one-out": lambda clean, seen, groups, fpr, fnr: leave_one_out_control(seen, groups),
    "noise, direct": lambda clean, seen, groups, fpr, fnr: direct(seen),
    "backward": lambda clean, seen, groups, fpr, fnr: backward_advantages(seen, groups, fpr, fnr),
    "forward": lambda clean, seen, groups, fpr, fnr: forward_advantages(seen, fnr),
    "forward, scale c": lambda clean, seen, groups, fpr, fnr: forward_advantages(seen, fnr, fpr=fpr, scale="determinant"),
}
PAIRS = (
    ("noise, z-score", "oracle, z-score"), ("noise, leave-one-out", "oracle, leave-one-out"), ("backward", "noise, leave-one-out"),
    ("forward", "noise, direct"), ("forward, scale c", "backward"),
)  # fmt: skip


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
    shape = (len(ARMS), len(rates), seeds)
    logits = np.broadcast_to(problem.start, (*shape, contexts, actions)).copy()
    step = Adam(logits, problem.rates["adam"]) if optimizer == "adam" else Sgd(logits, problem.rates["sgd"])
    fpr, fnr = (np.reshape([pair[side] for pair in rates], (-1, 1, 1, 1)) for side in (0, 1))
    rows = (len(rates), seeds, problem.groups, GROUP)
    per_row = [np.broadcast_to(rate, rows).reshape(-1) for rate in (fpr, fnr)]
    ids = np.repeat(np.arange(np.prod(rows[:-1])), GROUP)
    draws = [np.random.default_rng([seed, 2]) for seed in range(seeds)]
    this, start, curves = np.arange(seeds)[:, None], log_softmax(problem.start), [accuracy(logits, problem.right)]
    for _ in range(problem.updates):
        # Common random numbers: nothing drawn here depends on the arm or the rates.
        drawn = [draw(generator, problem, contexts) for generator in draws]
        sampled, actions_drawn, flips_drawn = (np.stack(parts) for parts in zip(*drawn, strict=True))
        logs = log_softmax(logits[:, :, this, sampled])
        chances = np.exp(logs)
        chosen = (actions_drawn[..., None] >= np.cumsum(chances, -1)[..., None, :-1]).sum(-1)
        right = np.take_along_axis(problem.right[this, sampled][None, None], chosen, -1)
        seen = np.where(right, flips_drawn >= fnr, flips_drawn < fpr).astype(float)
        weights = np.empty(chosen.shape)
        for arm, advantage in enumerate(ARMS.values()):
            weights[arm] = advantage(right[arm].astype(float).reshape(-1), seen[arm].reshape(-1), ids, *per_row).reshape(rows)
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
    for (arm, name), (index, (fpr, fnr)) in ((a, r) for r in enumerate(rates) for a in enumerate(ARMS)):
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
    """Markdown: for each task, optimizer and penalty a table of final accuracies and one of areas and paired differences."""
    parts, arms = [], list(dict.fromkeys(row["arm"] for row in rows))
    for task, optimizer, penalty in dict.fromkeys((row["task"], row["optimizer"], row["penalty"]) for row in rows):
        mine = [row for row in rows if (row["task"], row["optimizer"], row["penalty"]) == (task, optimizer, penalty)]
        by = {(row["fpr"], row["fnr"], row["arm"]): row for row in mine}
        first = mine[0]
        kind = f"penalty {penalty:g}" if penalty else "no penalty"
        title = f"{task}, {optimizer}, {kind} ({first['updates']} updates, {first['seeds']} seeds)"
        objectives = [["c", "fpr", "fnr", *arms]]
        limits = ["limit, rewards of strength c", "limit, of strength 1"] if penalty else []
        finals, areas = [["c", "fpr", "fnr", *arms, *limits]], [["c", "fpr", "fnr", *arms, *(f"{x} − {y}" for x, y in PAIRS)]]
        for fpr, fnr in dict.fromkeys((row["fpr"], row["fnr"]) for row in mine):
            own = [by[fpr, fnr, arm] for arm in arms]
            head = [f"{own[0]['determinant']:g}", f"{fpr:g}", f"{fnr:g}"]
            finals.append([*head, *(_final(row) for row in own), *(f"{own[0][n]:.3f}" for n in ("limit_of_noise", "limit") if penalty)])
            objectives.append([*head, *(f"{row['objective']:.3f} ± {_half(row, 'objective')}" for row in own)])
            differences = [_difference(by[fpr, fnr, x], by[fpr, fnr, y]) for x, y in PAIRS]
            areas.append([*head, *(f"{row['area']:.3f} ± {_half(row, 'area')}" for row in own), *differences])
        parts += [
            f"### {title}", "Last policy's accuracy ± 95 % half-width, and (median update at which .8 is reached; – where half never do).",
            _table(finals), "Mean accuracy over updates, and paired differences of it with their 95 % intervals.", _table(areas),
        ]  # fmt: skip
        if penalty:
            parts += ["The last policy's true objective, accuracy − penalty × KL(policy || start).", _table(objectives)]
    return "\n\n".join(parts)


def _final(row: dict[str, Any]) -> str:
    steps = row["updates_to_threshold"]
    return f"{row['final']:.3f} ± {_half(row, 'final')} ({'–' if steps is None else f'{steps:.0f}'})"


def _half(row: dict[str, Any], name: str) -> str:
    return f"{(row[f'{name}_high'] - row[f'{name}_low']) / 2:.3f}"


def _difference(row: dict[str, Any], other: dict[str, Any]) -> str:
    found = mean_with_interval(np.subtract(row["area_by_seed"], other["area_by_seed"]), bounded=False)
    # + 0.0: no "-0.000".
    value, low, high = (round(number, 3) + 0.0 for number in (found.value, found.low, found.high))
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


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
