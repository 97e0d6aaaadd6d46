"""What a person sees of an update while it runs: a line for each optimizer step, and DVCLive's curves."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback


class Progress(TrainerCallback):
    """One line for each optimizer step, on the main process."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self.report = report
        self.clock = time.perf_counter()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_others: Any) -> None:
        self.clock = time.perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_others: Any) -> None:
        if not state.is_world_process_zero or not logs or "step_of_iteration" not in logs:
            return
        seconds = time.perf_counter() - self.clock
        divergence = f", divergence {logs['divergence']:.4f}" if "divergence" in logs else ""
        self.report(
            f"optimizer step {state.global_step} of {state.max_steps}: loss {logs['loss']:+.4f}, entropy "
            f"{logs['entropy']:.3f}{divergence}, gradient norm {logs['grad_norm']:.3f}, {logs['rows']:,.0f} rows, "
            f"{logs['tokens'] / seconds:,.0f} tokens/s"
        )


def dvclive_callback(folder: Path, *, resumed: bool) -> TrainerCallback:
    """DVCLive through the callback that transformers ships, with its files in `folder` and nothing else touched."""
    from dvclive import Live
    from transformers.integrations import DVCLiveCallback

    live = Live(dir=str(folder), resume=resumed, report=None, save_dvc_exp=False, dvcyaml=None)
    return DVCLiveCallback(live=live)
