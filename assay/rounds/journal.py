"""Finished rounds of a fused iteration on disk: a killed iteration goes on after the last one that is complete.

scratch/rounds/0007 holds the tables of round 7 and, as long as a round may be started from it or sampled by it, `state`: policy and
trainer after it; where states are written now and then only, `sampled`, the policy alone. A round is written beside and renamed, so what is
found is whole.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from assay.trajectories import publish_folder, read_table, write_shard

TABLES = ("trajectories", "states", "turns", "tool_calls", "verdicts", "steps", "noise_estimates", "batches", "updates", "token_statistics")
"""Of each round, in the order in which they come about."""
STATE, ALONE = "state", "sampled"
ROWS_PER_SHARD = 65_536
"""Of the published tables: rounds are small, and few large files are what DVC and readers like."""


@dataclass(frozen=True)
class Journal:
    """Rounds of one iteration below a scratch folder."""

    scratch: Path
    max_staleness: int = 0
    """Rounds that the sampling policy may lag behind the trained one."""
    state_every: int = 1
    """Rounds from one state to the next."""

    def sampler_round(self, number: int) -> int:
        """The round whose policy the engine holds in round `number`: that one, or an older one where staleness is allowed."""
        return number - number % (self.max_staleness + 1)

    def folder(self, number: int) -> Path:
        return self.scratch / "rounds" / f"{number:04d}"

    def state(self, number: int) -> Path:
        """Policy and trainer after a round, as `models/K` holds them."""
        return self.folder(number) / STATE

    def policy(self, number: int) -> Path:
        """The policy after a round."""
        return (self.state(number) if self.state(number).is_dir() else self.folder(number) / ALONE) / "policy"

    def has_state(self, number: int, rounds: int) -> bool:
        """Whether the state after round `number` of `rounds` is written: of the last one always, as the next iteration starts from it."""
        return (number + 1) % self.state_every == 0 or number == rounds - 1

    def draft(self) -> Path:
        """An empty folder for the round in flight; what a killed run left in it is gone."""
        draft = self.scratch / "round-in-flight"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        return draft

    def completed(self) -> int:
        """How many rounds need not be played again, from the first on: the last of them has its state."""
        number = 0
        while self.folder(number).is_dir():
            number += 1
        while number and not self.state(number - 1).is_dir():
            number -= 1
        return number

    def forget_from(self, number: int) -> None:
        """Remove rounds that will be played again; the newest first, so that a kill leaves no gap."""
        for later in sorted((self.scratch / "rounds").glob("[0-9]*"), reverse=True):
            if int(later.name) >= number:
                shutil.rmtree(later)

    def commit(self, number: int, draft: Path, keep: Path | None = None) -> None:
        """Publish a round; then remove states that nothing needs any more, but not `keep`, which this process started from."""
        publish_folder(draft, self.folder(number))
        # What the next round starts from and is sampled by; what this one did, which goes only when a newer one is complete; and what a
        # process would go on from that finds the journal as it is now.
        starts = {number, number + 1, self.completed()}
        needed = {state for later in starts for state in (later - 1, self.sampler_round(later) - 1)}
        for old in range(number):
            if old not in needed and self.state(old) != keep:
                for name in (STATE, ALONE):
                    shutil.rmtree(self.folder(old) / name, ignore_errors=True)

    def tables(self, name: str, rounds: int) -> Iterator[pa.Table]:
        """A table of all rounds, in pieces of about ROWS_PER_SHARD rows; whole rounds, in their order."""
        pieces: list[pa.Table] = []
        for number in range(rounds):
            pieces.append(read_table(name, self.folder(number) / f"{name}.parquet"))
            if sum(map(len, pieces)) >= ROWS_PER_SHARD:
                yield pa.concat_tables(pieces)
                pieces = []
        if pieces:
            yield pa.concat_tables(pieces)

    def publish(self, rounds: int, out: Path, draft: Path) -> None:
        """All rounds' tables as shards in `out`, whole or not at all. `draft`: a folder on the same file system."""
        shutil.rmtree(draft, ignore_errors=True)
        for name in TABLES:
            for index, table in enumerate(self.tables(name, rounds)):
                write_shard(draft / f"{name}-{index:04d}.parquet", name, table)
        publish_folder(draft, out)
