"""Estimates of the rule's error rates as people read them: whether their interval holds the truth, a table, and warnings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from assay.evaluation.breakdown import Grid, interval

MAX_ROWS = 24
"""Of the table; the record has all."""
MAX_WARNINGS = 12
ROUNDING = 1e-9
"""At q = 1 interval and truth are the same number, reached on two ways."""

Row = Mapping[str, Any]


def judged(noise: pa.Table | None) -> bool:
    """Whether any estimate comes from a judge."""
    return noise is not None and noise["judge"].null_count < len(noise)


def covers(row: Row, kind: str = "false_negative") -> bool | None:
    """Whether the interval of a row of `noise_estimates` holds the true rate of the same samples.

    None where rate, interval or truth is missing, and where the oracle itself is the estimate. kind: false_negative or
    false_positive.
    """
    low, high, truth = row[f"{kind}_low"], row[f"{kind}_high"], row[f"true_{kind}_rate"]
    if row["against"] == "oracle" or low is None or high is None or truth is None:
        return None
    return low - ROUNDING <= truth <= high + ROUNDING


def coverage(rows: Iterable[Row], kind: str = "false_negative") -> tuple[int, int]:
    """How many intervals hold the truth, and of how many it is known."""
    known = [held for row in rows if (held := covers(row, kind)) is not None]
    return sum(known), len(known)


def noise_sentences(rows: Sequence[Row]) -> list[str]:
    """Coverage of the intervals, and what the judge cost; each where there is such."""
    found = []
    for kind, name in (("false_negative", "false-negative"), ("false_positive", "false-positive")):
        held, known = coverage(rows, kind)
        if known:
            found.append(f"The interval covers the true {name} rate in {held:,} of {known:,} estimates.")
    for judge in sorted({row["judge"] for row in rows if row["judge"] is not None}):
        mine = [row for row in rows if row["judge"] == judge]
        calls, tokens, silent = (sum(row[name] or 0 for row in mine) for name in ("judge_calls", "judge_tokens", "judge_abstentions"))
        found.append(f"{judge} was asked {calls:,} times ({tokens:,} tokens) and did not decide {silent:,} answers.")
    return found


def left_out(rows: Sequence[Row]) -> list[str]:
    """What `noise_grid` does not show, as a sentence; empty where it shows all."""
    shown = len(_spread(rows))
    if shown == len(rows):
        return []
    return [f"Shown are {shown:,} of {len(rows):,} estimates, of evenly spread moments; noise_estimates has all."]


def noise_warnings(rows: Iterable[Row]) -> list[tuple[int, str, str, str]]:
    """(iteration, environment, verifier, what is amiss), one for each, in order: that of the last round with a warning, which is
    named with the number of others."""
    latest: dict[tuple[int, str, str], list[Row]] = {}
    for row in sorted(rows, key=_order):
        if row["warning"] is not None:
            latest.setdefault((row["iteration"], row["environment"], row["verifier"]), []).append(row)
    found = []
    for key, mine in sorted(latest.items()):
        last, others = mine[-1], len(mine) - 1
        more = f", and {others:,} earlier {'round' if others == 1 else 'rounds'}" if others else ""
        found.append((*key, last["warning"] + (f" (round {last['round']}{more})" if last["round"] or others else "")))
    return found


def warning_lines(rows: Iterable[Row]) -> list[str]:
    """The latest MAX_WARNINGS of `noise_warnings` as text, the last iteration first."""
    found = sorted(noise_warnings(rows), key=lambda w: (-w[0], w[1:]))
    lines = [f"Iteration {k}, {verifier} on {environment}: {text}." for k, environment, verifier, text in found[:MAX_WARNINGS]]
    rest = len(found) - len(lines)
    return [*lines, f"{rest:,} more are in noise_estimates."] if rest > 0 else lines


def noise_grid(rows: Sequence[Row]) -> Grid | None:
    """One line per estimate; of more than MAX_ROWS, those of moments evenly spread, the first and the last included. Columns that
    say nothing in this run are left out. None without rows."""
    if not rows:
        return None
    chosen = [_cells(row) for row in _spread(rows)]
    names = list(chosen[0])
    silent = [name for name in names if all(cells[name] == "–" for cells in chosen)]
    if not any(row["round"] for row in rows):
        silent.append("round")
    used = [name for name in names if name not in silent]
    return Grid(tuple(used), tuple(tuple(cells[name] for name in used) for cells in chosen), 3)


def _cells(row: Row) -> dict[str, str]:
    held, positive = covers(row), row["false_positive_source"]
    source = f", {positive}" if positive in ("assumed", "audit") else ""
    return {
        "environment": row["environment"],
        "verifier": row["verifier"],
        "against": row["judge"] or row["against"],
        "iteration": str(row["iteration"]),
        "round": str(row["round"]),
        "false negatives": rate(row, "false_negative") + (", too few" if row["enough"] is False else ""),
        "smoothed": plain(row["smoothed_rate"]),
        "truth": plain(row["true_false_negative_rate"]),
        "covered": "–" if held is None else "yes" if held else "no",
        "left after recovery": plain(row["residual_false_negative_rate"]),
        "examined": f"{row['examined_negatives']:,} of {row['rule_negatives']:,}",
        "calls": "–" if row["judge_calls"] is None else f"{row['judge_calls']:,}",
        "tokens": "–" if not row["judge_tokens"] else f"{row['judge_tokens']:,}",
        "warning": "–" if row["warning"] is None else "yes",
        "false positives": rate(row, "false_positive") + source,
        "true": plain(row["true_false_positive_rate"]),
        "audited": "–" if not row["examined_positives"] else f"{row['examined_positives']:,} of {row['rule_positives']:,}",
    }


def rate(row: Row, kind: str) -> str:
    """value [low, high], or a dash."""
    return interval({"value": row[f"{kind}_rate"], "low": row[f"{kind}_low"], "high": row[f"{kind}_high"]})


def plain(value: float | None) -> str:
    """A rate with three decimals, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def _spread(rows: Sequence[Row]) -> list[Row]:
    """Rows of evenly spread (iteration, round), in order, as many as fit; of two moments all."""
    ordered = sorted(rows, key=_order)
    if len(ordered) <= MAX_ROWS:
        return ordered
    moments = sorted({(row["iteration"], row["round"]) for row in ordered})
    size = max(MAX_ROWS * len(moments) // len(ordered), 2)
    if len(moments) > size:
        moments = [moments[round(i * (len(moments) - 1) / (size - 1))] for i in range(size)]
    kept = set(moments)
    return [row for row in ordered if (row["iteration"], row["round"]) in kept]


def _order(row: Row) -> tuple[str, str, int, int, str]:
    return row["environment"], row["verifier"], row["iteration"], row["round"], row["against"]
