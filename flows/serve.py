"""Serve the flow on a schedule: `python -m flows.serve --cron "0 3 * * *"`, beside a running Prefect server.

A run that falls due while another one is at work ends as Skipped: the one at work brings everything up to date. The
lock on the workspace decides that, not a concurrency limit of the deployment: its slot stays taken for ever when the
Prefect server and a run are killed together.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import EntrypointType
from prefect.settings import PREFECT_API_URL

from assay.cli import PERSON_MUST_ACT
from flows.pipeline import pipeline


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted; the schedule is paused then. Exit code 2 where no Prefect server is named."""
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description=(__doc__ or "").splitlines()[0])
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--cron", metavar="CRON", help='such as "0 3 * * *": every night at three')
    when.add_argument("--interval", type=float, metavar="SECONDS", help="time from one start to the next")
    parser.add_argument("--timezone", default="UTC", help="of the cron schedule, such as Europe/Paris (default: UTC)")
    parser.add_argument("--root", type=Path, default=Path(), help="project folder (default: here)")
    parser.add_argument("--name", default="pipeline", help="name of the deployment (default: pipeline)")
    chosen = parser.parse_args(argv)
    try:
        schedule = CronSchedule(cron=chosen.cron, timezone=chosen.timezone) if chosen.cron else None
    except ValueError as error:
        parser.error(f"--cron {chosen.cron!r}, --timezone {chosen.timezone!r}: {error}")
    if chosen.interval is not None and chosen.interval <= 0:
        parser.error(f"--interval {chosen.interval:g}: expected more than 0 seconds")
    if not PREFECT_API_URL.value():
        print(
            "error: no Prefect server to keep the schedule: start one with `prefect server start` and name it, e.g. "
            "PREFECT_API_URL=http://127.0.0.1:4200/api",
            file=sys.stderr,
        )
        return PERSON_MUST_ACT
    pipeline.serve(
        name=chosen.name,
        schedule=schedule,
        interval=chosen.interval,
        parameters={"root": str(chosen.root.resolve()), "skip_if_busy": True},
        entrypoint_type=EntrypointType.MODULE_PATH,
        limit=2,  # one at work and one that finds it there, also when many are overdue after a pause
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
