"""Which tokens of a batch are extreme: by quantile or by count. The scope is what is handed in: a statistic of the whole
generation batch needs the values of the whole generation batch, gathered before."""

import math

import torch


class SelectionError(ValueError):
    """A fraction outside (0, 1], values that are not finite, or shapes that do not fit."""


def check_fraction(fraction: float, name: str = "fraction") -> None:
    """Raises SelectionError for a fraction outside (0, 1]."""
    if not 0 < fraction <= 1:
        raise SelectionError(f"{name} is {fraction:g}, expected above 0 and at most 1")


def valid(values: torch.Tensor, mask: torch.Tensor, name: str) -> torch.Tensor:
    """The unmasked values, flat and detached. Raises SelectionError where one is not finite, or for unequal shapes."""
    if values.shape != mask.shape:
        raise SelectionError(f"{name} has shape {tuple(values.shape)} and mask {tuple(mask.shape)}; they must be equal")
    chosen = values.detach()[mask.bool()]
    if not torch.isfinite(chosen).all():
        raise SelectionError(f"{name}: an unmasked value is not finite; did the forward pass overflow?")
    return chosen


def quantile(values: torch.Tensor, level: float) -> float:
    """The quantile of (n,) values, n >= 1, interpolated linearly as torch.quantile does, which refuses above 2^24 values.

    A rank that is whole but for rounding, as 0.7 x 10, is that whole number: else the quantile would lie a hair above a
    value, and `>=` would lose it.
    """
    ordered = values.sort().values
    rank = level * (ordered.numel() - 1)
    if math.isclose(rank, round(rank), rel_tol=1e-9, abs_tol=1e-9):
        return float(ordered[round(rank)])
    low, high = float(ordered[math.floor(rank)]), float(ordered[math.ceil(rank)])
    return low + (rank - math.floor(rank)) * (high - low)


def share(fraction: float, number: int) -> int:
    """int(fraction x number), safe against rounding; at least 1 where there are any."""
    return min(number, max(1, int(fraction * number + 1e-9)))


def extreme(values: torch.Tensor, mask: torch.Tensor, number: int, *, largest: bool) -> torch.Tensor:
    """Mask of the `number` largest (or smallest) unmasked values; among equal ones the first in row-major order."""
    places = mask.flatten().nonzero().squeeze(-1)
    order = values.detach().flatten()[places].sort(descending=largest, stable=True).indices
    chosen = torch.zeros(mask.numel(), dtype=torch.bool, device=mask.device)
    chosen[places[order[:number]]] = True
    return chosen.reshape(mask.shape)
