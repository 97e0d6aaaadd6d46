"""Metrics of protocols over evaluation samples: SCORE and its parts from the stored verdicts, and how near each text is to its gold."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assay.evaluation.estimators import Estimate, mean_with_interval
from assay.evaluation.protocol_metrics import ProtocolMetrics, protocol_metrics
from assay.evaluation.samples import Samples

RULE, ORACLE = "protocol_score", "oracle:protocol_executor"
PARTS: dict[str, str] = {
    "score": "total", "score_format": "format", "score_consistency": "consistency", "score_scale": "scale", "score_order": "order",
    "score_content": "content", "score_lexical": "lexical",
}  # fmt: skip
"""Metric -> key of the rule's components."""
UNBOUNDED = ("score", "score_content", "protocol_order_tau", "protocol_content", "protocol_average")
"""Metrics that are no shares: their intervals are Student's."""


@dataclass(frozen=True)
class Measure:
    """A number for each evaluation sample, NaN where it has none."""

    metric: str
    values: NDArray[np.float64]
    """(rows,)"""
    bounded: bool = True
    """Within [0, 1]."""


def protocol_measures(samples: Samples, verdicts: pa.Table) -> list[Measure]:
    """Of the samples that protocol_score judged; none where it judged none."""
    rows = {name: row for row, name in enumerate(samples.rows["trajectory_id"].to_pylist())}
    parts = {rows[name]: found for name, found in components(verdicts, "rule", RULE).items() if name in rows}
    if not parts:
        return []
    columns: dict[str, NDArray[np.float64]] = {}

    def put(metric: str, row: int, value: float) -> None:
        columns.setdefault(metric, np.full(len(rows), np.nan))[row] = value

    for row, found in parts.items():
        for metric, key in PARTS.items():
            put(metric, row, float(found[key]))
    for name, found in components(verdicts, "oracle", ORACLE).items():
        if name in rows:
            put("executable_share", rows[name], float(found["executable"]))
    texts, golds = samples.rows["text"].to_pylist(), samples.tasks["gold"].to_pylist()
    known: dict[tuple[str, str], ProtocolMetrics] = {}
    for row in parts:
        pair = (texts[row], golds[samples.task[row]])
        if pair not in known:
            known[pair] = protocol_metrics(*pair)
        for name, value in (asdict(known[pair]) | {"average": known[pair].average}).items():
            put(f"protocol_{name}", row, value)
    return [Measure(metric, values, metric not in UNBOUNDED) for metric, values in columns.items()]


def measured(
    samples: Samples, policy: int, chosen: NDArray[np.bool_], measures: Sequence[Measure], confidence: float, draws: float
) -> Iterator[tuple[str, Estimate]]:
    """Means over tasks of the samples' means, of one policy on the chosen tasks that have any."""
    for measure in measures:
        known = ~np.isnan(measure.values)
        count = samples.per_task(policy, mask=known)
        use = chosen & (count > 0)
        if use.any():
            means = samples.per_task(policy, np.nan_to_num(measure.values), known)[use] / count[use]
            if measure.bounded:
                yield measure.metric, mean_with_interval(means, confidence, samples=draws)
            else:
                yield measure.metric, mean_with_interval(means, confidence, bounded=False)


def components(verdicts: pa.Table, role: str, verifier: str) -> dict[str, dict[str, Any]]:
    """trajectory_id -> components, of one verifier's verdicts that did not abstain."""
    mine = verdicts.filter(pc.and_(pc.equal(verdicts["role"], role), pc.equal(verdicts["verifier"], verifier)))
    mine = mine.filter(pc.and_(pc.not_equal(mine["verdict"], "abstain"), pc.is_valid(mine["components"])))
    pairs = zip(mine["trajectory_id"].to_pylist(), mine["components"].to_pylist(), strict=True)
    return {name: json.loads(text) for name, text in pairs}
