"""Run a gate: make its frames, validate them, write the data docs, and stop where an expectation fails."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assay.trajectories.gates.frames import (
    EXAMPLES,
    ROW_COUNT,
    batch_frames,
    fold,
    task_frames,
    trajectory_frames,
    verdict_frames,
)
from assay.trajectories.gates.library import validate
from assay.trajectories.gates.suites import Gate, Limits, checks

NEEDS: dict[Gate, tuple[str, ...]] = {
    "tasks": ("tasks",),
    "trajectories": ("trajectories", "tasks"),
    "verdicts": ("verdicts", "trajectories", "tasks"),
    "batch": ("batches", "trajectories"),
}
"""Tables that each gate looks at; the first is the one it is about."""
NO_LIMITS = Limits()


@dataclass(frozen=True)
class Outcome:
    """One expectation and how it went."""

    frame: str
    says: str
    success: bool
    failing: int
    """Rows of the frame that fail; 0 where the expectation is about the whole."""
    examples: tuple[str, ...]
    """A few of them: ids and the value that was found."""


@dataclass(frozen=True)
class GateResult:
    """All outcomes of a gate."""

    gate: str
    rows: dict[str, int]
    """Rows of each table that were validated, all of them."""
    outcomes: tuple[Outcome, ...]
    reported: dict[str, Any] = field(default_factory=dict)
    """Shares that are worth knowing and stop nothing: truncated completions, abstentions by reason."""
    pages: Path | None = None
    """First page of the data docs."""

    @property
    def success(self) -> bool:
        return all(outcome.success for outcome in self.outcomes)

    def __str__(self) -> str:
        rows = ", ".join(f"{count:,} {table}" for table, count in self.rows.items())
        passed = sum(outcome.success for outcome in self.outcomes)
        lines = [f"gate {self.gate}: {passed} of {len(self.outcomes)} expectations hold over {rows}"]
        for outcome in self.outcomes:
            if not outcome.success:
                count = f" ({outcome.failing:,} fail)" if outcome.failing else ""
                found = f": {'; '.join(outcome.examples)}" if outcome.examples else ""
                lines.append(f"  not true of {outcome.frame}: {outcome.says}{count}{found}")
        lines += [f"  {name}: {_percent(value)}" for name, value in self.reported.items()]
        return "\n".join(lines)


class GateError(ValueError):
    """Data that fails its gate. The message names each expectation and a few rows; `result` has them all."""

    def __init__(self, result: GateResult) -> None:
        pages = f"\ndata docs: {result.pages}" if result.pages is not None else ""
        super().__init__(f"{result}{pages}\nnothing was done with this data; correct it, or the limit, and run again")
        self.result = result


def run_gate(
    gate: Gate, tables: Mapping[str, pa.Table], out: Path | None = None, limits: Limits = NO_LIMITS, *,
    stop: bool = True,
) -> GateResult:  # fmt: skip
    """Validate tables of the record against the suite of a gate.

    tables: those that NEEDS names. out: folder for the data docs, which is replaced; not in a cached output, as pages
    carry times. limits: what this run's numbers are compared with.
    Raises GateError where an expectation fails, unless `stop` is false, KeyError for a table that is not given.
    """
    given = {name: tables[name] for name in NEEDS[gate]}
    whole = {
        "tasks": task_frames, "trajectories": lambda t: trajectory_frames(t, limits.vocabulary),
        "verdicts": verdict_frames, "batch": lambda t: batch_frames(t, limits.steps),
    }[gate](given)  # fmt: skip
    folded = {name: fold(frame) for name, frame in whole.items()}
    if out is not None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
    frames = {name: frame for name, (frame, _) in folded.items()}
    names = {name: ids for name, (_, ids) in folded.items()}
    notes = {name: _note(len(whole[name]), len(frame)) for name, frame in frames.items()}
    found = validate(gate, frames, names, notes, checks(gate, limits), out)
    outcomes = tuple(_outcome(check.frame, check.says, result) for check, result in found)
    rows = {name: len(table) for name, table in given.items()}
    pages = out / "index.html" if out is not None else None
    result = GateResult(gate, rows, outcomes, _reported(gate, given), pages)
    if stop and not result.success:
        raise GateError(result)
    return result


def _note(rows: int, shown: int) -> str:
    return f"All {rows:,} rows" + ("" if shown == rows else f", folded to {shown:,} that look different")


def _outcome(frame: str, says: str, result: dict[str, Any]) -> Outcome:
    detail = result.get("result", {})
    causes = exceptions(result.get("exception_info") or {})
    if causes:
        return Outcome(frame, says, False, 0, tuple(f"could not be checked: {cause}" for cause in causes))
    rows = detail.get("unexpected_index_list") or []
    column = result["expectation_config"]["kwargs"].get("column")
    examples = []
    for row in rows[: 2 * EXAMPLES]:
        who = ", ".join(f"{name} {value}" for name, value in row.items() if name not in (column, ROW_COUNT))
        examples.append(f"{who} ({column} = {row.get(column)})")
    examples = list(dict.fromkeys(examples))[:EXAMPLES]
    if not rows and not result["success"]:
        examples.append(f"found {detail.get('observed_value')}")
    # A row of a folded frame stands for many.
    failing = sum(int(row.get(ROW_COUNT, 1)) for row in rows) or int(detail.get("unexpected_count") or 0)
    return Outcome(frame, says, bool(result["success"]), failing, tuple(examples))


def exceptions(info: Mapping[str, Any]) -> list[str]:
    """Messages in the `exception_info` of a result: Great Expectations gives one, or one for each metric by its id."""
    each = [info] if "raised_exception" in info else [item for item in info.values() if isinstance(item, Mapping)]
    return list(dict.fromkeys(str(item.get("exception_message")) for item in each if item.get("raised_exception")))


def _reported(gate: Gate, tables: Mapping[str, pa.Table]) -> dict[str, Any]:
    if gate == "trajectories" and len(tables["trajectories"]):
        cut = pc.sum(pc.equal(tables["trajectories"]["finish_reason"], "length")).as_py()
        return {"truncated share": cut / len(tables["trajectories"])}
    if gate == "verdicts":
        rule = tables["verdicts"].filter(pc.equal(tables["verdicts"]["role"], "rule"))
        abstained = rule.filter(pc.equal(rule["verdict"], "abstain"))
        tally = pc.value_counts(abstained["reason"]).to_pylist()
        return {f"abstained, {item['values']}": item["counts"] / len(rule) for item in tally}
    if gate == "batch" and len(tables["batches"]):
        tally = pc.value_counts(pc.drop_null(tables["batches"]["drop_reason"])).to_pylist()
        return {f"dropped, {item['values']}": item["counts"] / len(tables["batches"]) for item in tally}
    return {}


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
