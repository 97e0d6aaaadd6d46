"""vLLM inside the stage's own process: no worker processes to start, deterministic scheduling, weights swapped in
place.

What is reproducible. On a CPU, equal requests in an equal order give equal bits, in this process or another; the same
rows in other batches differ in the last float digits (which is why a shard is sampled whole). Each request has its own
seed. Prefix caching is off unless asked for, and is emptied before every batch, so no batch depends on what was sampled
before it. On a GPU, bits also depend on the card, on vLLM's kernels and on how much memory its cache was given.

vLLM seeds Python's, NumPy's and torch's global generators when it starts and draws from torch's while it samples; both
are put back here, so that a trainer in the same process (fused rounds) is not disturbed.
"""

import contextlib
import logging
import os
import random
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

from assay.engines import device_memory
from assay.engines.base import Completion, EngineError, EngineMistake, Progress, Request, check_requests
from assay.engines.folder import check_length, check_same_shape, parameter_count, read_shape
from assay.params.execution import ExecutionParams
from assay.params.sampling import VllmEngine

CPU_BLOCK = 32
"""Tokens in one block of the key-value cache: vLLM's CPU default of 128 wastes most of the cache on short completions.
"""
CPU_SEQUENCES = 1024
"""Sequences that are sampled at once. Part of the result, so no execution setting; sampling.engine.arguments can change
it.
"""
BATCHED_TOKENS = 8192
"""Prompt tokens that enter one step. Part of the result, likewise."""

_ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
_QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "TORCH_CPP_LOG_LEVEL": "ERROR"}  # a value that the user has set stays
_OWNED = (
    "model",
    "dtype",
    "logprobs_mode",
    "skip_tokenizer_init",
    "max_model_len",
    "kv_cache_memory_bytes",
    "distributed_executor_backend",
)


_OPEN: WeakSet["VllmInProcess"] = WeakSet()
_CLOSED: list[Any] = []
"""Engines of this process. An engine that shuts down takes vLLM's process groups with it, which are shared by all (a judge may stand
beside a policy): so all are shut down with the last. One that was lost without being closed is open no longer."""


class VllmInProcess:
    """Engine protocol over `vllm.LLM`."""

    name = "vllm"

    def __init__(
        self,
        params: VllmEngine,
        policy: Path,
        *,
        stop_ids: tuple[int, ...],
        dtype: str,
        max_model_tokens: int,
        execution: ExecutionParams,
        shares_device: bool = False,
    ) -> None:
        """Import vLLM (12 to 20 s), load the policy and reserve the key-value cache (5 to 7 s). Raises EngineError."""
        self._shape = read_shape(policy)
        check_length(self._shape.config, policy, max_model_tokens)
        self._stop_ids, self._max_model_tokens, self._execution = list(stop_ids), max_model_tokens, execution
        os.environ.update(_ENVIRONMENT)
        for key, value in _QUIET.items():
            os.environ.setdefault(key, value)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import vllm
        except ImportError as error:
            raise EngineMistake(
                f"sampling.engine.type is vllm, but vLLM cannot be imported ({error}): install requirements/cpu.txt or "
                "requirements/gpu.txt, or set sampling.engine.type to transformers"
            ) from error
        self.version: str = vllm.__version__
        self._vllm = vllm
        import torch

        self._on_gpu = bool(torch.cuda.is_available())
        arguments = engine_arguments(params, policy, dtype, max_model_tokens, execution, self._on_gpu)
        # Sleep mode has its own allocator, which costs something where nobody else wants the memory.
        self._sleeps, self._asleep, self._lent = self._on_gpu and shares_device, False, 0
        self._weights = device_memory.weight_bytes(parameter_count(policy), dtype)
        if self._sleeps:
            arguments |= {"enable_sleep_mode": True}
        try:
            with _undisturbed(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._llm: Any = vllm.LLM(**arguments)
        except Exception as error:  # vLLM raises anything, from TypeError to RuntimeError
            raise EngineError(_start_failure(error, policy, params, execution, self._on_gpu)) from error
        _OPEN.add(self)

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Completion]:
        check_requests(requests, self._max_model_tokens)
        if not requests:
            return []
        if not self._on_gpu:
            self._check_capacity(requests)
        # Whatever an earlier batch left in the prefix cache would change which kernels this one runs through.
        self._llm.reset_prefix_cache()
        with _undisturbed():
            ids = self._llm.enqueue(
                [{"prompt_token_ids": list(request.prompt_ids)} for request in requests],
                [self._sampling(request) for request in requests],
                use_tqdm=False,
            )
            outputs: list[Any] = []
            engine = self._llm.llm_engine
            try:
                while engine.has_unfinished_requests():
                    done = [output for output in engine.step() if output.finished]
                    outputs += done
                    if progress and done:
                        progress(len(done), sum(len(output.outputs[0].token_ids) for output in done))
            except BaseException:
                engine.abort_request(ids, internal=True)  # an engine that is used again must be idle
                raise
        if len(outputs) != len(requests):
            raise EngineError(
                f"vLLM answered {len(outputs)} of {len(requests)} requests; run again, and report it if it stays so"
            )
        outputs.sort(key=lambda output: int(output.request_id))  # vLLM counts requests as they come
        return [_completion(output.outputs[0], output.request_id) for output in outputs]

    def load_policy(self, folder: Path) -> None:
        check_same_shape(self._shape, folder)
        try:
            self._llm.collective_rpc("reload_weights", kwargs={"weights_path": str(folder.resolve())})
        except Exception as error:
            raise EngineError(
                f"{folder}: vLLM could not load these weights in place ({error}); the engine must be opened anew"
            ) from error
        if not self._on_gpu:
            self._llm.apply_model(_repack_embeddings)
        self._llm.reset_prefix_cache()

    def pause(self) -> None:
        if self._sleeps and not self._asleep:
            before, _ = device_memory.free_and_total()
            self._llm.sleep(level=1)
            self._lent = device_memory.free_and_total()[0] - before
            self._asleep = True

    def resume(self) -> None:
        if not self._asleep:
            return
        share = share_of(self._execution)
        free, total = device_memory.free_and_total()
        device_memory.check_room(share, total, free, self._lent, self._weights)
        try:
            self._llm.wake_up()
        except Exception as error:  # of torch, or a RuntimeError of vLLM's own allocator
            raise EngineError(
                f"vLLM could not take its memory back ({type(error).__name__}: {error}): {free / 2**30:.1f} GiB were free, "
                f"{self._lent / 2**30:.1f} GiB lent; lower execution.gpu_memory_share (now {share:g}), or end what else runs on the card"
            ) from error
        self._asleep = False

    def close(self) -> None:
        llm, self._llm = getattr(self, "_llm", None), None
        if llm is None:
            return
        _OPEN.discard(self)
        _CLOSED.append(llm)
        del llm
        if _OPEN:
            return
        import gc

        from vllm.distributed import cleanup_dist_env_and_memory

        while _CLOSED:
            _CLOSED.pop().llm_engine.engine_core.shutdown()
        gc.collect()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cleanup_dist_env_and_memory()

    def _sampling(self, request: Request) -> Any:
        return self._vllm.SamplingParams(
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=request.max_tokens,
            seed=request.seed if request.temperature > 0 else None,
            # Only the sampled token's log-probability, in flat lists: objects per token cost more than sampling.
            logprobs=0,
            flat_logprobs=True,
            # Exactly the given end tokens: vLLM would add those that it finds in the folder.
            ignore_eos=True,
            stop_token_ids=self._stop_ids,
            detokenize=False,
            # These parameters are made for this request alone; vLLM's deep copy of them would take a tenth of the time.
            skip_clone=True,
        )

    def _check_capacity(self, requests: Sequence[Request]) -> None:
        """On a CPU, every sequence that runs at once must fit: vLLM would preempt and recompute, and bits would depend
        on memory.
        """
        config = self._llm.llm_engine.vllm_config
        block, blocks = config.cache_config.block_size, config.cache_config.num_gpu_blocks
        lengths = sorted((len(r.prompt_ids) + r.max_tokens for r in requests), reverse=True)[
            : config.scheduler_config.max_num_seqs
        ]
        needed = sum(-(-length // block) for length in lengths) + 1  # vLLM keeps one block for itself
        if needed > blocks:
            gib = self._execution.vllm_memory_gib * needed / blocks
            raise EngineMistake(
                f"execution.vllm_memory_gib is {self._execution.vllm_memory_gib:g}, but {len(lengths)} sequences of up "
                f"to {lengths[0]} tokens at once "
                f"need {gib:.2f} GiB: raise it to {gib * 1.02 + 0.01:.2f}, or set max_num_seqs in "
                f"sampling.engine.arguments below {len(lengths)}"
            )


def _repack_embeddings(model: Any) -> None:
    """vLLM's CPU layers multiply by a packed copy of their weights. Loading in place packs linear layers anew, but not an output layer
    that shares its weights with the embedding, which would go on with the old ones (vLLM 0.25)."""
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    for module in model.modules():
        if isinstance(module, VocabParallelEmbedding):
            module.quant_method.process_weights_after_loading(module)


def engine_arguments(
    params: VllmEngine, policy: Path, dtype: str, max_model_tokens: int, execution: ExecutionParams, on_gpu: bool
) -> dict[str, Any]:
    """Arguments of `vllm.LLM`; those of `params.arguments` win, except the ones that the record rests on. Raises
    EngineError.
    """
    owned = sorted(set(params.arguments) & set(_OWNED))
    if owned:
        raise EngineMistake(
            f"sampling.engine.arguments.{owned[0]}: set by Assay from other parameters and cannot be given here; "
            "remove it"
        )
    arguments: dict[str, Any] = {
        "model": str(policy.resolve()),
        "dtype": dtype,
        "seed": 0,
        "skip_tokenizer_init": True,
        "generation_config": "vllm",
        "max_model_len": max_model_tokens,
        "logprobs_mode": "processed_logprobs",
        "enable_prefix_caching": False,
        "max_num_seqs": CPU_SEQUENCES,
        "max_num_batched_tokens": max(BATCHED_TOKENS, max_model_tokens, CPU_SEQUENCES),
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if on_gpu:
        arguments |= {"gpu_memory_utilization": share_of(execution)}
    else:
        arguments |= {
            "distributed_executor_backend": "uni",
            "enforce_eager": True,
            # With chunked prefill, per-request seeds crash on a CPU ("CPU Generator does not use offset").
            "enable_chunked_prefill": False,
            "block_size": CPU_BLOCK,
            "kv_cache_memory_bytes": int(execution.vllm_memory_gib * 2**30),
        }
    return arguments | dict(params.arguments)


def share_of(execution: ExecutionParams) -> float:
    """Of the card's memory, as the parameters say or as it is where vLLM has the card alone."""
    return device_memory.SHARE if execution.gpu_memory_share is None else execution.gpu_memory_share


def _completion(output: Any, request_id: str) -> Completion:
    ids, logprobs = tuple(output.token_ids), tuple(output.logprobs.logprobs)
    if len(ids) != len(logprobs) or output.finish_reason not in ("stop", "length"):
        raise EngineError(
            f"request {request_id}: vLLM gave {len(ids)} tokens, {len(logprobs)} log-probabilities and finish reason "
            f"{output.finish_reason!r}; "
            "this version of vLLM does not behave as the pinned one"
        )
    return Completion(ids, logprobs, output.finish_reason)


def _start_failure(error: Exception, policy: Path, params: VllmEngine, execution: ExecutionParams, on_gpu: bool) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    reason = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
    if params.arguments:
        reason += f"; sampling.engine.arguments are {params.arguments}"
    if on_gpu:
        hint = "if memory is short, lower execution.gpu_memory_share or end what else runs on the device"
    else:
        hint = f"if memory is short, lower execution.vllm_memory_gib (now {execution.vllm_memory_gib:g})"
    return (
        f"{policy}: vLLM could not start with this policy ({reason}); {hint}; "
        "sampling.engine.type transformers loads what vLLM does not know"
    )


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Put back what vLLM changes of the whole process: global random states, torch.set_num_threads, the level of
    loggers.
    """
    import numpy
    import torch

    states = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    on_devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    set_num_threads = torch.set_num_threads  # replaced by a warning on a CPU, for ever
    level = logging.root.level
    try:
        yield
    finally:
        random.setstate(states[0])
        numpy.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if on_devices:
            torch.cuda.set_rng_state_all(on_devices)
        torch.set_num_threads = set_num_threads
        logging.root.setLevel(level)
