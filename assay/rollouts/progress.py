"""Progress of sampling: a bar on a terminal, lines at intervals in a log."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

LINE_EVERY = 10.0
"""Seconds between two lines of a log."""


class Reporter:
    """Counts completions and tokens, and shows them. Called by engines with (completions, tokens) since the last call.
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        done: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        line_every: float = LINE_EVERY,
        stays: bool = True,
    ) -> None:
        """`done` of `total` completions were sampled by an earlier, interrupted run. `stays`: the bar, once it is full."""
        self.label, self.total, self.resumed = label, total, done
        self.completions, self.tokens = done, 0
        self._stream = stream if stream is not None else sys.stderr
        self._clock, self._line_every = clock, line_every
        self._started = self._last_line = clock()
        self._bar = None
        if self._stream.isatty():
            import tqdm

            self._bar = tqdm.tqdm(
                total=total,
                initial=done,
                desc=label,
                unit="completion",
                file=self._stream,
                dynamic_ncols=True,
                disable=False,
                leave=stays,
            )

    def __call__(self, completions: int, tokens: int) -> None:
        self.completions += completions
        self.tokens += tokens
        if self._bar is not None:
            self._bar.update(completions)
            self._bar.set_postfix_str(f"{self.rate:,.0f} tokens/s", refresh=False)
        elif self._clock() - self._last_line >= self._line_every:
            self._last_line = self._clock()
            self.say(f"{self.completions:,} of {self.total:,} completions, {self.rate:,.0f} tokens/s")

    @property
    def seconds(self) -> float:
        return self._clock() - self._started

    @property
    def rate(self) -> float:
        """Tokens sampled per second."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    def say(self, line: str) -> None:
        """A line for people; does not tear the bar."""
        text = f"{self.label}: {line}"
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
