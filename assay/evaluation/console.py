"""The table that a run prints at its end: pass@1 and the largest pass@k of every policy, with intervals."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from assay.evaluation.definitions import SPLIT_TITLES
from assay.evaluation.metrics import Lookup


def console_summary(evaluations: pa.Table, report: str | None = None, confidence: float = 0.95) -> str:
    """Plain text, deterministic. `report`: where the report lies, printed on the last line."""
    table = Lookup(evaluations)
    parts = [_split(table, split, confidence) for split in table.splits]
    return "\n\n".join(parts) + (f"\n\nreport: {report}" if report else "")


def _split(table: Lookup, split: str, confidence: float) -> str:
    ks = sorted({table.pass_at[0], table.pass_at[-1]})
    tasks = max((row["n"] for key, row in table.rows.items() if key[2] == split and key[1] == "all"), default=0)
    head = (
        f"{'policy':<8}"
        + "".join(f"{f'pass@{k}':<24}" for k in ks)
        + f"{'rule says':>10}{'abstain':>9}{'cut off':>9}{'tokens':>8}{'entropy':>9}"
    )
    lines = [f"{SPLIT_TITLES[split]} ({tasks}), {confidence:.0%} intervals", head]
    for iteration in table.iterations:
        cells = "".join(f"{_interval(table.get(iteration, split, f'pass@{k}')):<24}" for k in ks)
        rest = "".join(
            f"{_plain(table.value(iteration, split, name), form):>{width}}"
            for name, form, width in (
                ("accuracy_rule", ".3f", 10),
                ("abstain_share", ".1%", 9),
                ("truncated_share", ".1%", 9),
                ("length_mean", ".1f", 8),
                ("entropy", ".3f", 9),
            )
        )
        lines.append(f"{iteration:<8}{cells}{rest}")
    judged = table.get(table.iterations[-1], split, "accuracy_rule")
    if judged and judged["n"] < tasks:
        lines.append(f"rule says: over the tasks that every verifier decided, {judged['n']} at policy {table.iterations[-1]}")
    verdict = gain_sentence(table, split)
    return "\n".join([*lines, verdict] if verdict else lines)


def gain_sentence(table: Lookup, split: str) -> str:
    """Paired gain of the last policy over policy 0 in pass@1, and whether the separate intervals are disjoint; ""
    for one policy.
    """
    first, last = table.iterations[0], table.iterations[-1]
    k = table.pass_at[0]
    gain = table.get(last, split, f"pass@{k}_gain")
    before, after = table.get(first, split, f"pass@{k}"), table.get(last, split, f"pass@{k}")
    if gain is None or before is None or after is None:
        return ""
    disjoint = after["low"] > before["high"] or after["high"] < before["low"]
    return (
        f"policy {last} minus policy {first}, paired by task: pass@{k} {gain['value']:+.3f} [{gain['low']:+.3f}, "
        f"{gain['high']:+.3f}]; "
        f"the two intervals {'are disjoint' if disjoint else 'overlap'}"
    )


def _interval(row: Mapping[str, Any] | None) -> str:
    return "-" if row is None else f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _plain(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
