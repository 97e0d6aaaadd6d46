"""The report's section on protocols: SCORE's parts over policies, and one protocol beside its gold, step by step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from assay.evaluation.breakdown import Grid, interval
from assay.evaluation.figures import Figure, chart, metric_line
from assay.evaluation.metrics import Lookup
from assay.evaluation.protocols import ORACLE, RULE, components
from assay.evaluation.samples import Samples
from assay.evaluation.selection import visible
from assay.rewards.protocol import read_leniently
from assay.trajectories import content_hash

PICTURED = (
    ("score_format", "format gate", 5), ("score_consistency", "consistency gate", 3), ("score_scale", "scale", 4),
    ("score_order", "order", 2), ("protocol_semantic", "content / 1.5", 6),
)  # fmt: skip
TABLE = ("score", "score_format", "score_consistency", "score_scale", "score_order", "score_content", "executable_share", "score_lexical")


@dataclass(frozen=True)
class ProtocolSection:
    """What the template shows."""

    figures: tuple[Figure, ...]
    parts: Grid
    """A row for each policy."""
    question: str
    """Of the protocol that is shown; "" where none can be."""
    verdict: str
    aligned: Grid


def protocol_section(samples: Samples, verdicts: pa.Table, table: Lookup, split: str) -> ProtocolSection | None:
    """None for a run without protocols."""
    if not any(table.get(k, split, "score") for k in table.iterations):
        return None
    figures = [
        chart("SCORE", "Mean over held-out tasks; the gold has 2.5 by default.", [metric_line(table, split, "score", "SCORE", 1)], "policy",
              "SCORE"),
        chart("Parts of SCORE", "Means over all samples; a sample whose gate fails has SCORE 0 whatever the others are.",
              [metric_line(table, split, metric, name, color) for metric, name, color in PICTURED], "policy", "mean", unit=True),
        chart("Can it be carried out?", "By the executor, which shares nothing with SCORE; beside it the overlap of words.",
              [metric_line(table, split, "executable_share", "every step can be done", 1),
               metric_line(table, split, "accuracy_oracle", "and the goal is reached", 2),
               metric_line(table, split, "score_lexical", "overlap of words", 6)], "policy", "share", unit=True),
    ]  # fmt: skip
    present = [name for name in TABLE if any(table.get(k, split, name) for k in table.iterations)]
    names = [name.removeprefix("score_").replace("_", " ") for name in present]
    parts = Grid(
        ("policy", *names), tuple((str(k), *(interval(table.get(k, split, name)) for name in present)) for k in table.iterations), 1
    )
    return ProtocolSection(tuple(figure for figure in figures if figure.svg), parts, *_beside_the_gold(samples, verdicts, split))


def _beside_the_gold(samples: Samples, verdicts: pa.Table, split: str) -> tuple[str, str, Grid]:
    """Question, what rule and oracle say, and the aligned steps of one sample of the last policy: by a hash of their ids the first of
    those that keep the format and lose something, else of those that keep it, else of those that have a step."""
    said = components(verdicts, "rule", RULE)
    names = samples.rows["trajectory_id"].to_pylist()
    last = samples.policy == len(samples.iterations) - 1
    rows = [row for row in np.flatnonzero(last & (samples.split[samples.task] == split)).tolist() if names[row] in said]
    kept = [row for row in rows if said[names[row]]["format"] and said[names[row]]["steps"]]
    lossy = [row for row in kept if said[names[row]]["total"] < said[names[row]]["maximum"]]
    some = lossy or kept or [row for row in rows if said[names[row]]["steps"]]
    if not some:
        return "", "", Grid((), ())
    row = min(some, key=lambda row: content_hash("aligned", names[row]))
    found, task = said[names[row]], samples.tasks.slice(int(samples.task[row]), 1).to_pylist()[0]
    oracle = components(verdicts, "oracle", ORACLE).get(names[row])
    told = (
        f"SCORE {found['total']:.3f} of {found['maximum']:g}: scale {found['scale']:.3f} x (order {found['order']:.3g} + content "
        f"{found['content']:.3f}); {_executed(oracle)}"
    )
    return visible(task["prompt"][-1]["content"]), told, aligned_grid(found["steps"], task["gold"])


def aligned_grid(steps: Sequence[dict[str, Any]], gold: str) -> Grid:
    """A row for each predicted step, and for each gold step without a partner where it is missing."""
    wanted = [_step(step.action, step.objects, step.parameters) for step in read_leniently(gold)[1]]
    partners = {step["aligned"] for step in steps}
    rows: list[tuple[str, ...]] = []
    done = 0
    for step in steps:
        j = step["aligned"]
        if j is not None:
            rows += [("", wanted[place - 1], "–", "–", "–", "0") for place in range(done + 1, j) if place not in partners]
            done = j
        numbers = ("–",) * 3 if j is None else tuple(f"{step[key]:.2f}" for key in ("object_overlap", "parameter_overlap", "decay"))
        said = visible(_step(step["action"], step["objects"], step["parameters"]))
        rows.append((said, "" if j is None else wanted[j - 1], *numbers, f"{step['content']:.3g}"))
    rows += [("", wanted[place - 1], "–", "–", "–", "0") for place in range(done + 1, len(wanted) + 1) if place not in partners]
    return Grid(("predicted step", "gold step", "objects", "parameters", "position", "content"), tuple(rows), 2)


def _step(action: str, objects: Sequence[str], parameters: Sequence[str]) -> str:
    return f"{action} {', '.join(objects)}{' (' + ', '.join(parameters) + ')' if parameters else ''}".strip()


def _executed(oracle: dict[str, Any] | None) -> str:
    if oracle is None:
        return "there is no executor for it."
    if not oracle["why"]:
        return "it can be carried out and reaches its goal."
    where = "" if oracle["failed_step"] is None else f"step {oracle['failed_step']}: "
    return f"the executor stops: {where}{visible(oracle['why'])}."
