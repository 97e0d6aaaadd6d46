"""The first pass: what is known of each token under the policy before an update's first step, and what follows for the whole batch.

Thresholds and selections over the generation batch are taken here, once, from the values of all processes: they depend neither on
micro-batches nor on how rows are divided.
"""

import math
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.objectives.entropy import CHUNK_ELEMENTS, entropy_threshold, top_entropy_mask
from assay.objectives.lp_reg import (
    LpRegError,
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
SUPPORT = ("support_at", "support_ids", "support_logprobs")
"""Targets of Lp-Reg's full form, of tokens that may be protected: where they are (n,), ids and log-probabilities (n, K)."""
LIKELY = math.log(0.5)
"""Tokens above are never rare; their targets are not stored."""
_TYPES = {"kept": np.bool_}


def lp_reg_of(training: TrainingParams) -> LpReg | None:
    """Lp-Reg's options where it is on."""
    return training.lp_reg if training.lp_reg is not None and training.lp_reg.coefficient > 0 else None


def names(training: TrainingParams) -> tuple[str, ...]:
    """What the pass keeps of each token."""
    return BASE if lp_reg_of(training) is None else (*BASE, *PROXY)


def stores_supports(training: TrainingParams, steps: int) -> bool:
    """Whether later steps need the whole target of the policy before the first: in a single step it is that of the step's own pass."""
    option = lp_reg_of(training)
    return option is not None and option.form == "forward_kl" and steps > 1


def is_needed(training: TrainingParams) -> bool:
    """Whether a term needs a statistic of the whole batch before the first step, so that the step's own pass would come too late."""
    rule = training.top_entropy
    return lp_reg_of(training) is not None or (rule is not None and rule.scope == "batch" and rule.fraction < 1)


def empty(training: TrainingParams, tokens: int) -> Values:
    """Zeros to be filled row by row."""
    return {name: np.zeros(tokens, dtype=_TYPES.get(name, np.float32)) for name in names(training)}


def observe_proxy(logits: torch.Tensor, ids: torch.Tensor, option: LpReg, temperature: float) -> dict[str, torch.Tensor]:
    """Lp-Reg's quantities at each completion token. logits: (tokens, vocabulary), ids: (tokens,)."""
    found = sampled_proxy(logits, ids, option.kappa, fixed_threshold=option.fixed_threshold, temperature=temperature)
    return {"max_logprobs": found.max_logprobs, "log_z": found.log_z, "kept": found.kept}


def observe_supports(
    logits: torch.Tensor, found: Mapping[str, torch.Tensor], bears: torch.Tensor, advantages: torch.Tensor, option: LpReg,
    temperature: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """SUPPORT of the tokens of one micro-batch that may be protected, places counted within it.

    bears, advantages: (tokens,). Raises LpRegError for a target that is larger than `training.lp_reg.support`.
    """
    gate = {"negative": advantages < 0, "both": advantages != 0}.get(option.sign, torch.ones_like(bears))
    wanted = (bears & gate & found["kept"] & (found["logprobs"] < LIKELY)).nonzero().squeeze(-1)
    size = max(1, CHUNK_ELEMENTS // logits.size(-1))
    parts = []
    for places in wanted.split(size) if len(wanted) else []:
        target = proxy(logits[places], option.kappa, fixed_threshold=option.fixed_threshold, temperature=temperature)
        try:
            parts.append(support(target, option.support))
        except LpRegError as error:
            raise LpRegError(f"training.lp_reg.support is {option.support}: {error}") from error
    width = min(option.support, logits.size(-1))
    ids = np.concatenate([part[0].cpu().numpy() for part in parts]) if parts else np.zeros((0, width))
    logs = np.concatenate([part[1].cpu().numpy() for part in parts]) if parts else np.zeros((0, width))
    return wanted.cpu().numpy(), ids.astype(np.int32), logs.astype(np.float32)


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
    if (rule := training.top_entropy) is not None and rule.scope == "batch" and rule.fraction < 1:
        entropies = torch.from_numpy(values["entropies"])
        gate = advantage if rule.exclude_zero_advantage else None
        chosen = top_entropy_mask(entropies, bears, rule.fraction, part=rule.part, mode=rule.mode, advantages=gate)
        selected = ragged(chosen)
        if rule.mode == "quantile":
            ranked = bears if gate is None else bears & (gate != 0)
            upper = rule.fraction if rule.part == "top" else 1 - rule.fraction
            tau = entropy_threshold(entropies, ranked, upper) if ranked.any() else None
    option = lp_reg_of(training)
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
    }


def write(values: Values, file: Path) -> None:
    """Store them: when a killed update goes on, the policy will have moved."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".draft.npz")
    np.savez(draft, **values)  # type: ignore[arg-type]
    sync_file(draft)
    os.replace(draft, file)


def read(file: Path, expected: Values, extra: tuple[str, ...] = ()) -> Values | None:
    """None where the file is missing, damaged (as a machine that lost its power may leave it) or of another batch. extra: further names,
    of any length."""
    try:
        with np.load(file) as stored:
            values = {name: stored[name] for name in (*expected, *extra)}
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
