"""Pictures of exploration: pass@k against policy 0, entropy over steps and positions, and what each method does to single tokens."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
import pyarrow as pa

from assay.evaluation.charts import Line, stacked_bars
from assay.evaluation.estimators import Estimate
from assay.evaluation.exploration import Curves
from assay.evaluation.figures import Figure, chart, metric_line
from assay.evaluation.figures_training import Steps
from assay.evaluation.metrics import Lookup
from assay.evaluation.token_grids import PARTS, TOP
from assay.evaluation.tokens import Tokens, has_values, top_entropy

COLORS = (3, 4, 1)
"""Of the first, the middle and the last policy."""
POSITIONS = 60
"""Points of a line over positions; of longer completions, equal runs of positions are put together."""
FEWEST = 20
"""Tokens at a position (or run of them) for it to be drawn."""


def coverage_figures(found: Sequence[Curves], table: Lookup, split: str) -> list[Figure]:
    """pass@k and what is kept and newly solved, over k and over policies."""
    ks, last = found[-1].ks, found[-1]
    named = [(f"policy {c.iteration}", c, COLORS[-1 if c is last and len(found) > 1 else i]) for i, c in enumerate(found)]
    figures = []
    if len(ks) > 1:
        note = "Against policy 0: where the curves meet, training has sharpened the policy, not widened what it can solve."
        lines = [_line(name, c.ks, c.passes, color) for name, c, color in named]
        figures.append(chart("pass@k by k", note, lines, "k", "share of tasks", unit=True, x_ticks=ks, x_log=True))
    if len(ks) > 1 and last.gains:
        note = "pass@k minus that of policy 0, paired by task. Below 0, less is within reach of k tries than before training."
        zero = Line(f"policy {found[0].iteration}", ks, [0.0] * len(ks), COLORS[0], dashed=True, dots=False)
        lines = [zero, *(_line(name, c.ks, c.gains, color) for name, c, color in named if c.gains)]
        figures.append(chart("Gain over policy 0 by k", note, lines, "k", "difference of shares", x_ticks=ks, x_log=True))
    if last.gains:
        figures += _kept(table, split)
    return [figure for figure in figures if figure.svg]


def _kept(table: Lookup, split: str) -> list[Figure]:
    """Over policies, at all samples; and over the ks of the record for the last policy, beside what chance makes of policy 0."""
    names = (("keep", "kept", 2), ("explore", "newly solved", 1))
    note = "Of the tasks that policy 0 solves at least once in its samples, the share still solved; of the others, the share now solved."
    lines = [metric_line(table, split, f"{name}_rate", label, color) for name, label, color in names]
    found = [chart("Kept and newly solved tasks", note, lines, "policy", "share of tasks", unit=True)]
    ks, first, last = table.pass_at, table.iterations[0], table.iterations[-1]
    if len(ks) == 1:
        return found
    lines = [_rate_line(table, split, f"{name}@", last, label, color) for name, label, color in names]
    lines += [_rate_line(table, split, f"{name}@", first, f"{label}, by chance", color, chance=True) for name, label, color in names]
    note = (
        f"Of the tasks that policy {first} solves within k tries, the share that policy {last} solves within k tries; of the others, "
        f"likewise. By chance: another k tries of policy {first}."
    )
    by_k = chart("Kept and newly solved by k", note, lines, "k", "share of tasks", unit=True, x_ticks=ks, x_log=True)
    return [*found, by_k]


def _rate_line(table: Lookup, split: str, metric: str, policy: int, name: str, color: int, chance: bool = False) -> Line:
    rows: list[Mapping[str, Any]] = [table.get(policy, split, f"{metric}{k}") or {} for k in table.pass_at]
    value, low, high = ([row.get(end) for row in rows] for end in ("value", "low", "high"))
    return Line(name, table.pass_at, value, color, None if chance else low, None if chance else high, dashed=chance, dots=not chance)


def _line(name: str, ks: Sequence[int], estimates: Sequence[Estimate], color: int) -> Line:
    value, low, high = ([getattr(e, end) if e.n else None for e in estimates] for end in ("value", "low", "high"))
    return Line(name, ks, value, color, low, high)


def position_figures(windows: Sequence[tuple[str, Tokens]]) -> list[Figure]:
    """Where in a completion the policy chooses, at the beginning and at the end of training."""
    colors = COLORS[:: len(COLORS) - 1]
    entropy, share = [], []
    for (name, tokens), color in zip(windows, colors, strict=False):
        x, mean = _by_position(tokens, tokens.entropy)
        entropy.append(Line(name, x, mean, color))
        _, top = _by_position(tokens, top_entropy(tokens, TOP).astype(np.float64))
        share.append(Line(name, x, top, color))
    figures = [
        chart("Entropy by position", "Mean over trained tokens; position 0 is the first of the completion.", entropy, "position", "nats"),
        chart(
            "Where the top entropies are",
            f"Of the tokens at a position, the share that is among the {TOP:.0%} of highest entropy of its batch.",
            share,
            "position",
            "share of tokens",
            unit=True,
        ),
    ]
    return [figure for figure in figures if figure.svg]


def _by_position(tokens: Tokens, values: np.ndarray) -> tuple[list[float], list[float]]:
    """Means of runs of positions that have FEWEST tokens at least (the most frequent ones, where none has)."""
    if not len(values):
        return [], []
    width = ceil((int(tokens.position.max()) + 1) / POSITIONS)
    run = tokens.position // width
    count, total = np.bincount(run), np.bincount(run, weights=values)
    use = np.flatnonzero(count >= min(FEWEST, count.max()))
    return (use * width + (width - 1) / 2).tolist(), (total[use] / count[use]).tolist()


def step_figures(updates: pa.Table | None) -> list[Figure]:
    """Entropy over optimizer steps, and what Lp-Reg, the 80/20 rule and DPH-RL's rehearsal did at each, as far as they are on."""
    if updates is None or not len(updates):
        return []
    over = Steps(updates)
    note = "Mean per trained token, at the temperature of training. Hairlines separate iterations."
    figures = [over.picture("Entropy in training", note, "nats per token", [over.line("entropy", "entropy", 2)])]
    figures += _low_probability(over) + _selected(over) + _rehearsed(over)
    return [figure for figure in figures if figure.svg]


def _low_probability(over: Steps) -> list[Figure]:
    found = []
    if has_values(over.rows, "low_probability_threshold"):
        note = "Lp-Reg's quantile: a sampled token of less counts as rare."
        line = over.line("low_probability_threshold", "threshold", 4)
        found.append(over.picture("Low-probability threshold", note, "probability", [line]))
    if has_values(over.rows, "protected_count"):
        shares = {"protected, of all tokens": _ratio(over, "protected_count", "tokens")}
        if has_values(over.rows, "candidate_count"):
            shares["candidates, of all tokens"] = _ratio(over, "candidate_count", "tokens")
        lines = [Line(name, over.steps, y, color, dots=False) for (name, y), color in zip(shares.items(), (1, 3), strict=False)]
        note = "Candidates are rare and have an advantage of the protected sign; those that the proxy holds plausible are protected."
        found.append(over.picture("Protected tokens", note, "share of tokens", lines))
    if has_values(over.rows, "protected_count") and has_values(over.rows, "candidate_count"):
        line = Line("protected", over.steps, _ratio(over, "protected_count", "candidate_count"), 1, dots=False)
        note = "The others are noise to the proxy, or have risen above it."
        found.append(over.picture("Protected share of the candidates", note, "share of candidates", [line], unit=True))
    if has_values(over.rows, "protected_sum"):
        line = Line("penalty", over.steps, _ratio(over, "protected_sum", "protected_count"), 5, dots=False)
        found.append(over.picture("Penalty of protected tokens", "Mean over them, before its coefficient.", "nats", [line]))
    return found


def _selected(over: Steps) -> list[Figure]:
    found = []
    if has_values(over.rows, "entropy_threshold"):
        note = "80/20 rule: tokens at or above it bear policy loss; in the control, those below it."
        found.append(over.picture("Entropy threshold", note, "nats", [over.line("entropy_threshold", "threshold", 4)]))
    if has_values(over.rows, "selected_entropy"):
        lines = [over.line("selected_entropy", "tokens with policy loss", 6), over.line("entropy", "all trained tokens", 3)]
        found.append(over.picture("Entropy of selected tokens", "80/20 rule.", "nats per token", lines))
    if has_values(over.rows, "selected_share"):
        note = "Of the trained tokens. Above the chosen fraction, many tokens tie at the threshold."
        line = over.line("selected_share", "selected", 6)
        found.append(over.picture("Tokens with policy loss", note, "share of tokens", [line], unit=True))
    return found


def _rehearsed(over: Steps) -> list[Figure]:
    if not has_values(over.rows, "rehearsal_sum"):
        return []
    line = Line("rehearsal", over.steps, _ratio(over, "rehearsal_sum", "rehearsal_tokens"), 2, dots=False)
    note = "Mean over the rehearsed tokens of the divergence that the method uses, before its coefficient; 0 while the policy is policy 0."
    return [over.picture("Divergence on rehearsed answers", note, "per token", [line])]


def _ratio(over: Steps, top: str, bottom: str) -> list[float | None]:
    pairs = zip(over.rows[top].to_pylist(), over.rows[bottom].to_pylist(), strict=True)
    return [a / b if a is not None and b else None for a, b in pairs]


def split_figures(splits: pa.Table | None) -> list[Figure]:
    """Presampled tasks by how many of their samples were right."""
    if splits is None or not len(splits):
        return []
    rows = splits.select(["solved", "subset"]).to_pylist()
    top = max(row["solved"] for row in rows)
    series = []
    for part, (name, color) in PARTS.items():
        counts = [float(sum(r["subset"] == part and r["solved"] == c for r in rows)) for c in range(top + 1)]
        if any(counts):
            series.append((name, counts, color))
    described = ", ".join(f"{name} {int(sum(values)):,}" for name, values, _ in series)
    svg = stacked_bars(
        [str(c) for c in range(top + 1)], series, label=f"Presampled tasks: {described}", x_label="samples solved", y_label="tasks"
    )
    table = (("solved", *(name for name, _, _ in series)), *((str(c), *(f"{int(v[c]):,}" for _, v, _ in series)) for c in range(top + 1)))
    note = "Training tasks by the number of policy 0's presamples that are right."
    return [Figure("Near-perfect and exploration tasks", note, svg, tuple((name, color, False) for name, _, color in series), table)]
