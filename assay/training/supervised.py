"""What every supervised run shares: the learning rate, one optimizer step, and a checkpoint that a kill leaves whole."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.params.policy import SupervisedParams
from assay.training.demonstrations import IGNORED, Demonstrations, by_width
from assay.trajectories import sync_file

Parts = Sequence[tuple[Any, Any]]
"""Ids and labels, (rows, width) each, of the parts of a batch."""


def make_optimizer(model: Any, options: SupervisedParams) -> Any:
    """AdamW over what is trained: of a model with an adapter, the adapter alone."""
    import torch

    trained = [one for one in model.parameters() if one.requires_grad]
    return torch.optim.AdamW(trained, lr=options.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)


def rate_at(step: int, options: SupervisedParams) -> float:
    """Learning rate of a step: linear warm-up, then constant."""
    return options.learning_rate * min(1.0, (step + 1) / max(1, options.warmup_steps))


def parts_of(batch: np.ndarray, rows: Demonstrations, most: int | None = None) -> Parts:
    """The rows of a batch, those of similar width together. most: rows of a part."""
    import torch

    ids, labels = torch.from_numpy(rows.ids), torch.from_numpy(rows.labels)
    parts = []
    pieces = (part[i : i + (most or len(part))] for part in by_width(batch, rows.lengths) for i in range(0, len(part), most or len(part)))
    for chosen in pieces:
        width, index = int(rows.lengths[chosen].max()), torch.from_numpy(chosen)
        parts.append((ids[index, :width], labels[index, :width]))
    return parts


def one_step(model: Any, optimizer: Any, rate: float, parts: Parts, mixed: str | None = None) -> float:
    """One optimizer step on a batch. Returns the mean loss of the tokens that bear it, nats. mixed: type of mixed-precision arithmetic."""
    import torch

    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    counts = [int((labels[:, 1:] != IGNORED).sum()) for _, labels in parts]
    total = 0.0
    for (ids, labels), count in zip(parts, counts, strict=True):
        ids, wanted = ids.to(model.device), labels[:, 1:].to(model.device)
        bears_loss = wanted != IGNORED
        with torch.autocast(model.device.type, dtype=getattr(torch, mixed or "bfloat16"), enabled=mixed is not None):
            logits = _logits(model, ids, bears_loss)
        loss = torch.nn.functional.cross_entropy(logits.float(), wanted[bears_loss])
        share = count / sum(counts)
        (loss * share).backward()
        total += float(loss.detach()) * share
    torch.nn.utils.clip_grad_norm_([one for group in optimizer.param_groups for one in group["params"]], 1.0)
    optimizer.step()
    return total


def _logits(model: Any, ids: Any, bears_loss: Any) -> Any:
    """Of the tokens that bear loss. Padding lies on the right and attention is causal, so that no mask is needed. Where the head is known
    to be nothing but a product, it is computed only there."""
    if type(model).__name__ == "Qwen3ForCausalLM":
        return model.lm_head(model.model(input_ids=ids).last_hidden_state[:, :-1][bears_loss])
    return model(input_ids=ids).logits[:, :-1][bears_loss]


def save_checkpoint(file: Path, model: Any, optimizer: Any, **more: Any) -> None:
    """By rename: a kill leaves the last one whole. Of a model with an adapter only what is trained."""
    import torch

    temporary = file.with_suffix(".partial")
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    adapted = len(trained) < sum(1 for _ in model.parameters())
    torch.save({"model": trained if adapted else model.state_dict(), "optimizer": optimizer.state_dict(), **more}, temporary)
    sync_file(temporary)
    os.replace(temporary, file)


def load_checkpoint(file: Path, model: Any, optimizer: Any) -> dict[str, Any] | None:
    """Put model and optimizer back; what else was saved, None where there is no checkpoint."""
    import torch

    if not file.is_file():
        return None
    state = torch.load(file, weights_only=True, map_location="cpu")
    model.load_state_dict(state.pop("model"), strict=all(value.requires_grad for value in model.parameters()))
    optimizer.load_state_dict(state.pop("optimizer"))
    found: dict[str, Any] = state
    return found
