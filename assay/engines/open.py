"""From parameters to a running engine."""

from pathlib import Path

from assay.engines.base import Engine, EngineMistake
from assay.params.execution import ExecutionParams
from assay.params.sampling import EngineParams, ServerEngine, TransformersEngine, VllmEngine


def open_engine(
    params: EngineParams,
    policy: Path,
    *,
    stop_ids: tuple[int, ...],
    dtype: str,
    max_model_tokens: int,
    execution: ExecutionParams,
    shares_device: bool = False,
) -> Engine:
    """Start the engine that `params.type` names with the policy in the folder `policy`.

    `stop_ids`: tokens that end a completion, all of them and no others. `dtype`: of the weights while sampling.
    `max_model_tokens`: longest prompt and completion together. Takes about 20 s for vLLM (import and start).
    `shares_device`: a trainer in this process wants the device's memory between batches (`Engine.pause`).
    Raises EngineError.
    """
    if not stop_ids:
        raise EngineMistake(
            "no end token is known: every completion would run to max_tokens; name one in policy.stop_tokens"
        )
    if isinstance(params, VllmEngine):
        from assay.engines.vllm_engine import VllmInProcess

        return VllmInProcess(
            params, policy, stop_ids=stop_ids, dtype=dtype, max_model_tokens=max_model_tokens, execution=execution,
            shares_device=shares_device,
        )  # fmt: skip
    if isinstance(params, TransformersEngine):
        from assay.engines.transformers_engine import TransformersSampler

        return TransformersSampler(params, policy, stop_ids=stop_ids, dtype=dtype, max_model_tokens=max_model_tokens)
    if isinstance(params, ServerEngine):
        from assay.engines.server_engine import ServerClient

        return ServerClient(params, execution.server, policy, stop_ids=stop_ids, max_model_tokens=max_model_tokens)
    raise TypeError(f"no engine for parameters of type {type(params).__name__}")
