"""Advantages corrected for a noisy verifier, each with its matched control: rates from parameters or from the record's estimates."""

from collections.abc import Mapping, Sequence
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
    """0 where it is not read."""
    false_negative: Floats
    known: np.ndarray
    """Whether there is an estimate; without one the row gets its control's advantage."""
    determinant: Floats
    """1 - both rates, raised to the option's minimum where rates are estimated."""
    deviation: Floats
    """Moving average of the standard deviation of observed rewards; NaN where there is none."""
    notes: tuple[str, ...] = ()

    def of(self, rows: np.ndarray) -> "Rates":
        """Those of some rows."""
        return Rates(
            self.false_positive[rows], self.false_negative[rows], self.known[rows], self.determinant[rows], self.deviation[rows], self.notes
        )  # fmt: skip


def reads_false_positives(option: Corrected) -> bool:
    """Whether the determinant is divided by. Forward weights do without, and without this rate, but for their scale of that name."""
    return not isinstance(option, ForwardZScored) and (not isinstance(option, Forward) or option.scale == "determinant")


def rates_for(option: Corrected, noise: Noise, task_ids: Sequence[str], verifiers: Sequence[str]) -> Rates:
    """The rates that each row's correction uses: of its environment and rule where `option` says `estimated`.

    With recovered appeals these are the rates of what noise remains. Raises CorrectionInputError without the needed estimates.
    """
    fpr_option = option.false_positive_rate if reads_false_positives(option) else 0.0
    options = (fpr_option, option.false_negative_rate)
    ema = isinstance(option, Backward) and option.scale == "ema"
    if "estimated" not in options and not ema:
        rates = np.tile([float(rate) for rate in options], (len(task_ids), 1))
        nothing = np.full(len(task_ids), np.nan)
        return Rates(rates[:, 0], rates[:, 1], np.ones(len(task_ids), dtype=bool), 1 - rates.sum(axis=1), nothing)
    if noise.estimates is None:
        raise CorrectionInputError("training.advantage uses estimated rates, but no noise_estimates are given: run the verify stage again")
    rows = {(row["environment"], row["verifier"]): row for row in noise.estimates.to_pylist()}
    keys = [(noise.environment_of[task_id], verifier) for task_id, verifier in zip(task_ids, verifiers, strict=True)]
    floor = option.minimum_determinant if "estimated" in options else 0.0
    divides = reads_false_positives(option) or (isinstance(option, Forward) and isinstance(option.scale, str))
    per_key, notes = {}, []
    for key in dict.fromkeys(keys):
        if key not in rows:
            raise CorrectionInputError(f"noise_estimates has no row for {key[0]}, verifier {key[1]}: run the verify stage again")
        fpr = _rate(fpr_option, "positive", rows[key], option.lag)
        fnr = _rate(option.false_negative_rate, "negative", rows[key], option.lag)
        per_key[key] = (fpr, fnr, rows[key]["carried_deviation" if option.lag else "smoothed_deviation"])
        if fpr is None or fnr is None:
            notes.append(f"{key[0]}: no estimate of {key[1]}'s error rates yet, its rows get the uncorrected control's advantage")
        elif divides and (c := 1 - fpr - fnr) < floor:
            notes.append(f"{key[0]}: minimum_determinant {floor:g} stands in for 1 - the error rates, which is {c:.3f}")
    table = np.asarray([[np.nan if value is None else value for value in per_key[key]] for key in keys], dtype=np.float64)
    known: np.ndarray = ~np.isnan(table[:, 0] + table[:, 1])
    # An estimate may come out at 1 where the rule has accepted nothing; corrections take rates below 1.
    rates = np.minimum(np.where(known[:, None], table[:, :2], 0.0), 1 - 1e-9)
    determinant = np.maximum(1 - rates.sum(axis=1), floor)
    return Rates(rates[:, 0], rates[:, 1], known, determinant, table[:, 2], tuple(notes))


def _rate(option: float | str, kind: str, row: Mapping, lag: int) -> float | None:
    if not isinstance(option, str):
        return float(option)
    name = "smoothed_rate" if kind == "negative" else "smoothed_false_positive_rate"
    if lag:
        return row[name.replace("smoothed", "carried")]
    residual = row[f"residual_false_{kind}_rate"]
    return row[name] if residual is None else residual


def corrected_advantages(option: Corrected, rewards: Floats, groups: np.ndarray, rates: Rates) -> tuple[Floats, Floats]:
    """(rows,) advantages, and those of the matched control, which differs in the correction alone (section B.5 of the paper).

    rewards: (rows,) observed, of rows that have one. Rows whose rates are not known yet get the control's.
    """
    fpr, fnr = rates.false_positive, rates.false_negative
    estimated = "estimated" in (option.false_positive_rate, option.false_negative_rate)
    floor = option.minimum_determinant if estimated else 0.0
    scale: Floats | float
    if isinstance(option, Backward):
        scale, own = (option.scale, option.scale) if not isinstance(option.scale, str) else _ema_scales(rates)
        control = leave_one_out(rewards, groups) / own
        found = backward_advantages(rewards, groups, fpr, fnr, scale=scale, minimum_determinant=floor)
    elif isinstance(option, Forward):
        scale = _forward_scale(option, rates)
        found = forward_advantages(rewards, fnr, scale=scale, baseline=option.baseline)
        control = direct(rewards, scale=scale) - option.baseline / scale
    elif isinstance(option, BackwardZScored):
        control = group_zscore(rewards, groups, epsilon=option.epsilon)
        found = group_zscore(backward(rewards, fpr, fnr, minimum_determinant=floor), groups, epsilon=option.epsilon)
    else:
        assert isinstance(option, ForwardZScored)
        control = group_zscore(rewards, groups, epsilon=option.epsilon)
        found = group_zscore(forward(rewards, fnr), groups, epsilon=option.epsilon)
    return np.where(rates.known, found, control), control


def _forward_scale(option: Forward, rates: Rates) -> Floats | float:
    if isinstance(option.scale, str):
        return rates.determinant  # 1 - the false-negative rate where `rates_for` reads no other, with the floor of estimates
    return option.scale


def _ema_scales(rates: Rates) -> tuple[Floats, Floats]:
    """The deviation of corrected rewards, which is that of observed ones over the determinant, and the latter, which is the control's
    own; 1 where rewards have not varied yet. The determinant divides out: under this scale the correction changes nothing."""
    varied = rates.deviation > 0
    return np.where(varied, rates.deviation / rates.determinant, 1.0), np.where(varied, rates.deviation, 1.0)
