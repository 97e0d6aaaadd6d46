"""Which pictures the report shows, and what each says. They come from the tables of the record, never from a model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from assay.evaluation.charts import FEW, Line, line_chart, short
from assay.evaluation.evaluate import ALL
from assay.evaluation.metrics import Lookup

MAX_FIGURES = 4
"""Of one kind, one for each environment."""


@dataclass(frozen=True)
class Figure:
    """A picture with its words. `table`: the numbers it is drawn from, header first."""

    title: str
    note: str
    svg: str
    legend: tuple[tuple[str, int, bool], ...] = ()
    """(name, colour, dashed)."""
    table: tuple[tuple[str, ...], ...] = field(default=(), repr=False)


def result_figures(table: Lookup, split: str) -> list[Figure]:
    """What the policies can do, over iterations."""
    ks = table.pass_at
    shown = ks if len(ks) <= 4 else [ks[0], *ks[-3:]]
    over_policies = [
        metric_line(table, split, f"pass@{k}", f"pass@{k}", color)
        for color, k in zip((1, 4, 6, 2), shown, strict=False)
    ]
    figures = [
        chart(
            "pass@k by policy",
            "Headline verdict; bands are intervals over tasks.",
            over_policies,
            "policy",
            "share of tasks",
            unit=True,
        )
    ]
    lengths = [metric_line(table, split, "length_mean", "tokens", 1)]
    figures.append(chart("Length of completions", "Sampled tokens, end token included.", lengths, "policy", "tokens"))
    shares = [
        metric_line(table, split, "truncated_share", "cut at the longest length", 5),
        metric_line(table, split, "abstain_share_rule", "rule abstained", 3),
    ]
    figures.append(chart("Cut off, or not decided", "Shares of samples.", shares, "policy", "share of samples"))
    return [figure for figure in figures if figure.svg]


def verifier_figures(table: Lookup, split: str) -> list[Figure]:
    """How right the verifiers are: environments that several verifiers judge, with an oracle first."""
    found = []
    for name in table.environments:
        lines = [
            metric_line(table, split, f"accuracy_{role}", role, color, name)
            for role, color in (("rule", 1), ("reference", 4), ("oracle", 2))
        ]
        present = [line for line in lines if any(v is not None for v in line.y)]
        if len(present) > 1:
            found.append((-len(present), name, present))
    note = (
        "The samples that all of these verifiers decided, by the rule (it gives the reward) and by better ones. The gap "
        "is what the rule gets wrong."
    )
    accuracy = [
        chart(f"Accuracy by verifier: {name}", note, lines, "policy", "share of samples", unit=True)
        for _, name, lines in sorted(found, key=lambda f: f[:2])
    ]
    return [figure for figure in accuracy[:MAX_FIGURES] if figure.svg]


def metric_line(table: Lookup, split: str, metric: str, name: str, color: int, environment: str = ALL) -> Line:
    """A metric by policy with its interval, of one split and environment. color: index of the palette."""
    rows = [table.get(k, split, metric, environment) or {} for k in table.iterations]
    return Line(
        name,
        table.iterations,
        [r.get("value") for r in rows],
        color,
        [r.get("low") for r in rows],
        [r.get("high") for r in rows],
    )


def chart(
    title: str,
    note: str,
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    *,
    unit: bool = False,
    x_ticks: Sequence[float] | None = None,
    x_log: bool = False,
    boundaries: Sequence[float] = (),
) -> Figure:
    """A line chart as a Figure. `unit`: the axis runs from 0 to 1."""
    lines = [line for line in lines if any(v is not None for v in line.y)]
    described = f"{title}. " + "; ".join(
        f"{line.name} from {short(ys[0])} to {short(ys[-1])}"
        for line in lines
        if (ys := [v for v in line.y if v is not None])
    )
    svg = line_chart(
        lines,
        label=described,
        x_label=x_label,
        y_label=y_label,
        y_range=(0, 1) if unit else None,
        x_ticks=x_ticks,
        x_log=x_log,
        boundaries=boundaries,
    )
    numbers = _numbers(lines, x_label) if max((len(line.x) for line in lines), default=0) <= 40 else ()
    return Figure(title, note, svg, tuple((line.name, line.color, line.dashed) for line in lines), numbers)


def _numbers(lines: Sequence[Line], x_label: str) -> tuple[tuple[str, ...], ...]:
    xs = sorted({x for line in lines for x in line.x})
    rows = [(x_label, *(line.name for line in lines))]
    for x in xs:
        cells = []
        for line in lines:
            at = list(line.x).index(x) if x in line.x else -1
            value = line.y[at] if at >= 0 else None
            low, high = (
                (line.low[at] if line.low and at >= 0 else None),
                (line.high[at] if line.high and at >= 0 else None),
            )
            cells.append(
                "–"
                if value is None
                else short(value) + (f" [{short(low)}, {short(high)}]" if low is not None and high is not None else "")
            )
        rows.append((short(x), *cells))
    return tuple(rows)


def moments(keys: Iterable[tuple[int, int]]) -> tuple[dict[tuple[int, int], int], str]:
    """Where each (iteration, round) lies on a horizontal axis, in order, and what the axis counts: iterations, or rounds over
    all iterations where these have several."""
    ordered = sorted(set(keys))
    if all(round_ == 0 for _, round_ in ordered):
        return {key: key[0] for key in ordered}, "iteration"
    return {key: index for index, key in enumerate(ordered)}, "round"


def starts(places: Mapping[tuple[int, int], int], unit: str) -> list[float]:
    """Where an iteration of several rounds begins; places and unit: of `moments`."""
    found = [places[key] - 0.5 for last, key in pairwise(sorted(places)) if key[0] != last[0]]
    return found if unit == "round" and len(found) <= FEW else []
