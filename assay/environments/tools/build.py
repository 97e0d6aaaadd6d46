"""Many environments: constructed, gated in batches, those that fail drawn again with the next seed of their place."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from assay.environments.asking import StageDropped
from assay.environments.tools.backends import Backend
from assay.environments.tools.config import ToolConfig
from assay.environments.tools.construct import construct
from assay.environments.tools.execution import ToolExecutor
from assay.environments.tools.gate import run_gate
from assay.environments.tools.record import Scenario, ToolEnvironment, ToolError
from assay.trajectories import content_hash, seed_from

ATTEMPTS = 20
BATCH = 256
"""Environments that go through the gate together."""
Progress = Callable[[int, int], None]


@dataclass
class Built:
    """What came of it."""

    environments: list[ToolEnvironment] = field(default_factory=list)
    """In the order of their places; a place that stayed empty is left out."""
    refused: Counter[str] = field(default_factory=Counter)
    """Draws that were refused, by stage or by "unsound" or "gate"."""
    examples: dict[str, str] = field(default_factory=dict)
    """One message for each of them."""
    empty: list[int] = field(default_factory=list)
    """Places for which ATTEMPTS draws were refused."""

    @property
    def digest(self) -> str:
        """Of all environments in order."""
        return content_hash(*(environment.env_id for environment in self.environments))


def build(
    config: ToolConfig, backend: Backend, executor: ToolExecutor, places: Sequence[int], seed: int,
    attempts: int = ATTEMPTS, progress: Progress | None = None, threads: int = 1,
) -> Built:  # fmt: skip
    """An environment for each place (a whole number). What stands at a place depends on (config, backend, seed, place) alone; its
    scenario follows from the place, in turn. progress: called with (places done, all). threads: places that are constructed at once, for
    backends that wait for a model; no result depends on them. What a backend raises beyond its own errors ends the build."""
    built = Built()
    for begin in range(0, len(places), BATCH):
        found: dict[int, ToolEnvironment] = {}
        waiting = list(places[begin : begin + BATCH])
        for attempt in range(attempts):
            drawn = _draws(config, backend, seed, waiting, attempt, threads)
            candidates = []
            for place, one in zip(waiting, drawn, strict=True):
                if isinstance(one, ToolEnvironment):
                    candidates.append((place, one))
                else:
                    _refuse(built, *one)
            problems = run_gate([environment for _, environment in candidates], executor)
            for (place, environment), wrong in zip(candidates, problems, strict=True):
                if wrong:
                    _refuse(built, "gate", wrong[0])
                else:
                    found[place] = environment
            waiting = [place for place in waiting if place not in found]
            if not waiting:
                break
        built.empty += waiting
        built.environments += [found[place] for place in places[begin : begin + BATCH] if place in found]
        if progress is not None:
            progress(min(begin + BATCH, len(places)), len(places))
    return built


def _draws(
    config: ToolConfig, backend: Backend, seed: int, places: Sequence[int], attempt: int, threads: int
) -> list[ToolEnvironment | tuple[str, str]]:
    """One draw for each place, in their order, whichever is done first."""
    if threads == 1:
        return [_draw(config, backend, seed, place, attempt) for place in places]
    pool = ThreadPoolExecutor(threads)
    try:
        draws: list[Future[ToolEnvironment | tuple[str, str]]] = [
            pool.submit(_draw, config, backend, seed, place, attempt) for place in places
        ]
        done, _ = wait(draws, return_when=FIRST_EXCEPTION)
        for draw in draws:
            if draw in done:
                draw.result()  # raises what has ended it
        return [draw.result() for draw in draws]
    except BaseException:
        backend.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _draw(config: ToolConfig, backend: Backend, seed: int, place: int, attempt: int) -> ToolEnvironment | tuple[str, str]:
    """An environment, or why there is none: the stage (or "unsound") and a message."""
    scenario: Scenario = config.scenarios[place % len(config.scenarios)]
    try:
        return construct(backend, config, scenario, seed_from(seed, "tools", place, attempt))
    except ToolError as error:
        return "unsound", str(error)
    except StageDropped as error:
        return error.stage, error.problem


def _refuse(built: Built, why: str, message: str) -> None:
    built.refused[why] += 1
    built.examples.setdefault(why, message)
