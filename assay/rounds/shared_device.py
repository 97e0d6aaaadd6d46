"""How much of a card the sampler of fused rounds may take, beside the trainer in the same process."""

from pathlib import Path

from assay.engines import device_memory
from assay.engines.folder import parameter_count
from assay.params import Params
from assay.params.execution import ExecutionParams
from assay.params.noise import LocalJudge
from assay.params.sampling import VllmEngine

TRAINED, FROZEN = 12, 4
"""Bytes that a trainer keeps for a parameter between two updates: float32 weights, and Adam's two moments of them."""


def kept_by_trainer(parameters: int, params: Params) -> int:
    """Bytes of a policy of so many parameters in training, and of its critic. Of adapters a few hundredths more are not counted."""
    each = FROZEN if params.training.lora is not None else TRAINED
    return parameters * (each + (TRAINED if params.training.critic is not None else 0))


def beside_trainer(execution: ExecutionParams, policy: Path, params: Params, total: int | None) -> ExecutionParams:
    """The same with the share of a card of `total` bytes that fits beside the trainer, where none is given; None: there is no card.

    Raises EngineMistake where none fits.
    """
    appeals = params.verification.appeals
    judge = appeals.judge if appeals.enabled and isinstance(appeals.judge, LocalJudge) else None
    samples = isinstance(params.sampling.engine, VllmEngine)
    # A judge in this process is an engine too, and has the same share.
    engines = samples + (judge is not None)
    if total is None or execution.gpu_memory_share is not None or not engines:
        return execution
    parameters = parameter_count(policy)
    weights = device_memory.weight_bytes(parameters, params.policy.dtype) if samples else 0
    if judge is not None and Path(judge.model).is_dir():  # a hub name's size is not known here
        weights = max(weights, device_memory.weight_bytes(parameter_count(Path(judge.model)), judge.dtype))
    share = device_memory.shared_part(total, kept_by_trainer(parameters, params), weights, engines)
    return execution.model_copy(update={"gpu_memory_share": share})


def card_bytes() -> int | None:
    """Memory of this process's card; None where there is none."""
    import torch

    return device_memory.free_and_total()[1] if torch.cuda.is_available() else None
