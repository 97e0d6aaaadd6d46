"""Pictures of reasoning steps (VSRM): how many help, change nothing or harm, how many a trace has, and what they earn."""

from collections import Counter
from collections.abc import Sequence
from math import ceil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assay.evaluation.breakdown import Grid
from assay.evaluation.charts import Line, thinned
from assay.evaluation.estimators import Estimate, ratio_with_interval
from assay.evaluation.figures import Figure, chart, moments, starts
from assay.evaluation.self_verification import pooled_share

EFFECTS = {"helpful": ("helpful", 4), "ineffective": ("change nothing", 3), "harmful": ("harmful", 5)}
"""Effect -> name and colour. Blue, grey and red are told apart by colour-blind readers too."""
MOST = 60
"""Points of a line; the means of more moments than this are drawn."""


class ReasoningSteps:
    """Steps and traces of a run as parallel arrays.

    A step is left out where no continuation of the state before or after it was decided: nothing is known of what it changes. Steps of
    trajectories that are not at hand are left out too.
    """

    def __init__(self, steps: pa.Table, states: pa.Table | None, trajectories: pa.Table, confidence: float = 0.95) -> None:
        self.confidence = confidence
        every = len(steps)
        steps = steps.filter(pc.and_(pc.greater(steps["decided_before"], 0), pc.greater(steps["decided_after"], 0)))
        self.undecided = every - len(steps)
        # A trace without a marker has one state and no step; without the table only those with steps are known.
        traces = steps if states is None else states.filter(pc.equal(states["state"], 0))
        self._ids, tasks = trajectories["trajectory_id"].combine_chunks(), trajectories["task_id"].combine_chunks()
        codes = tasks.dictionary_encode().indices.to_numpy().astype(np.int64)
        steps, self.task = self._known(steps, codes)
        traces, self.trace_task = self._known(traces, codes)
        keys = [list(zip(t["iteration"].to_pylist(), t["round"].to_pylist(), strict=True)) for t in (steps, traces)]
        self.places, self.unit = moments([*keys[0], *keys[1]])
        self.moment, self.trace_moment = (np.array([self.places[key] for key in own], dtype=np.int64) for own in keys)
        if states is None:
            first = np.unique(pc.index_in(steps["trajectory_id"], value_set=self._ids).to_numpy(), return_index=True)[1]
            self.trace_task, self.trace_moment = self.trace_task[first], self.trace_moment[first]
        self.effect = np.array(steps["effect"].to_pylist(), dtype=object)
        self.truth = np.array(steps["oracle_effect"].to_pylist(), dtype=object)
        self.read = pc.is_valid(steps["oracle_effect"]).to_numpy()
        self.reward, self.difference = (steps[name].to_numpy().astype(np.float64) for name in ("reward", "difference"))

    def __len__(self) -> int:
        return len(self.effect)

    def _known(self, table: pa.Table, codes: NDArray[np.int64]) -> tuple[pa.Table, NDArray[np.int64]]:
        place = pc.index_in(table["trajectory_id"], value_set=self._ids)
        table = table.filter(pc.is_valid(place))
        return table, codes[place.drop_null().to_numpy().astype(np.int64)]

    def shares(self, effect: str) -> list[Estimate]:
        """Share of an effect among the steps of each moment, over tasks."""
        cut = (self.moment == place for place in self.places.values())
        return [pooled_share(self.effect[own] == effect, _compact(self.task[own]), self.confidence) for own in cut]

    def per_trace(self, chosen: NDArray[np.bool_]) -> list[Estimate]:
        """Number of the chosen steps in a trace, mean of each moment."""
        found = []
        for place in self.places.values():
            tasks, index = np.unique(self.trace_task[self.trace_moment == place], return_inverse=True)
            own = self.task[chosen & (self.moment == place)]
            count = np.bincount(np.searchsorted(tasks, own[np.isin(own, tasks)]), minlength=len(tasks))
            found.append(ratio_with_interval(count, np.bincount(index, minlength=len(tasks)), self.confidence))
        return found

    def mean(self, values: NDArray[np.float64]) -> list[Estimate]:
        """Mean over the steps of each moment."""
        found = []
        for place in self.places.values():
            own = self.moment == place
            index = _compact(self.task[own])
            found.append(ratio_with_interval(np.bincount(index, weights=values[own]), np.bincount(index), self.confidence))
        return found

    def figures(self) -> list[Figure]:
        """Pictures over iterations, or over rounds."""
        left_out = f" Left out: {_steps(self.undecided)} of which nothing was decided." if self.undecided else ""
        lines = [
            self._line(name, color, self.shares(effect), dashed=effect == "harmful") for effect, (name, color) in EFFECTS.items()
        ]  # fmt: skip
        note = "By what a step itself changes in the share of right continuations."
        figures = [self._picture("What steps change", note + left_out, lines, "share of steps", unit=True)]
        lines = [
            self._line("all", 1, self.per_trace(np.ones(len(self), dtype=bool))),
            self._line("change nothing", 3, self.per_trace(self.effect == "ineffective"), dashed=True),
        ]
        figures.append(self._picture("Steps of a trace", "Traces without a marker have none.", lines, "steps"))
        lines = [
            self._line("reward", 2, self.mean(self.reward)),
            self._line("own change alone", 6, self.mean(self.difference), dashed=True),
        ]
        note = "Mean over steps. A step that changes nothing may earn part of a later change; own changes of a trace add up to what its "
        figures.append(self._picture("Reward of steps", note + "thinking gains.", lines, "reward"))
        return [figure for figure in figures if figure.svg]

    def sentence(self) -> str:
        """What the steps of the last moment do, in numbers."""
        last = max(self.places)
        own = self.effect[self.moment == self.places[last]]
        if not len(own):
            return ""
        name = f"policy {last[0]}" if self.unit == "iteration" else f"round {last[1]} of iteration {last[0]}"
        parts = ", ".join(f"{(own == effect).mean():.1%} {word}" for effect, word in _WORDS.items())
        return f"Of the {_steps(len(own))} of {name}, {parts}."

    def agreement(self) -> Grid | None:
        """Numbers of steps by what the oracle and what accuracies say of them, all moments together; None where no oracle reads them."""
        if not self.read.any():
            return None
        counts = Counter(zip(self.truth[self.read], self.effect[self.read], strict=True))
        rows = [(_TRUE[true], *(f"{counts[true, said]:,}" for said in EFFECTS)) for true in EFFECTS]
        return Grid(("by the oracle", *(f"accuracies: {name}" for name, _ in EFFECTS.values())), tuple(rows), 1)

    def agreement_sentence(self) -> str:
        """Share of steps of which accuracies and oracle say the same; "" where no oracle reads them."""
        if not self.read.any():
            return ""
        share = pooled_share((self.truth == self.effect)[self.read], _compact(self.task[self.read]), self.confidence)
        return (
            f"Of {_steps(int(self.read.sum()))} that the oracle reads, accuracies of continuations say the same of {share.value:.1%} "
            f"[{share.low:.1%}, {share.high:.1%}]."
        )

    def _line(self, name: str, color: int, values: Sequence[Estimate], dashed: bool = False) -> Line:
        value, low, high = ([getattr(e, end) if e.n else None for e in values] for end in ("value", "low", "high"))
        return Line(name, list(self.places.values()), value, color, low, high, dashed=dashed)

    def _picture(self, title: str, note: str, lines: Sequence[Line], y_label: str, unit: bool = False) -> Figure:
        size = ceil(len(self.places) / MOST)
        if size > 1:
            note += f" Drawn are means over {size} {self.unit}s."
        cut = [thinned(line, MOST) for line in lines]
        return chart(title, note, cut, self.unit, y_label, unit=unit, boundaries=starts(self.places, self.unit))


_TRUE = {"helpful": "helpful", "ineffective": "changes nothing", "harmful": "harmful"}
_WORDS = {"helpful": "help", "ineffective": "change nothing", "harmful": "harm"}


def _steps(count: int) -> str:
    return f"{count:,} step{'' if count == 1 else 's'}"


def _compact(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same clusters, numbered from 0."""
    return np.unique(values, return_inverse=True)[1].reshape(-1)
