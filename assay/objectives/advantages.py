"""Advantages from rewards: group estimators, REINFORCE++ whitening, and generalized advantages over a critic's values.

Rewards bear no gradient, so all of this is arithmetic in float64 on the CPU, the same for NumPy arrays and torch
tensors: a result has the type, the device and the floating-point type of the rewards that were given. Rows that a
verifier abstained on have no reward: leave them out before (a NaN is an error). Groups are given by ids of any kind, in
any order and of any size.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.objectives.arrays import array_of, like, on_host


class AdvantageError(ValueError):
    """Rewards, groups or masks from which no advantage can be computed."""


def group_zscore(rewards: Any, groups: Any, *, epsilon: float = 1e-6, divide_by_std: bool = True) -> Any:
    """GRPO: A = (r - mean of the group) / (standard deviation of the group + epsilon), unbiased deviation (n - 1).

    rewards: (rows,). groups: (rows,) ids. Returns (rows,). A group whose rewards are all equal gives exactly 0. A group
    of one has mean 0 and deviation 1, so A = r / (1 + epsilon). `divide_by_std=False` is Dr. GRPO: nothing is divided.
    Sources: DeepSeekMath (arXiv 2402.03300) eq. 4; "Understanding R1-Zero-like Training" (arXiv 2503.20783) for Dr.
    GRPO. Raises AdvantageError for shapes that do not fit or rewards that are not finite.
    """
    values, inverse, first = _grouped(rewards, groups)
    count, centred = _centred(values, inverse, first)
    alone = count[inverse] == 1
    advantages = np.where(alone, values, centred)
    if divide_by_std:
        variance = np.bincount(inverse, weights=centred**2) / np.maximum(count - 1, 1)
        deviation = np.where(alone, 1.0, np.sqrt(variance)[inverse])
        scale = deviation + epsilon
        # With epsilon 0 an all-equal group would be 0 / 0; its advantage is 0 all the same.
        advantages = advantages / np.where(scale > 0, scale, 1.0)
    return like(advantages, rewards)


def leave_one_out(rewards: Any, groups: Any) -> Any:
    """RLOO: A = r minus the mean of the *other* rewards of the group. An unbiased baseline, unlike the group mean.

    rewards: (rows,). groups: (rows,) ids. Returns (rows,). A group whose rewards are all equal gives exactly 0; a group
    of one has no others, its baseline is 0. Source: "Back to Basics" (arXiv 2402.14740). Raises AdvantageError as
    group_zscore.
    """
    values, inverse, first = _grouped(rewards, groups)
    count, centred = _centred(values, inverse, first)
    size = count[inverse]
    return like(np.where(size == 1, values, centred * size / np.maximum(size - 1, 1)), rewards)


def returns_to_go(rewards: Any, mask: Any, gamma: float = 1.0, *, offsets: np.ndarray | None = None) -> Any:
    """G[t] = r[t] + gamma G[t+1] over the unmasked tokens of each row.

    rewards: (rows, tokens), what is earned at a token; or (values,) of rows of different lengths one after the other, with offsets
    (rows + 1,) as of `Ragged`. mask: the same shape, true on tokens that the policy sampled. Masked tokens (padding, tool output) earn
    nothing, take no discount, and read 0; the return passes over them.
    """
    tokens = _Tokens.of(mask, offsets)
    return like(tokens.back(tokens.discounted(tokens.flat(rewards), gamma)), rewards)


def whiten(values: Any, mask: Any, *, epsilon: float = 1e-8) -> Any:
    """(x - mean) / sqrt(variance + epsilon) over all unmasked entries at once, unbiased variance; masked entries become
    0.

    values, mask: the same shape. Raises AdvantageError where fewer than two entries are unmasked: there is no variance.
    """
    array, keep = array_of(values), np.asarray(on_host(mask)).astype(bool, copy=False)
    _same_shape(array, keep)
    chosen = array[keep]
    if chosen.size < 2:
        raise AdvantageError(
            f"whitening needs at least 2 unmasked tokens, found {chosen.size}: sample more rows, or use a group "
            "estimator"
        )
    if not np.isfinite(chosen).all():
        raise AdvantageError("whitening: a value is not finite")
    out = np.zeros_like(array)
    out[keep] = (chosen - chosen.mean()) / np.sqrt(chosen.var(ddof=1) + epsilon)
    return like(out, values)


def reinforce_plus_plus(rewards: Any, mask: Any, *, gamma: float = 1.0, offsets: np.ndarray | None = None) -> Any:
    """REINFORCE++: returns-to-go, whitened over all unmasked tokens of the batch. No group baseline, no critic.

    rewards: (rows, tokens), or (values,) with offsets; an outcome reward stands at the last unmasked token. mask: the same shape. Returns
    the same shape. Source: REINFORCE++ (arXiv 2501.03262). Raises AdvantageError where fewer than two tokens are unmasked.
    """
    return whiten(returns_to_go(rewards, mask, gamma, offsets=offsets), mask)


def generalized_advantage(
    rewards: Any, values: Any, mask: Any, *, gamma: float = 1.0, lam: float = 1.0, offsets: np.ndarray | None = None
) -> tuple[Any, Any]:
    """GAE: delta[t] = r[t] + gamma V[t+1] - V[t], A[t] = delta[t] + gamma lam A[t+1]; and the returns A + V, a critic's targets.

    rewards, values, mask: (rows, tokens), or (values,) with offsets; V[t] is the critic's value before token t is sampled. Returns
    (advantages, returns) of that shape, neither whitened: PPO whitens the advantages over the batch (`whiten`), never the returns.
    Masked tokens are passed over as in returns_to_go, so V[t+1] is the value of the next *unmasked* token; after a row's last one it is 0,
    also where the row was cut at max_tokens. With gamma = lam = 1 this is returns_to_go - V. Source: arXiv 1506.02438 eq. 11, 16. Raises
    AdvantageError for shapes that differ, a rate outside [0, 1], or an unmasked reward or value that is not finite.
    """
    tokens = _Tokens.of(mask, offsets)
    earned, worth = tokens.flat(rewards), tokens.flat(values)
    for name, rate in (("gamma", gamma), ("lam", lam)):
        if not 0 <= rate <= 1:
            raise AdvantageError(f"{name} is {rate}, expected a number from 0 to 1")
    for name, array in (("reward", earned), ("value", worth)):
        if not np.isfinite(array).all():
            raise AdvantageError(f"generalized advantage: an unmasked {name} is not finite")
    following = np.append(worth[1:], 0.0) if worth.size else worth
    following[tokens.bounds[1:][tokens.counts > 0] - 1] = 0.0
    found = tokens.discounted(earned + gamma * following - worth, gamma * lam)
    return like(tokens.back(found), rewards), like(tokens.back(found + worth), rewards)


def token_rewards(outcomes: Any, mask: Any, *, steps: Any = None, penalties: Any = None, offsets: np.ndarray | None = None) -> Any:
    """What each token earns: the outcome at a row's last unmasked token, plus rewards of steps, minus penalties of every unmasked token.

    outcomes: (rows,). mask, steps, penalties: (rows, tokens), or (values,) with offsets. Returns that shape, 0 where masked; a row without
    an unmasked token earns nothing. penalties: for a KL penalty within the reward, beta (log pi_old - log pi_reference), the k1 estimator
    (RISE). Raises AdvantageError for shapes that do not fit and for what is not finite.
    """
    tokens, values = _Tokens.of(mask, offsets), array_of(outcomes)
    if values.shape != tokens.counts.shape:
        raise AdvantageError(f"outcomes have shape {values.shape}, there are {len(tokens.counts)} rows: expected one outcome for each row")
    out = np.zeros(len(tokens.index))
    for sign, part in ((1.0, steps), (-1.0, penalties)):
        if part is not None:
            out = out + sign * tokens.flat(part)
    rows = np.flatnonzero(tokens.counts)
    out[tokens.bounds[1:][rows] - 1] += values[rows]
    if not np.isfinite(out).all():
        row = int(np.searchsorted(tokens.bounds, np.flatnonzero(~np.isfinite(out))[0], side="right")) - 1
        raise AdvantageError(f"row {row}: a token's reward is not finite")
    return like(tokens.back(out), outcomes)


@dataclass(frozen=True)
class _Tokens:
    """The unmasked tokens of all rows, one after the other: padding, which of long rows would be most of a matrix, is never computed."""

    shape: tuple[int, ...]
    """Of mask, rewards, values."""
    index: np.ndarray
    """(n,) of the unmasked tokens among all, in their order."""
    bounds: np.ndarray
    """(rows + 1,) where each row's unmasked tokens begin and end."""

    @staticmethod
    def of(mask: Any, offsets: np.ndarray | None) -> "_Tokens":
        keep = np.asarray(on_host(mask)).astype(bool, copy=False)
        if offsets is None:
            offsets = np.arange(len(keep) + 1) * (keep.size // max(len(keep), 1))
        elif keep.shape != (offsets[-1],):
            raise AdvantageError(f"the mask has shape {keep.shape} and its rows {offsets[-1]} tokens; they must be equal")
        index = np.flatnonzero(keep.reshape(-1))
        return _Tokens(keep.shape, index, np.searchsorted(index, offsets))

    @property
    def counts(self) -> np.ndarray:
        """(rows,) how many there are of each."""
        return np.diff(self.bounds)

    def flat(self, values: Any) -> np.ndarray:
        """(n,) those of an array like the mask, in float64."""
        array = np.asarray(on_host(values))
        if array.shape != self.shape:
            raise AdvantageError(f"values have shape {array.shape} and mask {self.shape}; they must be equal")
        return array.reshape(-1)[self.index].astype(np.float64)

    def back(self, values: np.ndarray) -> np.ndarray:
        """An array like the mask, 0 where masked."""
        out = np.zeros(self.shape)
        out.reshape(-1)[self.index] = values
        return out

    def discounted(self, values: np.ndarray, factor: float) -> np.ndarray:
        """(n,) s[t] = x[t] + factor s[t+1] within each row: all rows that are long enough at once, from their ends."""
        out = values.copy()
        order = np.argsort(-self.counts, kind="stable")
        ends, lengths = self.bounds[1:][order], self.counts[order]
        longest = int(lengths.max(initial=0))
        running = np.searchsorted(-lengths, -np.arange(longest))  # rows with more tokens than that
        for distance in range(1, longest):
            at = ends[: running[distance]] - 1 - distance
            out[at] += factor * out[at + 1]
        return out


def _grouped(rewards: Any, groups: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rewards in float64, the index of each row's group, and the first row of each group."""
    values, ids = array_of(rewards), np.asarray(on_host(groups))
    if values.ndim != 1 or values.shape != ids.shape:
        raise AdvantageError(f"rewards have shape {values.shape} and groups {ids.shape}; both must be (rows,)")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise AdvantageError(f"row {row}: reward {values[row]} is not finite; leave abstained rows out before")
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    return values, inverse.reshape(-1), first


def _centred(values: np.ndarray, inverse: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sizes of the groups, and rewards minus their group's mean: exactly 0 in a group of equal rewards."""
    # Relative to the group's first reward, equal rewards are exact zeros, whatever their binary fractions sum to.
    shifted = values - values[first][inverse]
    count = np.bincount(inverse, minlength=len(first))
    mean = np.bincount(inverse, weights=shifted, minlength=len(first)) / np.maximum(count, 1)
    return count, shifted - mean[inverse]


def _same_shape(values: np.ndarray, mask: np.ndarray) -> None:
    if values.shape != mask.shape:
        raise AdvantageError(f"values have shape {values.shape} and mask {mask.shape}; they must be equal")
