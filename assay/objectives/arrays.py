"""Arrays in and out: functions that compute in NumPy take tensors too, and answer as they were asked."""

from typing import Any

import numpy as np


def on_host(value: Any) -> Any:
    """A torch tensor as an array, without its gradient; anything else as it is."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def array_of(value: Any) -> np.ndarray:
    """Numbers of any kind in float64, on the CPU."""
    return np.asarray(on_host(value), dtype=np.float64)


def like(result: np.ndarray, original: Any) -> Any:
    """The result as the original is: a torch tensor of its device and type, or an array of its type."""
    if hasattr(original, "new_tensor"):
        floating = original.dtype.is_floating_point
        return original.new_tensor(result) if floating else original.new_tensor(result, dtype=original.float().dtype)
    dtype = getattr(original, "dtype", None)
    return result.astype(dtype) if dtype is not None and np.issubdtype(dtype, np.floating) else result
