"""Serve the flow on a schedule: `python -m flows.serve --cron "0 3 * * *"`, beside a running Prefect server.

A run that falls due while another one is at work is cancelled, not queued: the one at work brings everything up to date.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
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
    if not PREFECT_API_URL.value():
        print(
            "error: no Prefect server to keep the schedule: start one with `prefect server start` and name it, e.g. "
            "PREFECT_API_URL=http://127.0.0.1:4200/api",
            file=sys.stderr,
        )
        return PERSON_MUST_ACT
    pipeline.serve(
        name=chosen.name,
        schedule=CronSchedule(cron=chosen.cron, timezone=chosen.timezone) if chosen.cron else None,
        interval=chosen.interval,
        parameters={"root": str(chosen.root.resolve())},
        global_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
