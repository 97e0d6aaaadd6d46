"""Chat completions of OpenAI-compatible endpoints: what a judge and a teacher share. They sample no policy, so text is all that counts."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from assay.engines.base import EngineError, EngineMistake
from assay.engines.http import Endpoints
from assay.params.execution import ServerAccess

EXPECTED = "base addresses of OpenAI-compatible servers, e.g. [http://127.0.0.1:8000/v1]"


class NoCompletion(EngineError):
    """An answer that is no chat completion."""


def is_address(url: str) -> bool:
    """Whether a text can be the base address of a server."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def content(answer: Any, key: str) -> str:
    """The words of the first choice; empty where it has none (a thinking model that was cut). key: the parameter that holds the addresses.
    Raises NoCompletion."""
    try:
        found = answer["choices"][0]["message"].get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise NoCompletion(f"{key}: an answer is no chat completion: {str(answer)[:200]}") from None
    return found if isinstance(found, str) else ""


def tokens(answer: Any) -> int:
    """Read and written, as the server reports; 0 where it does not."""
    usage = answer.get("usage")
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else []
    return sum(count for count in counts if type(count) is int and count > 0)


def served_model(endpoints: Endpoints, url: str) -> str:
    """The model that a server names first. Raises EngineError."""
    answer = endpoints.ask("GET", "/models", url=url)
    try:
        return str(answer["data"][0]["id"])
    except (KeyError, IndexError, TypeError):
        raise EngineError(f"{url}/models names no model") from None


class Teacher:
    """A model that is asked one thing at a time, over one or several servers that serve it."""

    KEY = "execution.teacher.urls"

    def __init__(self, access: ServerAccess, model: str | None, temperature: float, max_tokens: int) -> None:
        """model: its name; None asks the servers. Raises EngineMistake for addresses that are missing or none, and for servers of different
        models; EngineError where one does not answer."""
        if not access.urls or not all(map(is_address, access.urls)):
            raise EngineMistake(f"{self.KEY} is {list(access.urls)}, expected {EXPECTED}")
        self._endpoints = Endpoints(
            access.urls, api_key_variable=access.api_key_variable, timeout=access.timeout, retries=access.retries,
            concurrency=access.concurrency, key=self.KEY,
        )  # fmt: skip
        self._body: Mapping[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
        self.model = model or self._only_model(access.urls)

    def complete(self, prompt: str) -> str:
        """The reply to one message of a user. Raises EngineError."""
        body = {"model": self.model, "messages": [{"role": "user", "content": prompt}], **self._body}
        return content(self._endpoints.ask("POST", "/chat/completions", body), self.KEY)

    def close(self) -> None:
        self._endpoints.close()

    def _only_model(self, urls: Sequence[str]) -> str:
        names = sorted({served_model(self._endpoints, url) for url in self._endpoints.urls})
        if len(names) > 1:
            raise EngineMistake(f"{self.KEY} serve different models ({', '.join(names)}): name one in the environment's backend.model")
        return names[0]
