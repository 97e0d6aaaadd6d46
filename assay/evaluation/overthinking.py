"""Overthinking at evaluation, by the oracle of chain arithmetic: how many re-checks an answer has, and what they do to its result.

Pooled over the answers of a policy; tasks are the clusters of the intervals. Tasks of other environments have none of this.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assay.environments.chain_arithmetic.effects import is_chain, read_trace
from assay.evaluation.estimators import Estimate, ratio_with_interval
from assay.evaluation.samples import Samples
from assay.evaluation.selection import Renderer
from assay.evaluation.self_verification import pooled_share


@dataclass(frozen=True)
class Rechecks:
    """Of every evaluation sample, (rows,) each."""

    read: NDArray[np.bool_]
    """It answers a chain; the others are 0 everywhere."""
    complete: NDArray[np.bool_]
    """The thinking is opened and closed."""
    helpful: NDArray[np.int64]
    ineffective: NDArray[np.int64]
    harmful: NDArray[np.int64]

    @property
    def total(self) -> NDArray[np.int64]:
        return self.helpful + self.ineffective + self.harmful


def prompts_open(tasks: pa.Table, renderer: Renderer) -> bool:
    """Whether the chat template ends the prompts of this environment with the open tag, so that answers begin inside the thinking."""
    pairs = zip(tasks["meta"].to_pylist(), tasks["prompt"].to_pylist(), strict=True)
    prompt = next((prompt for meta, prompt in pairs if is_chain(json.loads(meta))), None)
    return prompt is not None and renderer.rendered(prompt).rstrip().endswith("<think>")


def read_rechecks(samples: Samples, *, opened_by_prompt: bool = False) -> Rechecks | None:
    """What every trace does; None without tasks of this environment. opened_by_prompt: prompts end with the open tag."""
    metas = [json.loads(text) for text in samples.tasks["meta"].to_pylist()]
    chains = np.array([is_chain(meta) for meta in metas], dtype=bool)
    read = chains[samples.task]
    if not read.any():
        return None
    complete = np.zeros(len(read), dtype=bool)
    helpful, ineffective, harmful = np.zeros((3, len(read)), dtype=np.int64)
    texts = samples.rows["text"]
    for row in np.flatnonzero(read):
        found = read_trace(texts[int(row)].as_py(), metas[samples.task[row]], opened_by_prompt=opened_by_prompt)
        effects = [check.effect for check in found.rechecks]
        complete[row], helpful[row] = found.complete, effects.count("helpful")
        ineffective[row], harmful[row] = effects.count("ineffective"), effects.count("harmful")
    return Rechecks(read, complete, helpful, ineffective, harmful)


def overthinking_metrics(
    samples: Samples, policy: int, chosen: NDArray[np.bool_], found: Rechecks, confidence: float
) -> Iterator[tuple[str, Estimate]]:
    """Of one policy on the chosen tasks. policy: index into samples.iterations; chosen: (tasks,)."""
    own = np.flatnonzero((samples.policy == policy) & chosen[samples.task] & found.read)
    if not len(own):
        return
    task = np.unique(samples.task[own], return_inverse=True)[1].reshape(-1)
    idle, helpful = (found.ineffective + found.harmful)[own], found.helpful[own]
    of_check = np.concatenate([np.repeat(task, idle), np.repeat(task, helpful)])
    numbered = np.unique(of_check, return_inverse=True)[1].reshape(-1)
    yield "overthinking_rate", pooled_share(np.arange(len(of_check)) < idle.sum(), numbered, confidence)
    answers = np.bincount(task)
    for name, counts in (("rechecks", found.total), ("rechecks_helpful", found.helpful), ("rechecks_harmful", found.harmful)):
        yield name, ratio_with_interval(np.bincount(task, weights=counts[own]), answers, confidence)
    yield "think_block_share", pooled_share(found.complete[own], task, confidence)
