"""Lines of the entropy picture. What is measured differs in temperature and in rows, so that each line names both."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.evaluation.charts import Line
from assay.evaluation.figures import Figure, chart, metric_line
from assay.evaluation.metrics import Lookup
from assay.evaluation.record import RunRecord
from assay.evaluation.tokens import TrainedTokens, sums
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


ENTROPY_NOTE = (
    "Evaluation samples give an estimate: minus the mean sampled log-probability. The training engine computes it "
    "exactly, at the temperature of training and on the rows that the filter kept: other prompts, other answers."
)


def entropy_figure(record: RunRecord, table: Lookup, split: str, params: Params) -> Figure:
    """Over policies."""
    return chart("Entropy", ENTROPY_NOTE, entropy_lines(record, table, split, params), "policy", "nats per token")


def trained_entropies(statistics: pa.Table, trajectories: pa.Table) -> dict[int, float | None]:
    """Iteration -> mean entropy of the tokens that bear loss, nats; None where none of its trajectories is at hand.

    statistics: rows of `token_statistics`, one entropy for each completion token. Raises EvaluationError where lengths
    differ.
    """
    trained = TrainedTokens(statistics, trajectories)
    total, count = np.zeros(len(trained.moments)), np.zeros(len(trained.moments))
    for tokens in trained.blocks():
        total += sums(tokens.moment, tokens.entropy, len(total))
        count += np.bincount(tokens.moment, minlength=len(count))
    found: dict[int, float | None] = dict.fromkeys(sorted(pc.unique(statistics["iteration"]).to_pylist()))
    for k in {iteration for iteration, _ in trained.moments}:
        mine = np.array([iteration == k for iteration, _ in trained.moments])
        found[k] = float(total[mine].sum() / count[mine].sum()) if count[mine].sum() else None
    return found
