"""A language model behind an OpenAI-compatible chat endpoint as the judge. Whatever goes wrong there, it abstains.

A dead endpoint must not cost its time-out for each of thousands of answers: after a few failures in a row it is not asked again for a
while (a circuit breaker), and answers abstain at once. Temperature is 0, yet a server batches as requests arrive: a reply may differ where
the last float digit decides. Other sampling parameters are the server's own, as not every endpoint knows more than OpenAI's.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath
from typing import NamedTuple

from assay.engines import EngineError
from assay.engines.chat import EXPECTED, content, is_address, served_model, tokens
from assay.engines.http import Endpoints
from assay.params.execution import JudgeAccess
from assay.params.noise import EndpointJudge
from assay.verifiers.judges import prompt
from assay.verifiers.judges.base import Case, Cost, decide_distinct
from assay.verifiers.verdicts import Finding, VerifierError, abstain

LOG = logging.getLogger(__name__)

PATIENCE = 4
"""Failures in a row, each after its retries, before the endpoint is left alone. So many are asked at first, to see if it answers."""
FIRST_REST, LONGEST_REST = 60.0, 3600.0
"""Seconds until it is asked again (one question first); doubled each time it fails again."""
KEY = "execution.judge.urls"
UNREACHABLE = abstain("judge_unreachable")
"""Without the error: it names an address, which has no place in the record."""


class Reply(NamedTuple):
    """What came of one question."""

    finding: Finding
    calls: int = 0
    tokens: int = 0
    error: str | None = None


class Breaker:
    """Counts failures in a row and says when to stop asking. Safe to share between threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._failures, self._rest, self._until = 0, FIRST_REST, 0.0

    @property
    def is_open(self) -> bool:
        """Whether the endpoint is to be left alone now."""
        return self._clock() < self._until

    @property
    def probes(self) -> int:
        """How many questions are asked before the others: one where the last ones failed."""
        return 1 if self._failures >= PATIENCE else PATIENCE

    def failed(self) -> None:
        with self._lock:
            self._failures += 1
            if self._failures >= PATIENCE and not self.is_open:
                self._until = self._clock() + self._rest
                self._rest = min(2 * self._rest, LONGEST_REST)

    def succeeded(self) -> None:
        with self._lock:
            self._failures, self._rest, self._until = 0, FIRST_REST, 0.0


class EndpointAppeals:
    """AppealJudge over one or several endpoints that serve the same model."""

    def __init__(
        self,
        params: EndpointJudge,
        access: JudgeAccess,
        limit: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Where no model is named the endpoints are asked for it. limit: characters of the longest answer that is put before it.
        Raises VerifierError for addresses that are missing or none, and for endpoints that serve different models."""
        check_urls(access.urls)
        self._params, self._access, self._limit = params, access, limit
        self._endpoints = Endpoints(
            access.urls,
            api_key_variable=access.api_key_variable,
            timeout=access.timeout,
            retries=access.retries,
            concurrency=access.concurrency,
            pause=pause,
            largest=4 * 2**20,  # a word or a few; many come at once
            key=KEY,
        )
        self._breaker = Breaker(clock)
        self._stop = threading.Event()
        self.cost = Cost()
        self._model = params.model
        if self._model is None:
            self._find_model()

    @property
    def name(self) -> str:
        """With the model's name; of one that is named by its path, the folder's alone."""
        model = PurePath(self._model or "unknown")
        return f"endpoint:{model.name if model.is_absolute() else self._model or 'unknown'}"

    @property
    def version(self) -> str:
        return prompt.version(self.name, self._params.system_prompt, self._params.max_tokens)

    def decide(self, cases: Sequence[Case]) -> list[Finding]:
        self.cost = Cost()
        return decide_distinct(cases, self._limit, self._ask_all)

    def close(self) -> None:
        self._endpoints.close()

    def _ask_all(self, cases: list[Case]) -> list[Finding]:
        if self._breaker.is_open or (self._model is None and not self._find_model()):
            return [UNREACHABLE] * len(cases)
        self._stop.clear()
        first, replies = self._breaker.probes, []
        with ThreadPoolExecutor(self._access.concurrency) as pool:
            try:
                for some in (cases[:first], cases[first:]):
                    replies += list(pool.map(self._ask, some))
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                self._endpoints.close()  # requests in flight end now: their answers would be waited for
                raise
        self.cost = Cost(sum(reply.calls for reply in replies), sum(reply.tokens for reply in replies))
        errors = [reply.error for reply in replies if reply.error]
        if errors:
            undecided = sum(reply.finding is UNREACHABLE for reply in replies)
            rest = "; it is not asked again for a while" if self._breaker.is_open else ""
            LOG.warning("the judge abstains on %d of %d answers: %s%s", undecided, len(cases), errors[-1], rest)
        return [reply.finding for reply in replies]

    def _ask(self, case: Case) -> Reply:
        if self._stop.is_set():
            return Reply(UNREACHABLE)
        body = {
            "model": self._model,
            "messages": prompt.messages(case, self._params.system_prompt),
            "temperature": 0,
            "max_tokens": self._params.max_tokens,
        }
        try:
            answer = self._endpoints.ask("POST", "/chat/completions", body)
            reply = Reply(prompt.read(content(answer, KEY)), 1, tokens(answer))
        except (EngineError, RecursionError) as error:  # RecursionError: JSON nested beyond reason
            self._breaker.failed()
            if self._breaker.is_open:
                self._stop.set()
            return Reply(UNREACHABLE, 1, error=str(error) or type(error).__name__)
        self._breaker.succeeded()
        return reply

    def _find_model(self) -> bool:
        """Ask every endpoint for the model that it serves; False where none says."""
        names, problem = set(), ""
        for url in self._endpoints.urls:
            try:
                names.add(served_model(self._endpoints, url))
            except (EngineError, RecursionError) as error:
                problem = str(error) if isinstance(error, EngineError) else f"{url}/models names no model"
        if len(names) > 1:
            raise VerifierError(
                f"execution.judge.urls serve different models ({', '.join(sorted(names))}): name one in verification.appeals.judge.model, "
                "and leave out the endpoints that do not serve it"
            )
        if names:
            self._model = names.pop()
            self._breaker.succeeded()
            return True
        for _ in range(PATIENCE):
            self._breaker.failed()
        LOG.warning("the judge abstains: %s; it is not asked again for a while", problem)
        return False


def check_urls(urls: Sequence[str]) -> None:
    """Raises VerifierError where there is no address, or one that is none."""
    if not urls:
        raise VerifierError(f"verification.appeals.judge is an endpoint, but {KEY} is empty: list there the {EXPECTED}")
    for url in urls:
        if not is_address(url):
            raise VerifierError(f"{KEY} holds {url!r}, which is no address: expected {EXPECTED}")
