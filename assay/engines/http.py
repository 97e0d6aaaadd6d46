"""Requests to OpenAI-compatible endpoints: several addresses, bounded retries, errors that name the address.

What fails for reasons of infrastructure (no connection, time-out, 429, 5xx) is tried again, at the next address, after
a pause that doubles. What the server refuses (other 4xx) is an error at once: asking again would change nothing.
"""

import itertools
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from assay.engines.base import EngineError, EngineMistake

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds


class Endpoints:
    """One or several equal servers, used in turn. Safe to share between threads."""

    def __init__(
        self,
        urls: tuple[str, ...],
        *,
        api_key_variable: str,
        timeout: float,
        retries: int,
        concurrency: int,
        pause: Callable[[float], None] = time.sleep,
        key: str = "execution.server.urls",
    ) -> None:
        """`urls`: base addresses such as http://127.0.0.1:8000/v1. `timeout`: seconds for one answer. `key`: the parameter
        that holds the addresses, for messages.
        """
        import httpx

        self.urls = tuple(url.rstrip("/") for url in urls)
        self._retries, self._pause, self._timeout, self._key = retries, pause, timeout, key
        self._next = itertools.count()
        secret = os.environ.get(api_key_variable)
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {secret}"} if secret else {},
            timeout=httpx.Timeout(timeout, connect=min(timeout, 20.0)),
            limits=limits,
            trust_env=False,  # a proxy of the environment is not meant for one's own servers
        )

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, url: str | None = None) -> Any:
        """Answer (parsed JSON; None where empty) of one of the servers, or of `url` alone. Raises EngineError."""
        import httpx

        start = next(self._next)
        last = ""
        for attempt in range(self._retries + 1):
            if attempt:
                self._pause(min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE))
            base = url or self.urls[(start + attempt) % len(self.urls)]
            try:
                response = self._request(method, base + path, body)
            except httpx.HTTPError as error:
                last = f"{base}{path}: {type(error).__name__}: {error}"
                continue
            if response.status_code == 429 or response.status_code >= 500:
                last = f"{base}{path}: {_refusal(response)}"
                continue
            if response.is_error:
                raise Refused(f"{base}{path}: the server refuses ({_refusal(response)})", response.status_code)
            try:
                return response.json() if response.content else None
            except ValueError as error:
                raise EngineMistake(
                    f"{base}{path}: the answer is not JSON ({error}); is this an OpenAI-compatible server?"
                ) from error
        raise EngineError(
            f"{last}; gave up after {self._retries + 1} tries: check that the server runs and that "
            f"{self._key} are right"
        )

    def _request(self, method: str, address: str, body: Mapping[str, Any] | None) -> Any:
        """The whole answer. httpx's time-out is for each read: a server that sends byte by byte would never exceed it."""
        import httpx

        deadline = time.monotonic() + self._timeout
        with self._client.stream(method, address, json=body) as response:
            parts = []
            for part in response.iter_bytes():
                parts.append(part)
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout(f"the answer is not complete after {self._timeout:g} s")
        return httpx.Response(response.status_code, content=b"".join(parts))

    def close(self) -> None:
        self._client.close()


class Refused(EngineMistake):
    """The server answered that it will not do this (4xx)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def _refusal(response: Any) -> str:
    """Status and the server's own words, shortened."""
    try:
        body = response.json()
        text = (
            body["error"]["message"]
            if isinstance(body.get("error"), dict)
            else str(body.get("detail") or body.get("message") or body)
        )
    except (ValueError, KeyError, AttributeError, TypeError):
        text = response.text
    return f"HTTP {response.status_code}: {' '.join(str(text).split())[:300]}"
