"""Tables of the report: environments, difficulty, verdict reasons, verifiers and their versions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.evaluation.evaluate import correct_share
from assay.evaluation.metrics import Lookup
from assay.evaluation.samples import Samples

MAX_COLUMNS = 8
MAX_BINS = 5


@dataclass(frozen=True)
class Grid:
    """A table for people: header, rows of text, and which columns are numbers."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1
    """Leading columns that hold words; the others are aligned as numbers."""


def in_cell(text: str) -> str:
    """Text of others, within one cell or line of Markdown."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def interval(row: dict[str, Any] | None, digits: int = 3, sign: str = "") -> str:
    """value [low, high], or a dash."""
    if row is None or row["value"] is None:
        return "–"
    form = f"{sign}.{digits}f"
    return format(row["value"], form) + ("" if row["low"] is None else f" [{row['low']:{form}}, {row['high']:{form}}]")


def policies(table: Lookup, split: str, pass_at: Sequence[int]) -> Grid:
    """One row per policy: pass@k with intervals and the plain metrics. Accuracies are over the tasks on which every
    verifier decided a sample, whose number stands before them."""
    plain = (
        ("rule", "accuracy_rule", ".3f"),
        ("reference", "accuracy_reference", ".3f"),
        ("oracle", "accuracy_oracle", ".3f"),
        ("abstain", "abstain_share", ".1%"),
        ("cut off", "truncated_share", ".1%"),
        ("tokens", "length_mean", ".1f"),
        ("entropy", "entropy", ".3f"),
    )
    used = [column for column in plain if any(table.value(k, split, column[1]) is not None for k in table.iterations)]
    rows = []
    for k in table.iterations:
        values = [table.value(k, split, name) for _, name, _ in used]
        plain_cells = [
            "–" if value is None else format(value, form) for value, (_, _, form) in zip(values, used, strict=True)
        ]
        judged = (table.get(k, split, "accuracy_rule") or {"n": 0})["n"]
        passes = (interval(table.get(k, split, f"pass@{n}")) for n in pass_at)
        rows.append((str(k), *passes, f"{judged:,}", *plain_cells))
    header = ("policy", *(f"pass@{n}" for n in pass_at), "tasks all judged", *(name for name, _, _ in used))
    return Grid(header, tuple(rows), 1)


def environments(table: Lookup, samples: Samples) -> Grid:
    """One row per (environment, split): tasks, first and last policy, paired gain."""
    first, last = table.iterations[0], table.iterations[-1]
    ks = dict.fromkeys((table.pass_at[0], table.pass_at[-1]))
    ends = dict.fromkeys((first, last))
    rows = []
    for name in table.environments:
        for split in table.splits:
            row = table.get(last, split, "length_mean", name)
            if row is None:
                continue
            gain = interval(table.get(last, split, f"pass@{table.pass_at[0]}_gain", name), sign="+")
            cells = (interval(table.get(k, split, f"pass@{n}", name)) for n in ks for k in ends)
            rows.append((name, split, samples.headline_role[name], f"{row['n']:,}", *cells, gain))
    header = (*(f"pass@{n}, policy {k}" for n in ks for k in ends), f"gain in pass@{table.pass_at[0]}, paired")
    return Grid(("environment", "split", "judged by", "tasks", *header), tuple(rows), 3)


def difficulty(samples: Samples, split: str) -> Grid | None:
    """Share of right samples by the generator's difficulty, in at most MAX_BINS bins of about equal tasks; None
    where no task has one.
    """
    known = pc.is_valid(samples.tasks["difficulty"]).to_numpy()
    values = pc.fill_null(samples.tasks["difficulty"], 0.0).to_numpy().astype(np.float64)
    ends = dict.fromkeys((0, len(samples.iterations) - 1))
    rows = []
    for name in samples.environments:
        mine = known & (samples.split == split) & (samples.environment == name)
        shares = [correct_share(samples, policy) for policy in ends]
        for policy_share in shares:
            mine = mine & (policy_share[1] > 0)
        if not mine.any():
            continue
        for low, high, inside in _bins(values, mine):
            cells = (f"{(right[inside] / decided[inside]).mean():.3f}" for right, decided in shares)
            rows.append((name, f"{low:g}" if low == high else f"{low:g} to {high:g}", f"{int(inside.sum()):,}", *cells))
    header = (
        "environment",
        "difficulty",
        "tasks",
        *(f"pass@1, policy {samples.iterations[policy]}" for policy in ends),
    )
    return Grid(header, tuple(rows), 1) if rows else None


def _bins(values: np.ndarray, mine: np.ndarray) -> list[tuple[float, float, np.ndarray]]:
    distinct = np.unique(values[mine])
    if len(distinct) <= MAX_BINS:
        return [(float(v), float(v), mine & (values == v)) for v in distinct]
    edges = np.unique(np.quantile(values[mine], np.linspace(0, 1, MAX_BINS + 1)))
    found = []
    for i in range(len(edges) - 1):
        upper = values <= edges[i + 1]
        lower = values >= edges[i] if i == 0 else values > edges[i]
        inside = mine & upper & lower
        if inside.any():
            found.append((float(values[inside].min()), float(values[inside].max()), inside))
    return found


def reasons(samples: Samples) -> Grid:
    """Verdict and reason as shares of each role's verdicts on evaluation samples, for each policy (at most
    MAX_COLUMNS, evenly chosen).
    """
    names = ("wrong", "correct", "abstain", "not applicable")
    chosen = sorted(
        set(
            np.linspace(0, len(samples.iterations) - 1, min(MAX_COLUMNS, len(samples.iterations)))
            .round()
            .astype(int)
            .tolist()
        )
    )
    rows = []
    for role, codes in samples.verdicts.items():
        reason = samples.reasons[role]
        counted = (
            pa.table({"code": codes, "reason": reason, "policy": samples.policy})
            .group_by(["code", "reason", "policy"])
            .aggregate([([], "count_all")])
            .to_pylist()
        )
        counts = {(r["code"], r["reason"], r["policy"]): r["count_all"] for r in counted if r["reason"] is not None}
        totals = {policy: max(sum(n for key, n in counts.items() if key[2] == policy), 1) for policy in chosen}
        kinds = sorted(
            {key[:2] for key in counts},
            key=lambda kind: (-sum(n for key, n in counts.items() if key[:2] == kind), kind),
        )
        for code, text in kinds:
            cells = (percent(counts.get((code, text, policy), 0) / totals[policy]) for policy in chosen)
            rows.append((role, names[code], text, *cells))
    return Grid(
        ("verdict of", "verdict", "reason", *(f"policy {samples.iterations[p]}" for p in chosen)), tuple(rows), 3
    )


def verifiers(verdicts: pa.Table) -> Grid:
    """Which verifiers, at which versions, gave how many verdicts (training samples included)."""
    keys = ["role", "verifier", "verifier_version"]
    counted = verdicts.select(keys).group_by(keys).aggregate([([], "count_all")])
    order = {"rule": 0, "reference": 1, "oracle": 2, "judge": 3}
    rows = sorted(counted.to_pylist(), key=lambda r: (order.get(r["role"], 4), *(r[key] for key in keys)))
    return Grid(
        ("role", "verifier", "version", "verdicts"),
        tuple((r["role"], r["verifier"], r["verifier_version"], f"{r['count_all']:,}") for r in rows),
        3,
    )


def percent(share: float) -> str:
    """With a dash for nothing, and no zero for something."""
    return "–" if share == 0 else "<0.1%" if share < 0.0005 else f"{share:.1%}"
