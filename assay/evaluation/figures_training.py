"""Pictures of what went into training and how it went."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from assay.evaluation.charts import Line, stacked_bars
from assay.evaluation.figures import Figure, chart, moments
from assay.evaluation.tokens import has_values

DROP_COLORS = {"kept": 2, "zero_variance": 4, "abstained": 3, "truncated": 5, "duplicate": 6, "mismatch": 1}
"""Reason -> colour; any other is violet."""

LOWEST = -1.0
"""Explained variance of a new critic can be far below 0, and would flatten all that follows."""


def training_figures(batches: pa.Table | None, updates: pa.Table | None) -> list[Figure]:
    """What went into training and how it went."""
    figures = []
    if batches is not None and len(batches):
        figures += [_dropped(batches), _reward(batches)]
    if updates is not None and len(updates):
        figures += _learning(updates) + _audit(updates)
    return [figure for figure in figures if figure.svg]


def _dropped(batches: pa.Table) -> Figure:
    batches = batches.filter(pc.invert(batches["rehearsal"]))  # those were not offered, but added
    reason = pc.if_else(batches["kept"], "kept", pc.fill_null(batches["drop_reason"], "unknown"))
    counts = (
        pa.table({"iteration": batches["iteration"], "reason": reason})
        .group_by(["iteration", "reason"])
        .aggregate([([], "count_all")])
        .to_pylist()
    )
    by = {(r["iteration"], r["reason"]): r["count_all"] for r in counts}
    iterations = sorted({key[0] for key in by})
    names = sorted({key[1] for key in by}, key=lambda name: (name != "kept", name))
    series = [(name, [float(by.get((k, name), 0)) for k in iterations], DROP_COLORS.get(name, 6)) for name in names]
    totals = ", ".join(f"{name} {int(sum(values)):,}" for name, values, _ in series)
    svg = stacked_bars(
        [str(k) for k in iterations],
        series,
        label=f"Rows offered to training, by iteration: {totals}",
        x_label="iteration",
        y_label="rows",
    )
    rows = (("iteration", *names), *((str(k), *(f"{by.get((k, name), 0):,}" for name in names)) for k in iterations))
    return Figure(
        "What the filter kept",
        "Rows offered to training; each dropped row is stored with its reason.",
        svg,
        tuple((name, color, False) for name, _, color in series),
        rows,
    )


def _reward(batches: pa.Table) -> Figure:
    judged = batches.filter(pc.is_valid(batches["reward"])).select(["iteration", "round", "reward"])
    means = {
        (row["iteration"], row["round"]): row["reward_mean"]
        for row in judged.group_by(["iteration", "round"]).aggregate([("reward", "mean")]).to_pylist()
    }
    places, unit = moments(means)
    return chart(
        "Reward of the training samples",
        "Mean over all rows that were judged, before any is dropped.",
        [Line("reward", list(places.values()), [means[key] for key in places], 1, dots=len(places) <= 60)],
        unit,
        "reward",
    )


class Steps:
    """Pictures over optimizer steps."""

    def __init__(self, updates: pa.Table) -> None:
        self.rows = updates.sort_by("global_step")
        self.steps = [float(s) for s in self.rows["global_step"].to_pylist()]
        iterations = self.rows["iteration"].to_pylist()
        starts = [self.steps[i] - 0.5 for i in range(1, len(self.steps)) if iterations[i] != iterations[i - 1]]
        self.boundaries = starts if len(starts) <= 40 else []

    def line(self, column: str, name: str, color: int) -> Line:
        return Line(name, self.steps, self.rows[column].to_pylist(), color, dots=False)

    def picture(self, title: str, note: str, y_label: str, lines: Sequence[Line], unit: bool = False) -> Figure:
        return chart(title, note, lines, "optimizer step", y_label, boundaries=self.boundaries, unit=unit)


def _audit(updates: pa.Table) -> list[Figure]:
    """How far the advantages of a corrected run are from those of its matched control (paper, B.10); nothing for other runs."""
    over = Steps(updates)
    cosines = [value for value in over.rows["audit_cosine"].to_pylist() if value is not None]
    if not cosines:
        return []
    difference = over.picture(
        "Corrected advantages against the matched control",
        "Absolute difference per token, same rows, same noise. Zero throughout would mean that the correction corrects nothing.",
        "difference",
        [over.line("audit_mean_difference", "mean", 1), over.line("audit_max_difference", "largest", 5)],
    )
    note = "1: the correction changes their scale alone, as the backward one does with a leave-one-out baseline."
    lines = [over.line("audit_cosine", "cosine", 4)]
    direction = over.picture("Cosine of corrected advantages and matched control", note, "cosine", lines, unit=min(cosines) >= 0)
    return [difference, direction]


def critic_figures(updates: pa.Table | None) -> list[Figure]:
    """What a critic learns; nothing for runs without one."""
    if updates is None or not has_values(updates, "value_loss"):
        return []
    over = Steps(updates)
    explained = [None if value is None else max(value, LOWEST) for value in over.rows["explained_variance"].to_pylist()]
    note = "Of the returns, by the values before the update. 1: all of it; 0: no better than their mean; below 0: worse."
    if LOWEST in explained:
        note += f" What is below {LOWEST:g} is drawn there."
    line = Line("explained variance", over.steps, explained, 2, dots=False)
    found = [
        over.picture("Value loss", "Of the critic, mean per token.", "value loss", [over.line("value_loss", "value loss", 1)]),
        over.picture("Explained variance", note, "share of variance", [line]),
        over.picture(
            "Values and returns", "Means over tokens, before the update.", "reward",
            [over.line("value_mean", "values", 4), over.line("return_mean", "returns", 1)],
        ),
    ]  # fmt: skip
    return [figure for figure in found if figure.svg]


def _learning(updates: pa.Table) -> list[Figure]:
    over = Steps(updates)
    rows, line, picture = over.rows, over.line, over.picture
    found = [
        picture(
            "Loss",
            "What was minimised; it is not comparable between iterations. Hairlines separate iterations.",
            "loss",
            [line("loss", "loss", 1)],
        ),
        picture("Gradient norm", "Before clipping.", "norm", [line("gradient_norm", "gradient norm", 1)]),
        picture(
            "Clipped tokens",
            "Shares of tokens outside the clip range whose gradient is cut.",
            "share of tokens",
            [line("clip_low_share", "below the lower clip", 4), line("clip_high_share", "above the upper clip", 1)],
        ),
        picture(
            "Sampler against trainer",
            "Absolute difference of log-probabilities for the same token, before the first update.",
            "nats",
            [line("mismatch_mean", "mean", 1), line("mismatch_max", "largest", 5)],
        ),
    ]
    if any(rows["divergence"].to_pylist()):
        found.append(
            picture(
                "Divergence from policy 0",
                "Mean per token of the estimator that the method uses.",
                "nats per token",
                [line("divergence", "divergence", 1)],
            )
        )
    return found
