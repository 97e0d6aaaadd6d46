"""What every sampling engine takes and gives. An engine is one policy in one process, started once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Progress = Callable[[int, int], None]
"""Called while an engine samples with (completions finished since the last call, tokens sampled since the last call).
"""


class EngineError(RuntimeError):
    """An engine that cannot start, cannot hold its work, or cannot be reached; a prompt that cannot be rendered.

    The message says what was wrong, where, what was expected and what to do.
    """


class EngineMistake(EngineError, ValueError):
    """An EngineError that a person must correct: sampling again without a change would fail again."""


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to sample."""

    prompt_ids: tuple[int, ...]
    seed: int
    """In [0, 2^31). Two requests with equal prompt and seed in the same position of equal batches give equal
    completions.
    """
    temperature: float
    """0 is greedy decoding; the seed is then without effect."""
    top_p: float
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Completion:
    """What was sampled for one request."""

    ids: tuple[int, ...]
    """The end token is included where `finish_reason` is stop: it was sampled and bears loss."""
    logprobs: tuple[float, ...]
    """Per token, nats, float32 values of the distribution that was sampled: after temperature and top_p."""
    finish_reason: Literal["stop", "length"]


class Engine(Protocol):
    """A policy that can be sampled. `generate` is called with an idle engine: nothing else is sampled meanwhile."""

    name: str
    version: str
    """Version of the sampling library; stored with each trajectory."""

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Completion]:
        """Completions in the order of the requests. Raises EngineError."""
        ...

    def load_policy(self, folder: Path) -> None:
        """Replace the weights in place by those of a folder of the same architecture. Raises EngineError."""
        ...

    def pause(self) -> None:
        """Lend the device's memory to a trainer in this process, until `resume`. Does nothing where none is held."""
        ...

    def resume(self) -> None:
        """Take the memory back; weights are those of before `pause`."""
        ...

    def close(self) -> None:
        """Free memory and connections. The engine cannot be used afterwards; a second call does nothing."""
        ...


def check_requests(requests: Sequence[Request], max_model_tokens: int) -> None:
    """Raises EngineError for a request that the engine was not opened for, naming the first one."""
    for position, request in enumerate(requests):
        if not request.prompt_ids:
            raise EngineMistake(f"request {position}: the prompt holds no token; a policy cannot be sampled from nothing")
        if request.max_tokens < 1:
            raise EngineMistake(f"request {position}: max_tokens is {request.max_tokens}, expected at least 1")
        length = len(request.prompt_ids) + request.max_tokens
        if length > max_model_tokens:
            raise EngineMistake(
                f"request {position}: {len(request.prompt_ids)} prompt tokens and {request.max_tokens} completion "
                f"tokens are {length}, "
                f"but the engine was opened for {max_model_tokens}: raise policy.max_prompt_tokens or lower "
                "sampling.max_tokens"
            )
