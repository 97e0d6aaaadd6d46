"""Prefect: when stages run, what is retried, what is shown. No science, and nothing heavy is imported."""

import os

import assay  # noqa: F401  usage reports are switched off before Prefect is imported

# Prefect's temporary server makes its database at the first start: on two busy cores that takes longer than its 20 s.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
