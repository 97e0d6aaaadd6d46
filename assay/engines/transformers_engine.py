"""Plain transformers: slow, everywhere, the reference that other engines are compared with.

What is reproducible. A row's randomness depends on its own seed alone: token t of a row takes the t-th uniform number
of a generator with that seed, and the inverse of the cumulative distribution. The distribution itself depends on the
rest of the batch in its last float digits (padding and matrix shapes), so a row sampled in another batch is the same
row except where such a digit decides. Equal requests in an equal order with an equal batch size give equal bits on one
machine.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from assay.engines.base import Completion, EngineMistake, Progress, Request, check_requests
from assay.engines.folder import check_length, check_same_shape, read_shape
from assay.params.sampling import TransformersEngine

COMPACT_BELOW = 0.75
"""Finished rows are dropped from the batch once fewer than this share still run: dropping copies the cache."""


class TransformersSampler:
    """Engine protocol over a causal language model of transformers."""

    name = "transformers"

    def __init__(
        self, params: TransformersEngine, policy: Path, *, stop_ids: tuple[int, ...], dtype: str, max_model_tokens: int
    ) -> None:
        """Load the policy. Raises EngineError."""
        self._shape = read_shape(policy)
        check_length(self._shape.config, policy, max_model_tokens)
        import torch
        import transformers

        self.version: str = transformers.__version__
        self._batch_size, self._max_model_tokens = params.batch_size, max_model_tokens
        self._device = torch.device(params.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise EngineMistake(
                f"sampling.engine.device is {params.device!r}, but torch sees no CUDA device; set it to cpu, or null"
            )
        self._dtype = getattr(torch, dtype)
        self._stop = torch.tensor(stop_ids, device=self._device)
        self._model: Any = self._load(policy)

    @classmethod
    def around(
        cls, model: Any, *, stop_ids: tuple[int, ...], max_model_tokens: int, batch_size: int = 256
    ) -> "TransformersSampler":
        """The same sampler around a model in memory, which training owns; `load_policy` is not for it."""
        import torch
        import transformers

        sampler = cls.__new__(cls)
        sampler.version = transformers.__version__
        sampler._batch_size, sampler._max_model_tokens = batch_size, max_model_tokens
        sampler._device, sampler._dtype, sampler._model = model.device, model.dtype, model
        sampler._stop = torch.tensor(stop_ids, device=model.device)
        return sampler

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Completion]:
        check_requests(requests, self._max_model_tokens)
        # Prompts of one length beside each other: less padding. The sort is stable: batches depend on requests alone.
        order = sorted(range(len(requests)), key=lambda position: len(requests[position].prompt_ids))
        completions: dict[int, Completion] = {}
        for start in range(0, len(order), self._batch_size):
            positions = order[start : start + self._batch_size]
            sampled = self._generate_batch([requests[position] for position in positions])
            completions |= dict(zip(positions, sampled, strict=True))
            if progress:
                progress(len(sampled), sum(len(completion.ids) for completion in sampled))
        return [completions[position] for position in range(len(requests))]

    def load_policy(self, folder: Path) -> None:
        check_same_shape(self._shape, folder)
        state = self._load(folder).state_dict()
        self._model.load_state_dict(state)

    def pause(self) -> None:
        """Nothing to give back: there is no cache between batches, and weights stay."""

    def resume(self) -> None:
        """Nothing was paused."""

    def close(self) -> None:
        self._model = None
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _load(self, folder: Path) -> Any:
        import transformers

        try:
            with _without_bars(transformers):
                model = transformers.AutoModelForCausalLM.from_pretrained(
                    str(folder), dtype=self._dtype, local_files_only=True
                )
        except Exception as error:  # anything from KeyError (unknown architecture) to a broken safetensors file
            raise EngineMistake(
                f"{folder}: transformers cannot load this policy ({type(error).__name__}: {error})"
            ) from error
        return model.to(self._device).eval()

    def _generate_batch(self, requests: Sequence[Request]) -> list[Completion]:
        import torch

        count, longest = len(requests), max(len(request.prompt_ids) for request in requests)
        steps = max(request.max_tokens for request in requests)
        device = self._device
        prompts = torch.zeros(count, longest, dtype=torch.long)
        attention = torch.zeros(count, longest + steps, dtype=torch.long)
        uniforms = torch.empty(count, steps, dtype=torch.float64)
        for row, request in enumerate(requests):
            prompts[row, longest - len(request.prompt_ids) :] = torch.tensor(request.prompt_ids)
            attention[row, longest - len(request.prompt_ids) :] = 1
            uniforms[row] = torch.rand(
                steps, generator=torch.Generator().manual_seed(request.seed), dtype=torch.float64
            )
        attention, uniforms = attention.to(device), uniforms.to(device)
        temperature = torch.tensor([request.temperature for request in requests], device=device)
        top_p = torch.tensor([request.top_p for request in requests], device=device)
        limit = torch.tensor([request.max_tokens for request in requests], device=device)
        lengths = attention[:, :longest].sum(1)

        ids = torch.zeros(count, steps, dtype=torch.long, device=device)
        logprobs = torch.zeros(count, steps, device=device)
        taken = torch.zeros(count, dtype=torch.long, device=device)
        stopped = torch.zeros(count, dtype=torch.bool, device=device)
        rows = torch.arange(count, device=device)  # rows of the batch that the cache still holds
        inputs, positions, cache = prompts.to(device), (attention[:, :longest].cumsum(1) - 1).clamp(min=0), None
        with torch.inference_mode():
            for step in range(steps):
                output = self._model(
                    input_ids=inputs,
                    attention_mask=attention[rows, : longest + step],
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                cache = output.past_key_values
                token, logprob = sample_tokens(
                    output.logits[:, -1].float(), temperature[rows], top_p[rows], uniforms[rows, step]
                )
                running = ~stopped[rows] & (step < limit[rows])
                alive = rows[running]
                ids[alive, step], logprobs[alive, step] = token[running], logprob[running]
                taken[alive] = step + 1
                stopped[alive] = torch.isin(token[running], self._stop)
                going = ~stopped[rows] & (step + 1 < limit[rows])
                remaining = int(going.sum())
                if not remaining:
                    break
                if remaining < COMPACT_BELOW * len(rows):
                    kept = going.nonzero().squeeze(1)
                    rows, token = rows[kept], token[kept]
                    cache.batch_select_indices(kept)
                inputs, positions = token[:, None], (lengths[rows] + step)[:, None]
        ends, flags = taken.tolist(), stopped.tolist()
        all_ids, all_logprobs = ids.tolist(), logprobs.tolist()
        return [
            Completion(tuple(all_ids[row][:end]), tuple(all_logprobs[row][:end]), "stop" if flags[row] else "length")
            for row, end in enumerate(ends)
        ]


def sample_tokens(logits: Any, temperature: Any, top_p: Any, uniform: Any) -> tuple[Any, Any]:
    """Tokens and their log-probabilities (nats, float32) under the processed distribution.

    logits (rows, vocabulary) float32; temperature, top_p, uniform (rows). Temperature 0 takes the most probable token
    and reports its log-probability at temperature 1, as vLLM does. top_p keeps the smallest set of most probable tokens
    whose mass reaches it.
    """
    import torch

    greedy = temperature == 0
    scaled = logits / torch.where(greedy, torch.ones_like(temperature), temperature)[:, None]
    if bool((top_p < 1).any()):
        ordered, order = scaled.sort(dim=-1, descending=True, stable=True)
        mass = ordered.softmax(-1, dtype=torch.float32)
        outside = (mass.cumsum(-1) - mass >= top_p[:, None]) & (top_p < 1)[:, None] & ~greedy[:, None]
        outside[:, 0] = False
        scaled = scaled.masked_fill(torch.zeros_like(outside).scatter(1, order, outside), float("-inf"))
    logprobs = scaled.log_softmax(-1, dtype=torch.float32)
    # Inverse of the cumulative distribution, in float64: with float32 a large vocabulary would lose its rare tokens.
    cumulative = logprobs.double().exp().cumsum(-1)
    drawn = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True).squeeze(1)
    token = torch.where(greedy, logprobs.argmax(-1), drawn.clamp(max=logits.shape[-1] - 1))
    return token, logprobs.gather(1, token[:, None]).squeeze(1)


@contextmanager
def _without_bars(transformers: Any) -> Iterator[None]:
    """Loading a small folder needs no progress bar."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()
