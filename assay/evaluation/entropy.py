"""Lines of the entropy picture. What is measured differs in temperature and in rows, so that each line names both."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.evaluation.charts import Line
from assay.evaluation.estimators import EvaluationError
from assay.evaluation.figures import metric_line
from assay.evaluation.metrics import Lookup
from assay.evaluation.record import RunRecord
from assay.params import Params


def entropy_lines(record: RunRecord, table: Lookup, split: str, params: Params) -> list[Line]:
    """Of the evaluation samples, and, where the record has token statistics, of the training rows that were kept."""
    name = f"evaluation samples, temperature {params.evaluation.temperature:g}"
    lines = [metric_line(table, split, "entropy", name, 1)]
    if record.token_statistics is not None and len(record.token_statistics):
        means = trained_entropies(record.token_statistics, record.trajectories)
        name = f"kept training rows, temperature {params.sampling.temperature:g}"
        lines.append(Line(name, list(means), list(means.values()), 2, dashed=True))
    return lines


def trained_entropies(statistics: pa.Table, trajectories: pa.Table) -> dict[int, float | None]:
    """Iteration -> mean entropy of the tokens that bear loss, nats.

    statistics: rows of `token_statistics`, one entropy for each completion token. trajectories: their loss_mask; rows
    whose trajectory is not among them are left out, as which of their tokens the policy sampled is not known. Raises
    EvaluationError where lengths differ.
    """
    place = pc.index_in(statistics["trajectory_id"], value_set=trajectories["trajectory_id"].combine_chunks())
    known = statistics.select(["iteration", "entropies"]).filter(pc.is_valid(place))
    masks = trajectories["loss_mask"].combine_chunks().take(place.drop_null().combine_chunks())
    entropies = known["entropies"].combine_chunks()
    unequal = pc.not_equal(pc.list_value_length(masks), pc.list_value_length(entropies)).to_numpy(zero_copy_only=False)
    if unequal.any():
        name = statistics["trajectory_id"].filter(pc.is_valid(place))[int(np.argmax(unequal))]
        raise EvaluationError(
            f"trajectory {name}: its token statistics have another length than its loss_mask; run the update of its iteration again"
        )
    sampled = pc.list_flatten(masks).to_numpy(zero_copy_only=False).astype(bool)
    values = pc.list_flatten(entropies).to_numpy(zero_copy_only=False).astype(np.float64)[sampled]
    iteration = np.repeat(known["iteration"].to_numpy(), pc.list_value_length(entropies).to_numpy(zero_copy_only=False))[sampled]
    return {
        int(k): float(values[iteration == k].mean()) if (iteration == k).any() else None
        for k in sorted(pc.unique(statistics["iteration"]).to_pylist())
    }
