"""Requests to OpenAI-compatible endpoints: several addresses, bounded retries, errors that name the address.

What fails for reasons of infrastructure (no connection, time-out, 429, 5xx, an answer without end) is tried again, at the
next address, after a pause that doubles. What the server refuses (other 4xx) is an error at once: asking again would
change nothing.
"""

import contextlib
import itertools
import os
import socket
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from assay.engines.base import EngineError, EngineMistake

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds
LARGEST_ANSWER = 64 * 2**20
"""Bytes. A completion of 100,000 tokens with ids, texts and log-probabilities has a few MiB."""


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
        largest: int = LARGEST_ANSWER,
    ) -> None:
        """`urls`: base addresses such as http://127.0.0.1:8000/v1. `concurrency`: connections, over all of them. `timeout`: seconds for
        one answer. `key`: the parameter that holds the addresses, for messages. `largest`: bytes of an answer, beyond which it is broken
        off as a failure.
        """
        import httpx

        self.urls = tuple(url.rstrip("/") for url in urls)
        self._retries, self._pause, self._timeout, self._key, self._largest = retries, pause, timeout, key, largest
        self._next = itertools.count()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._guard, self._closed = threading.Lock(), False
        secret = os.environ.get(api_key_variable)
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        self._client = httpx.Client(
            # Compressed, a small answer may be a large one; see _unpacked for servers that compress all the same.
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {secret}"} if secret else {}),
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
            if self._closed:
                raise EngineError(f"{last or url or ', '.join(self.urls)}: closed while it was asked")
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
            except (ValueError, RecursionError) as error:  # RecursionError: nested beyond reason
                raise EngineMistake(
                    f"{base}{path}: the answer is not JSON ({error}); is this an OpenAI-compatible server?"
                ) from error
        raise EngineError(
            f"{last}; gave up after {self._retries + 1} tries: check that the server runs and that "
            f"{self._key} are right"
        )

    def _request(self, method: str, address: str, body: Mapping[str, Any] | None) -> Any:
        """The whole answer, in bounded time and memory: httpx's time-out is for each read, which a server that sends byte by byte would
        never exceed, and one that sends without end would fill the memory before."""
        import httpx

        deadline = time.monotonic() + self._timeout
        with self._client.stream(method, address, json=body, extensions={"trace": self._note_connection}) as response:
            content = bytearray()
            for part in response.iter_raw():
                content += part
                if len(content) > self._largest:
                    raise httpx.ReadError(self._too_large())
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout(f"the answer is not complete after {self._timeout:g} s")
            encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        return httpx.Response(response.status_code, content=self._unpacked(bytes(content), encoding))

    def _unpacked(self, content: bytes, encoding: str) -> bytes:
        """The answer of a server that compresses though it was not asked to."""
        import httpx

        if encoding in ("", "identity"):
            return content
        if encoding not in ("gzip", "deflate"):
            raise httpx.DecodingError(f"the answer is encoded as {encoding}, which was not asked for")
        try:
            unpacked = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(content, self._largest + 1)
        except zlib.error as error:
            raise httpx.DecodingError(f"the answer is no {encoding} ({error})") from error
        if len(unpacked) > self._largest:
            raise httpx.ReadError(self._too_large())
        return unpacked

    def _too_large(self) -> str:
        return f"the answer is larger than {self._largest:,} bytes"

    def _note_connection(self, event: str, found: Mapping[str, Any]) -> None:
        """httpcore's trace of a request: remember the socket of each connection that it opens."""
        stream = found.get("return_value")
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete") and stream is not None:
            with self._guard:
                self._sockets.add(stream.get_extra_info("socket"))
                if self._closed:
                    self._hang_up()

    def _hang_up(self) -> None:
        for one in self._sockets:
            with contextlib.suppress(OSError):  # closed already
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End, with the requests in flight: to close a socket that another thread reads from would not wake that thread."""
        with self._guard:
            self._closed = True
            self._hang_up()
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
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        text = response.text
    return f"HTTP {response.status_code}: {' '.join(str(text).split())[:300]}"
