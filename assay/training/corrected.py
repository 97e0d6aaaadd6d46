"""Advantages corrected for a noisy verifier, each with its matched control: rates from parameters or from the record's estimates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from assay.objectives.advantages import group_zscore, leave_one_out
from assay.objectives.corrections import backward, backward_advantages, direct, forward, forward_advantages
from assay.params.training import Backward, BackwardZScored, Corrected, Forward, ForwardZScored

Floats = np.ndarray


class CorrectionInputError(ValueError):
    """Estimates that a correction needs and does not find."""


@dataclass(frozen=True)
class Noise:
    """What is known of the rule's errors."""

    environment_of: Mapping[str, str] = field(default_factory=dict)
    """By task_id."""
    estimates: pa.Table | None = None
    """`noise_estimates` of the verdicts that are used."""


@dataclass(frozen=True)
class Rates:
    """(rows,) each."""

    false_positive: Floats
    false_negative: Floats
    known: np.ndarray
    """Whether there is an estimate; without one the row gets its control's advantage."""
    deviation: Floats
    """Moving average of the standard deviation of observed rewards; NaN where there is none."""
    notes: tuple[str, ...]

    def of(self, rows: np.ndarray) -> "Rates":
        """Those of some rows."""
        return Rates(self.false_positive[rows], self.false_negative[rows], self.known[rows], self.deviation[rows], self.notes)


def rates_for(option: Corrected, noise: Noise, task_ids: Sequence[str], verifiers: Sequence[str]) -> Rates:
    """The rates that each row's correction uses: of its environment and rule where `option` says `estimated`.

    With recovered appeals these are the rates of what noise remains. Raises CorrectionInputError without the needed estimates.
    """
    needs = "estimated" in (option.false_positive_rate, option.false_negative_rate) or (
        isinstance(option, Backward) and option.scale == "ema"
    )
    if not needs:
        fixed = np.tile([float(option.false_positive_rate), float(option.false_negative_rate), np.nan], (len(task_ids), 1))
        return Rates(fixed[:, 0], fixed[:, 1], np.ones(len(task_ids), dtype=bool), fixed[:, 2], ())
    if noise.estimates is None:
        raise CorrectionInputError("training.advantage uses estimated rates, but no noise_estimates are given: run the verify stage again")
    rows = {(row["environment"], row["verifier"]): row for row in noise.estimates.to_pylist()}
    keys = [(noise.environment_of[task_id], verifier) for task_id, verifier in zip(task_ids, verifiers, strict=True)]
    per_key, notes = {}, []
    for key in dict.fromkeys(keys):
        if key not in rows:
            raise CorrectionInputError(f"noise_estimates has no row for {key[0]}, verifier {key[1]}: run the verify stage again")
        fpr = _rate(option.false_positive_rate, "positive", rows[key], option.lag)
        fnr = _rate(option.false_negative_rate, "negative", rows[key], option.lag)
        per_key[key] = (fpr, fnr, rows[key]["smoothed_deviation"])
        if fpr is None or fnr is None:
            notes.append(f"{key[0]}: no estimate of {key[1]}'s error rates yet, its rows get the uncorrected control's advantage")
        elif (c := 1 - fpr - fnr) < option.minimum_determinant:
            notes.append(f"{key[0]}: 1 - both rates is {c:.3f}, raised to minimum_determinant {option.minimum_determinant:g}")
    table = np.asarray([[np.nan if value is None else value for value in per_key[key]] for key in keys], dtype=np.float64)
    known: np.ndarray = ~np.isnan(table[:, 0] + table[:, 1])
    # An estimate may come out at 1 where the rule has accepted nothing; corrections take rates below 1.
    rates = np.minimum(np.where(known[:, None], table[:, :2], 0.0), 1 - 1e-9)
    return Rates(rates[:, 0], rates[:, 1], known, table[:, 2], tuple(notes))


def _rate(option: float | str, kind: str, row: Mapping, lag: int) -> float | None:
    if not isinstance(option, str):
        return float(option)
    name = "smoothed_rate" if kind == "negative" else "smoothed_false_positive_rate"
    if lag:
        return row[name.replace("smoothed", "carried")]
    residual = row[f"residual_false_{kind}_rate"]
    return row[name] if residual is None else residual


def corrected_advantages(
    option: Corrected, rewards: Floats, groups: np.ndarray, rates: Rates, say: Callable[[str], None] = lambda line: None
) -> tuple[Floats, Floats]:
    """(rows,) advantages, and those of the matched control, which differs in the correction alone (section B.5 of the paper).

    rewards: (rows,) observed, of rows that have one. Rows whose rates are not known yet get the control's.
    """
    for note in rates.notes:
        say(note)
    fpr, fnr = rates.false_positive, rates.false_negative
    floor = option.minimum_determinant if "estimated" in (option.false_positive_rate, option.false_negative_rate) else 0.0
    if isinstance(option, Backward):
        scale: Floats | float = _ema_scale(rates, floor) if isinstance(option.scale, str) else option.scale
        control = leave_one_out(rewards, groups) / scale
        found = backward_advantages(rewards, groups, fpr, fnr, scale=scale, minimum_determinant=floor)
    elif isinstance(option, Forward):
        found = forward_advantages(
            rewards, fnr, fpr=fpr, scale=option.scale, baseline=option.baseline, minimum_determinant=floor
        )  # fmt: skip
        scale = _forward_scale(option, rates, floor)
        control = direct(rewards, scale=scale) - option.baseline / scale
    elif isinstance(option, BackwardZScored):
        control = group_zscore(rewards, groups, epsilon=option.epsilon)
        found = group_zscore(backward(rewards, fpr, fnr, minimum_determinant=floor), groups, epsilon=option.epsilon)
    else:
        assert isinstance(option, ForwardZScored)
        control = group_zscore(rewards, groups, epsilon=option.epsilon)
        found = group_zscore(forward(rewards, fnr), groups, epsilon=option.epsilon)
    return np.where(rates.known, found, control), control


def _forward_scale(option: Forward, rates: Rates, floor: float) -> Floats | float:
    if option.scale == "determinant":
        return np.maximum(1 - rates.false_positive - rates.false_negative, floor)
    return 1 - rates.false_negative if isinstance(option.scale, str) else option.scale


def _ema_scale(rates: Rates, floor: float) -> Floats:
    """Deviation of corrected rewards: that of observed ones over the determinant. 1 where rewards have not varied yet."""
    determinant = np.maximum(1 - rates.false_positive - rates.false_negative, floor)
    return np.where(rates.deviation > 0, rates.deviation / determinant, 1.0)
