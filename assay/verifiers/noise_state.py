"""What the estimates of one iteration hand to the next: moving averages, and counts of the judge's own errors.

A small JSON file for each iteration. Python writes a float with as many digits as it needs, so that reading gives the same bits and
a resumed run goes on exactly.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

Key = tuple[str, str]
"""(environment, verifier)."""
FILE = "state.json"
"""Its name in data/noise/K: what iteration K finds. (Not beside the policies: to measure a rule makes no policy anew.)"""
Counts = tuple[float, float]
"""(false negatives, accepted right answers), or (false positives, rejected wrong ones); of one batch any may be below 0."""
COUNTS = ("negative", "positive")
"""Of an average: in the file only where the judge errs."""
Judged = tuple[int, int, int, int]
"""Right answers that the judge accepts, right ones judged, wrong ones accepted, wrong ones judged."""


@dataclass(frozen=True)
class Average:
    """Of one environment and verifier. None: no estimate yet."""

    false_negative: float | None = None
    false_positive: float | None = None
    deviation: float | None = None
    """Of observed rewards."""
    appealed: Judged = (0, 0, 0, 0)
    """Of appealed answers that an oracle decides too, in all iterations so far."""
    audited: Judged = (0, 0, 0, 0)
    """Likewise of audited ones, which are answers of another kind: the rule has accepted them."""
    negative: Counts | None = None
    """Where the judge errs: averages of false negatives and of accepted right answers, as one batch may give less than none of them.
    `false_negative` is the rate that follows."""
    positive: Counts | None = None
    """Likewise of false positives and of rejected wrong answers."""


@dataclass(frozen=True)
class NoiseState:
    """All averages. `NoiseState()` is that of policy 0."""

    averages: dict[Key, Average] = field(default_factory=dict)

    def to_json(self) -> str:
        rows = []
        for key, value in sorted(self.averages.items()):
            known = {name: held for name, held in asdict(value).items() if held is not None or name not in COUNTS}
            rows.append({"environment": key[0], "verifier": key[1], **known})
        return json.dumps(rows, indent=1, sort_keys=True) + "\n"

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "NoiseState":
        """From a file that `write` made. Raises ValueError, naming it, for anything else."""
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
            for row in rows:
                row |= {name: tuple(map(int, row[name])) for name in ("appealed", "audited")}
                row |= {name: tuple(map(float, row[name])) for name in COUNTS if name in row}
            return cls({(row.pop("environment"), row.pop("verifier")): Average(**row) for row in rows})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path}: not a state of noise estimates ({error}); run the stage that makes it again") from error
