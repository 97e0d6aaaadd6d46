"""What a person sees of a fused round: one line, and the same numbers for DVCLive."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class RoundReport:
    """Numbers of one round."""

    iteration: int
    round: int
    rounds: int
    reward: float
    """Mean over rows offered to training on which the rule decided."""
    kept: float
    """Share of rows that were trained on."""
    false_negative_rate: float | None
    """Of the rule, over all environments, weighted by right answers; None where none was right."""
    entropy: float | None
    """None where nothing was trained on, as all groups have equal rewards."""
    divergence: float | None
    tokens: int
    """Sampled."""
    seconds: Mapping[str, float]
    """By part."""

    @classmethod
    def of(
        cls, iteration: int, number: int, rounds: int, batches: pa.Table, estimates: pa.Table, updates: pa.Table,
        trajectories: pa.Table, seconds: Mapping[str, float],
    ) -> "RoundReport":  # fmt: skip
        """From the tables of a round."""
        sampled = batches.filter(pc.invert(batches["rehearsal"]))
        return cls(
            iteration, number, rounds,
            reward=pc.mean(batches["reward"]).as_py() or 0.0,
            kept=pc.mean(pc.cast(sampled["kept"], "float64")).as_py() or 0.0,
            false_negative_rate=pooled_false_negative_rate(estimates),
            entropy=pc.mean(updates["entropy"]).as_py(),
            divergence=pc.mean(updates["divergence"]).as_py(),
            tokens=pc.sum(pc.list_value_length(trajectories["completion_ids"])).as_py() or 0,
            seconds=dict(seconds),
        )  # fmt: skip

    @property
    def tokens_per_second(self) -> float:
        spent = self.seconds.get("sample", 0.0) + self.seconds.get("sample further", 0.0)
        return self.tokens / spent if spent else 0.0

    def __str__(self) -> str:
        rate = "–" if self.false_negative_rate is None else f"{self.false_negative_rate:.3f}"
        entropy = "no update" if self.entropy is None else f"entropy {self.entropy:.3f}"
        divergence = "" if self.divergence is None else f", divergence {self.divergence:.4f}"
        parts = ", ".join(f"{name} {value:.2f}" for name, value in self.seconds.items() if value >= 0.005)
        return (
            f"round {self.round + 1} of {self.rounds}: reward {self.reward:.3f}, kept {self.kept:.0%}, false negatives {rate}, "
            f"{entropy}{divergence}, {self.tokens_per_second:,.0f} tokens/s, "
            f"{sum(self.seconds.values()):.2f} s ({parts})"
        )

    def metrics(self) -> dict[str, float]:
        """For DVCLive."""
        values = {
            "reward": self.reward, "kept": self.kept, "entropy": self.entropy, "false_negative_rate": self.false_negative_rate,
            "divergence": self.divergence, "tokens_per_second": self.tokens_per_second,
        }  # fmt: skip
        values |= {f"seconds/{name}": value for name, value in self.seconds.items()}
        return {name: value for name, value in values.items() if value is not None}


def pooled_false_negative_rate(estimates: pa.Table) -> float | None:
    """Estimated false negatives over estimated right answers, all environments together."""
    missed = right = 0.0
    for row in estimates.to_pylist():
        if row["false_negative_rate"]:
            missed += row["false_negatives"]
            right += row["false_negatives"] / row["false_negative_rate"]
        elif row["false_negative_rate"] is not None:
            right += row["rule_positives"] * (1 - (row["false_positive_rate"] or 0.0))
    return missed / right if right else None


def live_watch(folder: Path, first: int, report: Callable[[str], None]) -> Callable[[RoundReport], None]:
    """Prints each round's line and logs its numbers with DVCLive in `folder`. `first`: the round that comes first."""
    from dvclive import Live

    _forget_from(folder, first)
    live = Live(dir=str(folder), resume=first > 0, report=None, save_dvc_exp=False, dvcyaml=None)

    def watch(done: RoundReport) -> None:
        report(str(done))
        live.step = done.round
        for name, value in done.metrics().items():
            live.log_metric(name, value)
        live.make_summary()

    return watch


def _forget_from(folder: Path, first: int) -> None:
    """Take out what an earlier run logged of rounds that are played again."""
    for file in folder.rglob("*.tsv"):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        where = lines[0].rstrip("\r\n").split("\t").index("step") if lines else 0
        kept = [line for number, line in enumerate(lines) if number == 0 or int(line.split("\t")[where]) < first]
        if kept != lines:
            file.write_text("".join(kept), encoding="utf-8")
