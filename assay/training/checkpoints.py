"""Checkpoints inside one update, and the state that one update hands to the next."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from assay.params import Params
from assay.trajectories import sync_file, tree_digest

COMPLETE = "complete"
"""Marks a checkpoint all of whose files are on disk."""

STATE_FORMAT = 1


class StateError(ValueError):
    """A trainer state that does not belong to the policy or the parameters it is used with."""


class MarkComplete(TrainerCallback):
    """A checkpoint counts only once it is written whole: force its files to disk, then mark it."""

    def __init__(self, wait: Any) -> None:
        """wait: called first, returns when all processes have saved."""
        self.wait = wait

    def on_save(self, args: Any, state: Any, control: Any, **_others: Any) -> None:
        self.wait()
        if args.should_save:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    sync_file(file)
            (folder / COMPLETE).touch()
            sync_file(folder / COMPLETE)


def last_complete(folder: Path) -> Path | None:
    """The newest checkpoint that is complete. Half-written ones are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    complete = [path for path in found if (path / COMPLETE).is_file()]
    for path in found:
        if path not in complete:
            shutil.rmtree(path)
    return complete[-1] if complete else None


@dataclass(frozen=True)
class TrainerState:
    """state.json of a published `trainer` folder: what the optimizer state beside it belongs to."""

    global_step: int
    """Optimizer steps done in the whole run: the position in the schedule and the seed of the next step."""
    policy: str
    """Digest of the weights of the policy published with it."""
    lora: bool
    """The adapter's weights are here, and the base model's; the policy beside has them merged."""
    weights: bool
    """Float32 weights are here: the policy beside holds them in a shorter type."""
    format: int = STATE_FORMAT

    def write(self, folder: Path) -> None:
        text = json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"
        (folder / "state.json").write_text(text, encoding="utf-8")


def read_state(folder: Path, policy: Path, params: Params) -> TrainerState:
    """The state of a published `trainer` folder. Raises StateError where it belongs to another policy or kind of
    training."""
    file = folder / "state.json"
    if not file.is_file():
        raise StateError(f"{file}: missing; {folder} is not the trainer folder of an update")
    content = json.loads(file.read_text(encoding="utf-8"))
    if content.get("format") != STATE_FORMAT:
        raise StateError(f"{file}: format {content.get('format')}, expected {STATE_FORMAT}; run the update before it again")
    if not (folder / "scheduler.pt").is_file() or not any(folder.glob("optimizer*")):
        raise StateError(f"{folder}: holds no optimizer (optimizer.pt, scheduler.pt); run the update before it again")
    state = TrainerState(**content)
    if state.policy != weights_digest(policy):
        raise StateError(f"{folder} was published with other weights than those in {policy}; use the two of one update")
    if state.lora != (params.training.lora is not None):
        raise StateError(
            f"{folder} comes from {'a LoRA' if state.lora else 'a full'} update, but training.lora is "
            f"{'set' if params.training.lora else 'null'}: the kind of training cannot change within a run"
        )
    return state


def weights_digest(policy: Path) -> str:
    """Of the safetensors files of a policy folder: by it a trainer state knows the policy that it belongs to."""
    return tree_digest(sorted(policy.glob("*.safetensors")))
