"""Sampling from vLLM servers (`vllm serve`), or others that take token-id prompts and return token ids.

What is not reproducible: a server batches requests as they arrive, so log-probabilities differ in the last float digits
from run to run and a token may differ where such a digit decides. Seeds, tokens and log-probabilities are recorded all
the same.

The server must hold the policy that is to be sampled. Started with VLLM_SERVER_DEV_MODE=1 (on a trusted network only),
it is given each policy's folder, which it must be able to read; otherwise the model that it names must be that folder,
or `sampling.engine.model` must be set, by which the user vouches for it.
"""

import logging
import os
import resource
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from assay.engines.base import Completion, EngineError, EngineMistake, Progress, Request, check_requests
from assay.engines.http import Endpoints, Refused
from assay.params.execution import ServerAccess
from assay.params.sampling import ServerEngine

LOG = logging.getLogger(__name__)


NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
"""Everything else that could change the distribution, switched off."""
COLD = 0.01
"""Temperature of a probe: after it, the likeliest token has nearly all probability."""
UNDECIDED = -0.05
"""Nats. A best token that has nearly all probability at temperature 1 does not show what temperature does."""
MOST_AT_ONCE = 2048
"""Requests at once over all servers: each is a thread of this process and a connection."""
PROBES = 16
"""Prompts that are tried to find one which shows it."""


FILES_LEFT = 256
"""File descriptors of this process that are not connections."""


def _possible(connections: int) -> int:
    """So many, or as many as this process may have open: the soft limit (1,024 on most machines) is raised as far as need be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + FILES_LEFT
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(min(connections, soft - FILES_LEFT), 1)
    return connections


class ServerClient:
    """Engine protocol over one or several servers that hold the same policy."""

    name = "server"

    def __init__(
        self, params: ServerEngine, access: ServerAccess, policy: Path, *, stop_ids: tuple[int, ...], max_model_tokens: int
    ) -> None:
        """Find the served model at every address and make sure of the policy. Raises EngineError."""
        self._stop_ids, self._max_model_tokens = stop_ids, max_model_tokens
        self._concurrency = _possible(min(access.concurrency * max(len(access.urls), 1), MOST_AT_ONCE))
        self._endpoints = Endpoints(
            access.urls,
            api_key_variable=access.api_key_variable,
            timeout=access.timeout,
            retries=access.retries,
            concurrency=self._concurrency,
        )
        try:
            cards = {url: self._card(url, params.model) for url in self._endpoints.urls}
            names = sorted({card["id"] for card in cards.values()})
            if len(names) > 1:
                raise EngineMistake(
                    f"execution.server.urls serve different models ({', '.join(names)}); all must serve the same policy"
                )
            self._model = names[0]
            self.version: str = self._server_version()
            if not self._push(policy):
                self._check_served(cards, policy, vouched=params.model is not None)
        except BaseException:
            self._endpoints.close()
            raise
        self._checked = False
        """Every server has been seen to report log-probabilities of what it samples."""

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Completion]:
        check_requests(requests, self._max_model_tokens)
        if any(request.temperature not in (0.0, 1.0) or request.top_p < 1 for request in requests):
            self._check_logprobs_modes(requests)
        completions: list[Completion | None] = [None] * len(requests)
        with ThreadPoolExecutor(min(self._concurrency, max(len(requests), 1))) as pool:
            futures = {pool.submit(self._complete, request): position for position, request in enumerate(requests)}
            try:
                for future in as_completed(futures):
                    completion = future.result()
                    completions[futures[future]] = completion
                    if progress:
                        progress(1, len(completion.ids))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._endpoints.close()  # requests in flight end now: their answers would be waited for
                raise
        return [completion for completion in completions if completion is not None]

    def load_policy(self, folder: Path) -> None:
        if not self._push(folder):
            raise EngineMistake(
                f"{', '.join(self._endpoints.urls)}: the server offers no way to change its weights, so it cannot be "
                f"given {folder}; "
                "start it with VLLM_SERVER_DEV_MODE=1 on a network that you trust, or use sampling.engine.type vllm"
            )

    def pause(self) -> None:
        """Nothing to give back: a server has a device, or a share of it, of its own."""

    def resume(self) -> None:
        """Nothing was paused."""

    def close(self) -> None:
        self._endpoints.close()

    def _complete(self, request: Request) -> Completion:
        answer = self._endpoints.ask("POST", "/completions", self._body(request))
        return read_choice(answer, request, self._stop_ids)

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "prompt": list(request.prompt_ids),
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            # What is left out, a server takes from the model's generation_config.json: rows would be sampled from another
            # distribution than the one that is recorded.
            **NEUTRAL,
            "logprobs": 0,
            # Beyond OpenAI's fields: exactly these end tokens, and ids instead of text.
            "stop_token_ids": list(self._stop_ids),
            "ignore_eos": True,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "skip_special_tokens": False,
        }
        if request.temperature > 0:
            body["seed"] = request.seed
        return body

    def _card(self, url: str, wanted: str | None) -> dict[str, Any]:
        answer = self._endpoints.ask("GET", "/models", url=url)
        cards = answer.get("data", []) if isinstance(answer, dict) else []
        if not cards:
            raise EngineMistake(
                f"{url}/models: the server names no model; is this an OpenAI-compatible server with its path, e.g. /v1?"
            )
        if wanted is None:
            return cards[0]
        for card in cards:
            if card.get("id") == wanted:
                return card
        raise EngineMistake(
            f"{url}: serves {', '.join(str(card.get('id')) for card in cards)}, but sampling.engine.model is {wanted}"
        )

    def _server_version(self) -> str:
        try:
            answer = self._endpoints.ask("GET", "/version", url=_root(self._endpoints.urls[0]))
        except Refused:
            return "unknown"
        return str(answer.get("version", "unknown")) if isinstance(answer, dict) else "unknown"

    def _push(self, folder: Path) -> bool:
        """Have every server load the folder; False where one does not offer it."""
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(folder.resolve())}}
        for url in self._endpoints.urls:
            root = _root(url)
            try:
                self._endpoints.ask("POST", "/collective_rpc", body, url=root)
                # Cached prefixes were computed with the old weights.
                answer = self._endpoints.ask("POST", "/reset_prefix_cache", url=root)
            except Refused as refusal:
                if refusal.status in (404, 405):
                    return False
                raise
            if isinstance(answer, dict) and answer.get("success") is False:
                raise EngineError(
                    f"{url}: the prefix cache could not be emptied after {folder} was loaded; does somebody else use "
                    "the server?"
                )
        return True

    def _check_served(self, cards: dict[str, dict[str, Any]], policy: Path, vouched: bool) -> None:
        for url, card in cards.items():
            root = card.get("root")
            if isinstance(root, str) and os.path.isdir(root) and os.path.samefile(root, policy):
                continue
            if not vouched:
                raise EngineMistake(
                    f"{url}: serves {root or card['id']}, not {policy}. Start it with VLLM_SERVER_DEV_MODE=1 so that "
                    "it can be given each policy, "
                    "serve that folder, or set sampling.engine.model to the served name if you are sure that it is the "
                    "same policy"
                )
            LOG.warning(
                "%s: nobody can check that %s is the policy %s; sampling.engine.model vouches for it",
                url,
                card["id"],
                policy,
            )

    def _check_logprobs_modes(self, requests: Sequence[Request]) -> None:
        """Raises EngineError where a server reports log-probabilities before temperature and top_p (vLLM's default), or
        where no prompt shows which it does."""
        if self._checked:
            return
        prompts = list(dict.fromkeys(request.prompt_ids for request in requests))[:PROBES]
        for url in self._endpoints.urls:
            for prompt in prompts:
                hot = self._best_logprob(url, prompt, 1.0)
                if hot > UNDECIDED:
                    continue
                cold = self._best_logprob(url, prompt, COLD)
                if abs(cold - hot) < abs(hot) / 2:
                    raise EngineMistake(
                        f"{url}: log-probabilities are those before temperature and top_p, not those of what was sampled; "
                        "start the server with --logprobs-mode processed_logprobs"
                    )
                break
            else:
                raise EngineMistake(
                    f"{url}: cannot tell whether log-probabilities are those of what is sampled: after each of {len(prompts)} "
                    "prompts one token has nearly all probability; sample at temperature 1 and top_p 1, or with another engine"
                )
        self._checked = True

    def _best_logprob(self, url: str, prompt: tuple[int, ...], temperature: float) -> float:
        probe = Request(prompt, 0, temperature, 1.0, 1)
        answer = self._endpoints.ask("POST", "/completions", self._body(probe) | {"logprobs": 1}, url=url)
        try:
            return max(answer["choices"][0]["logprobs"]["top_logprobs"][0].values())
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise EngineMistake(f"{url}: the answer holds no log-probabilities; Assay needs them to train") from error


def read_choice(answer: Any, request: Request, stop_ids: Sequence[int]) -> Completion:
    """The completion in an answer of /completions. Raises EngineError where it is not token for token what was sampled.
    """
    try:
        choice = answer["choices"][0]
        logprobs = choice["logprobs"]["token_logprobs"]
        reason = choice["finish_reason"]
    except (KeyError, IndexError, TypeError) as error:
        raise EngineError(
            f"the server's answer holds no completion with log-probabilities: {str(answer)[:200]}"
        ) from error
    ids = choice.get("token_ids")
    if ids is None:
        names = choice["logprobs"].get("tokens") or []
        if not all(isinstance(name, str) and name.startswith("token_id:") for name in names):
            raise EngineMistake(
                "the server returns text without token ids; token ids are the record: use vLLM 0.10.2 or later, or "
                "another engine"
            )
        ids = [int(name.removeprefix("token_id:")) for name in names]
    echoed = choice.get("prompt_token_ids")
    if echoed is not None and tuple(echoed) != request.prompt_ids:
        raise EngineMistake("the server changed the prompt's token ids; it must take them as they are")
    if reason not in ("stop", "length") or len(ids) != len(logprobs) or not ids or None in logprobs:
        raise EngineError(
            f"the server gave {len(ids)} tokens, {len(logprobs)} log-probabilities and finish reason {reason!r}"
        )
    if reason == "stop" and ids[-1] not in stop_ids:
        raise EngineMistake(
            f"the server stopped after token {ids[-1]}, which is none of the end tokens {list(stop_ids)}: it hides the "
            "end token or stops by its own rules; "
            "name its end token in policy.stop_tokens, or use vLLM"
        )
    return Completion(tuple(ids), tuple(logprobs), reason)


def _root(url: str) -> str:
    """Address of the server's own routes: the base address without /v1."""
    return url.removesuffix("/v1")
