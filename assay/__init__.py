"""Assay: reinforcement learning with verifiable, but imperfect, rewards. See docs/ and the README."""

import os

# Nothing is reported to anybody: the libraries below send usage data unless told not to. Set before any of them is imported;
# a value that the user has set stays.
for _variable, _value in {
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}.items():
    os.environ.setdefault(_variable, _value)

# Threads of torch wait asleep: with the default they spin, and where another process wants the cores as well, an update or a
# sampling step takes six to fifteen times as long (measured on two cores). Read once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
