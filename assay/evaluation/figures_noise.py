"""Pictures of how wrong the rule is: estimates beside the truth, over iterations or rounds."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import pyarrow as pa

from assay.evaluation.charts import FEW, Line, thinned
from assay.evaluation.figures import MAX_FIGURES, Figure, chart, moments, starts

Row = Mapping[str, Any]
SMOOTHED = {"false_negative": "smoothed_rate", "false_positive": "smoothed_false_positive_rate"}
WRONG = {
    "false_negative": "Right answers that {verifier} rejects, as a share of the right ones.",
    "false_positive": "Wrong answers that {verifier} accepts, as a share of the wrong ones.",
}
BATCH = " From {means} put before {judge}. Intervals are for the realised rate of each batch, which the truth is too."
ASSUMED = " No accepted answer is audited: the rate is a parameter, and nothing here measures it."
MOST = 60
"""Points of a line; the means of more rounds than this are drawn."""


def noise_figures(noise: pa.Table | None) -> list[Figure]:
    """False negatives for each (environment, rule), those with the most rows first; false positives after each where accepted
    answers are audited, or where an oracle shows what an assumed rate is worth."""
    groups: dict[tuple[str, str], list[Row]] = {}
    found = [] if noise is None else noise.to_pylist()
    places, unit = moments((row["iteration"], row["round"]) for row in found)
    for row in found:
        groups.setdefault((row["environment"], row["verifier"]), []).append(row)
    largest = sorted(groups, key=lambda key: (-sum(r["n"] for r in groups[key]), key))[:MAX_FIGURES]
    figures = []
    for key in largest:
        rows = sorted(groups[key], key=lambda r: (r["iteration"], r["round"], r["against"]))
        figures.append(_negatives(*key, rows, places, unit))
        sources = {r["false_positive_source"] for r in rows}
        judged = [r for r in rows if r["false_positive_source"] in ("audit", "assumed")]
        if "audit" in sources or any(r["true_false_positive_rate"] is not None for r in judged):
            figures.append(_positives(*key, judged, places, unit))
    return [figure for figure in figures if figure.svg]


def _negatives(environment: str, verifier: str, rows: Sequence[Row], places: Mapping[tuple[int, int], int], unit: str) -> Figure:
    lines, judges = [], sorted({r["judge"] for r in rows if r["judge"] is not None})
    names = sorted({r["against"] for r in rows}, key=lambda name: (name != "judge", name))
    for color, against in zip((1, 6, 3), names, strict=False):
        mine = [r for r in rows if r["against"] == against]
        lines.append(_estimate(f"estimate against {against}", mine, "false_negative", places, color))
    lines += _known(rows, "false_negative", places)
    note = WRONG["false_negative"].format(verifier=verifier)
    if judges:
        note += BATCH.format(means="appeals", judge=" or ".join(judges))
    return _picture(f"False negatives of the rule: {environment}", note, lines, places, unit, "false-negative rate")


def _positives(environment: str, verifier: str, rows: Sequence[Row], places: Mapping[tuple[int, int], int], unit: str) -> Figure:
    audited = [r for r in rows if r["false_positive_source"] == "audit"]
    assumed = [r for r in rows if r["false_positive_source"] == "assumed"]
    note, lines = WRONG["false_positive"].format(verifier=verifier), []
    if audited:
        lines.append(_estimate("estimate by audit", audited, "false_positive", places, 1))
        judges = " or ".join(sorted({r["judge"] for r in audited if r["judge"] is not None}))
        note += BATCH.format(means="audits", judge=judges)
    if assumed:
        y = [r["false_positive_rate"] for r in assumed]
        lines.append(Line("assumed, not measured", [_place(r, places) for r in assumed], y, 3, dots=False))
        note += "" if audited else ASSUMED
    lines += [line for line in _known(rows, "false_positive", places) if audited or line.dashed]
    title = f"False positives of the rule{'' if audited else ', assumed'}: {environment}"
    return _picture(title, note, lines, places, unit, "false-positive rate")


def _picture(title: str, note: str, lines: Sequence[Line], places: Mapping[tuple[int, int], int], unit: str, y_label: str) -> Figure:
    """Of many rounds the means of equal runs of rounds are drawn, ends of intervals likewise."""
    size = ceil(max((len(line.x) for line in lines), default=0) / MOST)
    if size > 1:
        note += f" Drawn are means over {size} rounds."
    return chart(title, note, [thinned(line, MOST) for line in lines], unit, y_label, boundaries=starts(places, unit))


def _estimate(name: str, rows: Sequence[Row], kind: str, places: Mapping[tuple[int, int], int], color: int) -> Line:
    values, low, high = ([r[f"{kind}_{end}"] for r in rows] for end in ("rate", "low", "high"))
    return Line(name, [_place(r, places) for r in rows], values, color, low, high, points=rows[0]["judge"] is not None)


def _known(rows: Sequence[Row], kind: str, places: Mapping[tuple[int, int], int]) -> list[Line]:
    """The moving average, and what the oracle knows."""
    average = {_place(r, places): r[SMOOTHED[kind]] for r in rows if r[SMOOTHED[kind]] is not None}
    truth = {_place(r, places): r[f"true_{kind}_rate"] for r in rows if r[f"true_{kind}_rate"] is not None}
    lines = [Line("smoothed", list(average), list(average.values()), 4, dots=False)] if average else []
    known = Line("truth, by the oracle", list(truth), list(truth.values()), 2, dashed=True, dots=len(truth) <= FEW)
    return [*lines, known] if truth else lines


def _place(row: Row, places: Mapping[tuple[int, int], int]) -> int:
    return places[row["iteration"], row["round"]]
