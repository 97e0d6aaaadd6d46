"""The first pass: what is known of each token under the policy before an update's first step, and what follows for the whole batch.

Thresholds and selections over the generation batch are taken here, once, from the values of all processes: they depend neither on
micro-batches nor on how rows are divided.
"""

import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.objectives.entropy import entropy_threshold, top_entropy_mask
from assay.objectives.lp_reg import (
    SampledProxy,
    low_probability,
    low_probability_threshold,
    protected,
    proxy,
    proxy_logprobs,
    sampled_proxy,
    support,
)
from assay.params.exploration import LpReg
from assay.params.training import TrainingParams
from assay.training.ragged import Ragged
from assay.trajectories import sync_file

Values = dict[str, np.ndarray]
"""By name, (completion tokens of all rows, ...); rows of other processes read 0."""
BASE = ("logprobs", "entropies")
PROXY = ("max_logprobs", "log_z", "kept")
_TYPES = {"kept": np.bool_, "support_ids": np.int32}


def names(training: TrainingParams) -> tuple[str, ...]:
    """What the pass keeps of each token."""
    option = training.lp_reg
    if option is None:
        return BASE
    return (*BASE, *PROXY, *(("support_ids", "support_logprobs") if option.form == "forward_kl" else ()))


def is_needed(training: TrainingParams) -> bool:
    """Whether a term needs a statistic of the whole batch before the first step, so that the step's own pass would come too late."""
    return training.lp_reg is not None or (training.top_entropy is not None and training.top_entropy.scope == "batch")


def empty(training: TrainingParams, tokens: int, vocabulary: int) -> Values:
    """Zeros to be filled row by row."""
    option = training.lp_reg
    width = min(option.support, vocabulary) if option is not None else 0
    shapes = {name: (tokens, width) if name.startswith("support") else (tokens,) for name in names(training)}
    return {name: np.zeros(shape, dtype=_TYPES.get(name, np.float32)) for name, shape in shapes.items()}


def observe_proxy(logits: torch.Tensor, ids: torch.Tensor, option: LpReg, temperature: float) -> dict[str, torch.Tensor]:
    """Lp-Reg's quantities at each completion token. logits: (tokens, vocabulary), ids: (tokens,)."""
    found: SampledProxy = sampled_proxy(logits, ids, option.kappa, fixed_threshold=option.fixed_threshold, temperature=temperature)
    values = {"max_logprobs": found.max_logprobs, "log_z": found.log_z, "kept": found.kept}
    if option.form == "forward_kl":
        parts = [
            support(proxy(part, option.kappa, fixed_threshold=option.fixed_threshold, temperature=temperature), option.support)
            for part in logits.split(4096)
        ]
        values["support_ids"], values["support_logprobs"] = (torch.cat(part) for part in zip(*parts, strict=True))
    return values


@dataclass(frozen=True)
class BatchStatistics:
    """What the batch as a whole says. Masks are over all completion tokens; of rows of every process."""

    low_probability_threshold: float | None = None
    candidates: Ragged | None = None
    """bool: tokens that Lp-Reg ranks as rare by the entropy of the policy before the update, where that is its selector."""
    proxy_logprobs: Ragged | None = None
    """log of Lp-Reg's target at the sampled token, -inf where it is noise."""
    protected: Ragged | None = None
    entropy_threshold: float | None = None
    selected: Ragged | None = None
    """bool: the 80/20 rule's tokens."""


def batch_statistics(values: Mapping[str, np.ndarray], mask: Ragged, advantages: Ragged, training: TrainingParams) -> BatchStatistics:
    """values: of all processes. mask: tokens that bear policy loss. advantages: of each token."""
    bears, advantage = torch.from_numpy(mask.values.astype(bool)), torch.from_numpy(advantages.values)

    def ragged(found: torch.Tensor) -> Ragged:
        return Ragged(found.numpy(), mask.offsets)

    tau = selected = None
    if (rule := training.top_entropy) is not None and rule.scope == "batch":
        entropies = torch.from_numpy(values["entropies"])
        gate = advantage if rule.exclude_zero_advantage else None
        chosen = top_entropy_mask(entropies, bears, rule.fraction, part=rule.part, mode=rule.mode, advantages=gate)
        selected = ragged(chosen)
        if rule.mode == "quantile":
            ranked = bears if gate is None else bears & (gate != 0)
            upper = rule.fraction if rule.part == "top" else 1 - rule.fraction
            tau = entropy_threshold(entropies, ranked, upper) if 0 < upper < 1 else None
    option = training.lp_reg
    if option is None:
        return BatchStatistics(entropy_threshold=tau, selected=selected)
    logprobs = torch.from_numpy(values["logprobs"])
    target = proxy_logprobs(
        logprobs, torch.from_numpy(values["kept"]), torch.from_numpy(values["log_z"]), keep_dropped=option.keep_dropped
    )
    delta, candidates = None, None
    if option.selector == "high_entropy":
        candidates = top_entropy_mask(torch.from_numpy(values["entropies"]), bears, option.fraction)
    elif option.scope == "batch":
        delta = low_probability_threshold(logprobs, bears, option.fraction)
        candidates = low_probability(logprobs, bears, delta)
    held = None
    if candidates is not None:
        held = ragged(protected(candidates, advantage, logprobs, target, sign=option.sign, one_sided=option.one_sided))
    fixed = ragged(candidates) if option.selector == "high_entropy" and candidates is not None else None
    return BatchStatistics(delta, fixed, ragged(target), held, tau, selected)


def gathered(values: Values, reduce: Callable[[torch.Tensor], torch.Tensor]) -> Values:
    """Values of all processes. reduce: sums a tensor over them."""
    return {
        name: reduce(torch.from_numpy(value.astype(np.float32))).cpu().numpy().astype(value.dtype)
        for name, value in values.items()
        if not name.startswith("support")  # of own rows only
    }


def write(values: Values, file: Path) -> None:
    """Store them: when a killed update goes on, the policy will have moved."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".draft.npz")
    np.savez(draft, **values)  # type: ignore[arg-type]
    sync_file(draft)
    os.replace(draft, file)


def read(file: Path, expected: Values) -> Values | None:
    """None where the file is missing, damaged (as a machine that lost its power may leave it) or of another batch."""
    try:
        with np.load(file) as stored:
            values = {name: stored[name] for name in expected}
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error):
        return None
    return values if all(values[name].shape == expected[name].shape for name in expected) else None


def place(values: np.ndarray, offsets: np.ndarray, rows: np.ndarray, flat: Any) -> None:
    """Write the values of some rows, given one row after another, to where they belong."""
    lengths = np.diff(offsets)[rows]
    if lengths.sum() == 0:
        return
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    values[np.repeat(offsets[:-1][rows] - starts, lengths) + np.arange(lengths.sum())] = flat
