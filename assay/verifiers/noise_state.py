"""What the estimates of one iteration hand to the next: moving averages, and counts of the judge's own errors.

A small JSON file beside each policy. Python writes a float with as many digits as it needs, so that reading gives the same bits and
a resumed run goes on exactly.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

Key = tuple[str, str]
"""(environment, verifier)."""
FILE = Path("noise/state.json")
"""Beside a policy, in its model folder."""


@dataclass(frozen=True)
class Average:
    """Of one environment and verifier. None: no estimate yet."""

    false_negative: float | None = None
    false_positive: float | None = None
    deviation: float | None = None
    """Of observed rewards."""
    right_accepted: int = 0
    """Answers that an oracle calls right and the judge accepted; the others likewise. Of all iterations so far."""
    right_judged: int = 0
    wrong_accepted: int = 0
    wrong_judged: int = 0


@dataclass(frozen=True)
class NoiseState:
    """All averages. `NoiseState()` is that of policy 0."""

    averages: dict[Key, Average] = field(default_factory=dict)

    def to_json(self) -> str:
        rows = [{"environment": key[0], "verifier": key[1], **asdict(value)} for key, value in sorted(self.averages.items())]
        return json.dumps(rows, indent=1, sort_keys=True) + "\n"

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "NoiseState":
        """From a file that `write` made. Raises ValueError, naming it, for anything else."""
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
            return cls({(row.pop("environment"), row.pop("verifier")): Average(**row) for row in rows})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path}: not a state of noise estimates ({error}); run the stage that makes it again") from error
