"""Memory of a card that an engine and a trainer in one process use in turns (fused rounds): what fits, before it runs out.

While the engine samples, the trainer keeps its weights and optimizer; while the trainer updates, the engine sleeps, and takes its weights
and its cache back afterwards, all or nothing. Arithmetic alone, and the two calls of CUDA that it needs.
"""

import math

from assay.engines.base import EngineMistake

SHARE = 0.85
"""Of a card that nobody else uses."""
BESIDE = 4 * 2**30
"""Bytes that are neither the engine's to take back nor the trainer's state: CUDA's context, kernels and graphs of engines that sleep,
fragments. An estimate: this project has not run on a GPU."""
SLACK = 2**29
"""Bytes by which a proposed share is on the safe side."""
GIB = 2**30
ELSEWHERE = (
    "let vLLM serve on another card and set sampling.engine.type: server, train with training.lora, or use the staged pipeline (dvc.yaml), "
    "whose sampler and trainer have the card one after the other"
)


def shared_part(total: int, kept: int, weights: int, engines: int = 1) -> float:
    """Share of a card of `total` bytes for each of `engines` beside a trainer that keeps `kept` bytes of it; at most SHARE, in hundredths.

    weights: bytes of the policy in its engine. Raises EngineMistake where no share holds these.
    """
    share = _floor(min(SHARE, 1 - (kept + BESIDE) / total) / engines)
    if share * total < weights + BESIDE:
        raise EngineMistake(
            f"fused rounds do not fit on a card of {total / GIB:.1f} GiB: the trainer keeps {kept / GIB:.1f} GiB while vLLM samples, whose "
            f"weights are {weights / GIB:.1f} GiB; {ELSEWHERE}"
        )
    return share


def check_room(share: float, total: int, free: int, lent: int, weights: int) -> None:
    """Raises EngineMistake where an engine that was opened with `share` of `total` bytes cannot take back the `lent` bytes it gave, as only
    `free` are free. Names the share with which it could."""
    if lent <= free:
        return
    fits = _floor(share - (lent - free + SLACK) / total)
    what = (
        f"vLLM cannot take back the {lent / GIB:.1f} GiB that it lent to the trainer: {free / GIB:.1f} of the card's {total / GIB:.1f} "
        f"GiB are free, beside the trainer's weights and optimizer"
    )
    if fits * total < weights + BESIDE:
        raise EngineMistake(f"{what}, and no lower execution.gpu_memory_share (now {share:g}) would hold the policy; {ELSEWHERE}")
    raise EngineMistake(
        f"{what}; set execution.gpu_memory_share to {fits:g} (now {share:g}) and run again: rounds up to the last whole state are kept"
    )


def free_and_total() -> tuple[int, int]:
    """Bytes of this process's card, once torch has given back what it holds without need."""
    import torch

    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info()


def weight_bytes(parameters: int, dtype: str) -> int:
    """Bytes that the weights take in this type."""
    return parameters * (4 if dtype in ("float32", "float") else 2)


def _floor(share: float) -> float:
    return math.floor(share * 100 + 1e-9) / 100
