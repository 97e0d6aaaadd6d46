"""The policy before policy 0, where pre-training is asked for. The body of the stage `pretrain`."""

from pathlib import Path
from typing import Any

from assay.params import Params
from assay.trajectories import read_table


def pretrained_policy(params: Params, tasks: Path, out: Path, scratch: Path) -> dict[str, Any]:
    """A policy in out/policy that has read plain texts, none where that is left out or `policy.base` is not to be fine-tuned. Returns its
    summary."""
    from assay.training.base import copy_base
    from assay.training.pretrain import pretrain, publish

    if not params.supervises or params.warm_start.pretraining.max_steps == 0:
        summary: dict[str, Any] = {"texts": 0, "steps": 0, "losses": []}
        publish(scratch / "draft", summary, out)
        return summary
    base = commit = None
    if params.policy.base is not None:
        base = scratch / "base"
        commit = copy_base(params, base)
    demonstrations, texts = (read_table(name, tasks / f"{name}.parquet") for name in ("demonstrations", "texts"))
    return pretrain(params, demonstrations, texts, out, scratch, base=base, commit=commit)
