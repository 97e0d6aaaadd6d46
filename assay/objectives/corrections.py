"""Corrections of rewards that a noisy verifier gave: from observed verdicts to advantages.

The channel: a right answer is observed wrong with the false-negative rate (fnr, rho1), a wrong one right with the false-positive rate
(fpr, rho0), whatever the answer; c = 1 - fpr - fnr is its determinant, E[observed | right or wrong] = c x right + fpr. Source of all
equations: "Reinforcement Learning with Verifiable yet Noisy Rewards under Imperfect Verifiers" (version 4; B.x is its appendix B).

Where it belongs: after the verifier (and after appeals), *in place of* the group-normalised advantage, before the clipped surrogate; one
number per sequence, the same for all its tokens. Sign: gradient ascent, a number multiplies the score grad log pi as an advantage does;
a loss to be minimised is -(advantage x log pi). What is never done: a corrected reward is never divided by the current group's standard
deviation, as the z-score of a r + b is that of r (B.4) and nothing would be corrected; forward weights are not centred by the current
group, which takes out the very constant that corrects.

Conventions are those of `advantages`: float64 on the CPU, the result has the type, device and floating-point type of the rewards, groups
are ids of any kind. Observed rewards lie in [0, 1]; rows that were abstained on are left out before. Rates and scales are numbers, or
one for each row, as rows of several environments have several channels. What does not fit raises CorrectionError.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from assay.objectives.advantages import AdvantageError, leave_one_out
from assay.objectives.arrays import array_of, like, on_host

ForwardScale = Literal["determinant", "one_minus_false_negative_rate"]


class CorrectionError(AdvantageError):
    """Rates, rewards, groups or steps from which no corrected advantage can be computed."""


@dataclass(frozen=True)
class Audit:
    """How much a correction changed the advantages of a batch. All None where no token counts."""

    mean_difference: float | None
    """Mean over tokens of |corrected - control|."""
    max_difference: float | None
    cosine: float | None
    """Of the two as vectors over tokens; None where one of them is all zeros."""


def determinant(fpr: Any, fnr: Any, minimum: float = 0.0) -> tuple[Any, Any]:
    """c = 1 - fpr - fnr, raised to `minimum` where it is below, and whether it was: (c, clamped), numbers or arrays as the rates are.

    For *estimated* rates, whose sum may come out at 1 or above: 1 / c^2 is the variance of what is corrected. The paper gives no number
    for its minimum. Raises CorrectionError for a rate outside [0, 1) and, where minimum is 0, for c <= 0: no correction exists (Def. 3.1).
    """
    false_positive, false_negative = _rates(fpr, fnr)
    if not 0 <= minimum < 1:
        raise CorrectionError(f"the minimum of a determinant is {minimum}, expected a number in [0, 1)")
    # At 0.3 and 0.7 the difference is 5e-17 in binary: as good as zero, and as useless.
    value = np.where(np.abs(exact := 1 - false_positive - false_negative) < 1e-12, 0.0, exact)
    if minimum == 0 and (value <= 0).any():
        at = int(np.argmin(value))
        p, n = (float(np.broadcast_to(rate, value.shape).flat[at]) for rate in (false_positive, false_negative))
        raise CorrectionError(
            f"false-positive rate {p:g} and false-negative rate {n:g}: their sum is not below 1, so no correction exists; "
            "for rates that are estimated give a minimum of the determinant"
        )
    clamped = value < minimum
    value = np.maximum(value, minimum)
    return (value, clamped) if value.ndim else (float(value), bool(clamped))


def backward(observed: Any, fpr: Any, fnr: Any, *, minimum_determinant: float = 0.0) -> Any:
    """PGBC's reward: (r - fpr) / c, whose mean over the channel is 1 for a right and 0 for a wrong answer (Thm. 3.3).

    observed: (rows,). Returns (rows,): (1 - fpr) / c >= 1 for an accepted, -fpr / c <= 0 for a refused answer. Unbiased with the true
    rates and no clamp.
    """
    return like(_backward(_rewards(observed), fpr, fnr, minimum_determinant), observed)


def backward_advantages(observed: Any, groups: Any, fpr: Any, fnr: Any, *, scale: Any = 1.0, minimum_determinant: float = 0.0) -> Any:
    """PGBC: (corrected reward - mean of the group's other corrected rewards) / scale (B.2). Returns (rows,).

    scale: fixed or a slow average, never of the current group. A group whose rewards (and rates) are equal gives exactly 0, a group of one
    its corrected reward. With equal rates in a group this is leave_one_out(observed) / (c scale), element by element.
    """
    values = _rewards(observed)
    corrected = _backward(values, fpr, fnr, minimum_determinant)
    return like(_leave_one_out(corrected, groups) / _scale(scale, values), observed)


def forward(observed: Any, fnr: Any) -> Any:
    """PGFC's weight: w = r - (1 - fnr), so fnr for an accepted and fnr - 1 for a refused answer (Prop. 3.4).

    observed: (rows,). Returns (rows,). Over the channel its mean is 0 for a right and -c for a wrong answer, so E[w x score] = c x the true
    gradient (Thm. 3.5) without knowing fpr, where token scores are *summed*: under a division by length the constant adds a pull to
    longer answers.
    """
    return like(_weights(_rewards(observed), fnr), observed)


def forward_advantages(
    observed: Any,
    fnr: Any,
    *,
    fpr: Any = 0.0,
    scale: Any | ForwardScale = 1.0,
    baseline: Any = 0.0,
    minimum_determinant: float = 0.0,
) -> Any:
    """PGFC: (w - baseline) / scale (B.3). Returns (rows,). Not zero in groups that are all right or all wrong, by design.

    scale: numbers, or `determinant` (c; reads fpr), or `one_minus_false_negative_rate` (c where fpr is near 0); these two are raised to
    minimum_determinant. baseline: a constant or historical one, number or (rows,); one of the current group would bias the gradient.
    """
    values = _rewards(observed)
    weights = _weights(values, fnr) - _per_row(_finite(baseline, "baseline"), values, "baselines")
    return like(weights / _forward_scale(scale, fpr, fnr, values, minimum_determinant), observed)


def direct(observed: Any, *, scale: Any = 1.0) -> Any:
    """r / scale: the uncorrected control that matches `forward` (B.5), as uncentred and as scaled as it is. Returns (rows,). Nothing is
    corrected, so any finite rewards will do."""
    values = _rows(observed)
    if (bad := np.flatnonzero(~np.isfinite(values))).size:
        raise CorrectionError(f"row {bad[0]}: a reward is {values[bad[0]]}, expected a finite number; leave abstained rows out before")
    return like(values / _scale(scale, values), observed)


def leave_one_out_control(observed: Any, groups: Any, *, scale: Any = 1.0) -> Any:
    """(r - mean of the group's other r) / scale: the uncorrected control that matches `backward_advantages` (B.5). Returns (rows,)."""
    values = _rewards(observed)
    return like(_leave_one_out(values, groups) / _scale(scale, values), observed)


def audit(noise_advantage: Any, corrected_advantage: Any, mask: Any = None, *, weights: Any = None) -> Audit:
    """What a correction changed, against its matched control on the same rollouts (B.10).

    Any equal shapes, with a mask or weights of that shape: (rows, tokens) with the loss mask, or (rows,) with the number of unmasked
    tokens of each row as weights, which gives the same figures. A z-score must show differences of 0 and cosine 1; a correction must not.
    """
    control, corrected = array_of(noise_advantage), array_of(corrected_advantage)
    share = np.ones(control.shape) if weights is None else array_of(weights)
    keep = np.ones(control.shape, dtype=bool) if mask is None else array_of(mask).astype(bool)
    if len({control.shape, corrected.shape, share.shape, keep.shape}) > 1:
        raise CorrectionError(
            f"control {control.shape}, corrected {corrected.shape}, weights {share.shape} and mask {keep.shape} must have one shape"
        )
    if not (np.isfinite(share).all() and (share >= 0).all()):
        raise CorrectionError("weights of an audit are numbers of tokens: finite and not negative")
    keep = keep & (share > 0)
    x, y, w = control[keep], corrected[keep], share[keep]
    if not x.size:
        return Audit(None, None, None)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise CorrectionError("an unmasked advantage is not finite")
    difference = np.abs(y - x)
    norms = np.sqrt((w * x * x).sum()) * np.sqrt((w * y * y).sum())
    cosine = float(np.clip((w * x * y).sum() / norms, -1, 1)) if norms > 0 else None
    return Audit(float((w * difference).sum() / w.sum()), float(difference.max()), cosine)


def backward_process(
    step_rewards: Any,
    step_mask: Any,
    boundaries: Any,
    token_mask: Any,
    groups: Any,
    fpr: Any,
    fnr: Any,
    *,
    scale: Any = 1.0,
    baseline: Any = None,
    minimum_determinant: float = 0.0,
) -> Any:
    """PGBC with a verdict on each step: A[t] = sum over steps that end at t or later of (corrected reward - baseline) / scale (B.7).

    step_rewards, step_mask, boundaries: (rows, steps), padded; a boundary is the index of the step's last token, and padding is not read.
    token_mask: (rows, tokens); masked tokens read 0. Returns (rows, tokens), of the type of step_rewards. baseline: None is the mean of
    step j's corrected reward over the *other* rows of the group that have a step j (0 where there is none); or a historical one that
    broadcasts to (rows, steps). Averaged over the channel this is the same advantage of the true step rewards. As a policy gradient it
    is unbiased where every row has as many steps; where the policy chooses their number, a baseline per step also rewards or punishes
    that number.
    """
    values, exists, ends = _steps(step_rewards, step_mask, boundaries, token_mask)
    corrected = _backward(values, fpr, fnr, minimum_determinant)
    if baseline is None:
        ids = np.asarray(on_host(groups))
        if ids.shape != values.shape[:1]:
            raise CorrectionError(f"groups have shape {ids.shape}, expected {values.shape[:1]}: one id for each row of step rewards")
        group = np.unique(ids, return_inverse=True)[1].reshape(-1)
        group_and_step = group[:, None] * values.shape[1] + np.arange(values.shape[1])
        corrected[exists] = leave_one_out(corrected[exists], group_and_step[exists])
    else:
        corrected = corrected - _steps_like(baseline, values)
    return like(_to_go(corrected / _scale(scale, values), exists, ends, token_mask), step_rewards)


def forward_process(
    step_rewards: Any,
    step_mask: Any,
    boundaries: Any,
    token_mask: Any,
    fnr: Any,
    *,
    fpr: Any = 0.0,
    scale: Any | ForwardScale = 1.0,
    baseline: Any = 0.0,
    minimum_determinant: float = 0.0,
) -> Any:
    """PGFC with a verdict on each step: A[t] = sum over steps that end at t or later of (r - (1 - fnr) - baseline) / scale (B.7).

    Shapes as backward_process, scale and baseline as forward_advantages. The constant per step is free only where all rows have as many
    steps: over the channel a wrong step costs c / scale and a right one earns nothing, so a policy that chooses their number makes fewer.
    """
    values, exists, ends = _steps(step_rewards, step_mask, boundaries, token_mask)
    weights = _weights(values, fnr) - _steps_like(baseline, values)
    divisor = _forward_scale(scale, fpr, fnr, values, minimum_determinant)
    return like(_to_go(weights / divisor, exists, ends, token_mask), step_rewards)


def _backward(values: np.ndarray, fpr: Any, fnr: Any, minimum: float) -> np.ndarray:
    false_positive, _ = _rates(fpr, fnr)
    c, _ = determinant(fpr, fnr, minimum)
    return (values - _per_row(false_positive, values, "false-positive rates")) / _per_row(np.asarray(c), values, "rates")


def _weights(values: np.ndarray, fnr: Any) -> np.ndarray:
    _, false_negative = _rates(0.0, fnr)
    return values - (1 - _per_row(false_negative, values, "false-negative rates"))


def _forward_scale(scale: Any, fpr: Any, fnr: Any, values: np.ndarray, minimum: float) -> np.ndarray:
    if not isinstance(scale, str):
        return _scale(scale, values)
    if scale not in ("determinant", "one_minus_false_negative_rate"):
        raise CorrectionError(f"scale is {scale!r}, expected numbers, determinant or one_minus_false_negative_rate")
    c, _ = determinant(fpr if scale == "determinant" else 0.0, fnr, minimum)
    return _per_row(np.asarray(c), values, "rates")


def _leave_one_out(values: np.ndarray, groups: Any) -> np.ndarray:
    ids = np.asarray(on_host(groups))
    if ids.shape != values.shape:
        raise CorrectionError(f"rewards have shape {values.shape} and groups {ids.shape}; both must be (rows,)")
    return leave_one_out(values, ids)


def _rows(observed: Any) -> np.ndarray:
    values = array_of(observed)
    if values.ndim != 1:
        raise CorrectionError(f"rewards have shape {values.shape}, expected (rows,)")
    return values


def _rewards(observed: Any) -> np.ndarray:
    values = _rows(observed)
    _in_unit_interval(values, "reward")
    return values


def _in_unit_interval(values: np.ndarray, name: str) -> None:
    outside = ~((values >= 0) & (values <= 1))
    if outside.any():
        row = int(np.flatnonzero(outside.reshape(len(values), -1).any(1))[0])
        raise CorrectionError(
            f"row {row}: a {name} is {values[row][outside[row]].flat[0]}, expected a finite number in [0, 1]: corrections know what was "
            "observed right (1) or wrong (0); leave abstained rows out before"
        )


def _rates(fpr: Any, fnr: Any) -> tuple[np.ndarray, np.ndarray]:
    rates = array_of(fpr), array_of(fnr)
    for name, rate in zip(("false-positive", "false-negative"), rates, strict=True):
        outside = ~((rate >= 0) & (rate < 1))
        if rate.ndim > 1 or outside.any():
            found = f"of shape {rate.shape}" if rate.ndim > 1 else str(rate[outside].flat[0])
            raise CorrectionError(f"{name} rate is {found}, expected a number in [0, 1), or one for each row")
    if rates[0].ndim and rates[1].ndim and rates[0].shape != rates[1].shape:
        raise CorrectionError(f"{rates[0].size} false-positive and {rates[1].size} false-negative rates: give one of each for every row")
    return rates


def _finite(numbers: Any, name: str) -> np.ndarray:
    if isinstance(numbers, str) or not np.isfinite(array := array_of(numbers)).all():
        raise CorrectionError(f"{name} is {numbers!r}, expected finite numbers")
    return array


def _scale(scale: Any, values: np.ndarray) -> np.ndarray:
    numbers = _finite(scale, "scale")
    if (numbers <= 0).any():
        raise CorrectionError(f"scale is {numbers.min():g}, expected a number above 0, or one for each row")
    return _per_row(numbers, values, "scales")


def _per_row(numbers: np.ndarray, values: np.ndarray, name: str) -> np.ndarray:
    """A number, or one per row, shaped so that it broadcasts against (rows,) or (rows, steps)."""
    if numbers.ndim and numbers.shape != values.shape[:1]:
        raise CorrectionError(f"{name} have shape {numbers.shape}, expected one number, or one for each of the {len(values)} rows")
    return numbers.reshape(-1, *[1] * (values.ndim - 1)) if numbers.ndim else numbers


def _steps(rewards: Any, mask: Any, boundaries: Any, token_mask: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Step rewards with padding 0, which steps exist, and the last token of each."""
    values, exists, ends, tokens = array_of(rewards), array_of(mask).astype(bool), np.asarray(on_host(boundaries)), array_of(token_mask)
    if values.ndim != 2 or not values.shape == exists.shape == ends.shape:
        raise CorrectionError(f"step rewards {values.shape}, mask {exists.shape} and boundaries {ends.shape} must all be (rows, steps)")
    if tokens.ndim != 2 or len(tokens) != len(values):
        raise CorrectionError(f"the token mask has shape {tokens.shape}, expected ({len(values)}, tokens)")
    if not np.issubdtype(ends.dtype, np.integer):
        raise CorrectionError(f"boundaries are {ends.dtype}, expected whole numbers: token indexes")
    values, ends = np.where(exists, values, 0.0), np.where(exists, ends, 0)
    _in_unit_interval(values, "step reward")
    outside = exists & ((ends < 0) | (ends >= tokens.shape[1]))
    if outside.any():
        row, step = (int(index[0]) for index in np.nonzero(outside))
        raise CorrectionError(f"row {row}, step {step}: boundary {ends[row, step]} is outside its {tokens.shape[1]} tokens")
    return values, exists, ends


def _steps_like(baseline: Any, values: np.ndarray) -> np.ndarray:
    numbers = _finite(baseline, "baseline")
    try:
        return np.broadcast_to(numbers, values.shape)
    except ValueError as error:
        raise CorrectionError(f"baseline: {error}; expected a number, (steps,), (rows, 1) or (rows, steps)") from error


def _to_go(step_values: np.ndarray, exists: np.ndarray, ends: np.ndarray, token_mask: Any) -> np.ndarray:
    """Sum, at each unmasked token, of the values of the steps that end there or later."""
    keep = array_of(token_mask).astype(bool)
    earned = np.zeros(keep.shape)
    np.add.at(earned, (np.nonzero(exists)[0], ends[exists]), step_values[exists])
    return np.where(keep, np.cumsum(earned[:, ::-1], axis=1)[:, ::-1], 0.0)
