"""Pre-training: a policy learns to continue plain texts, before it sees a demonstration."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from assay.params import Params
from assay.training.base import origin
from assay.training.beginnings import from_base, from_scratch
from assay.training.demonstrations import WarmStartError, batches, encode
from assay.training.supervised import load_checkpoint, make_optimizer, one_step, parts_of, rate_at, save_checkpoint
from assay.training.tokenizer import END_OF_TEXT
from assay.trajectories import publish_folder


def pretrain(
    params: Params,
    demonstrations: pa.Table,
    texts: pa.Table,
    out: Path,
    scratch: Path,
    report: Callable[[str], None] = lambda line: print(line, flush=True),
    base: Path | None = None,
    commit: str | None = None,
) -> dict[str, Any]:
    """Train on all texts and publish out/policy, in float32, and out/pretraining.json. Returns the summary.

    The tokenizer is made of demonstrations and texts, so that it serves what follows. base: folder of another model, which is fine-tuned
    and keeps its tokenizer and type (policy.dtype is for policy 0). commit: of the hub's model that it is. Raises WarmStartError without
    texts.
    """
    if not len(texts):
        raise WarmStartError("there are no texts to pre-train on: raise tasks.texts, or set warm_start.pretraining.max_steps to 0")
    options, written = params.warm_start.pretraining, texts["text"].to_pylist()
    if base is None:
        start = from_scratch(params, demonstrations.to_pylist(), [f"{text}{END_OF_TEXT}" for text in written])
    else:
        start = from_base(params, base, "warm_start.pretraining", options)
    plain = [f"{text}{start.end_of_text}" for text in written]
    keys = [f"(text {n})" for n in range(len(plain))]
    data = encode(start.tokenizer, [""] * len(plain), plain, start.limit, keys, start.start_ids)
    model = start.model
    optimizer, checkpoint = make_optimizer(model, options), scratch / "checkpoint.pt"
    step, losses = 0, []
    if state := load_checkpoint(checkpoint, model, optimizer):
        step, losses = state["step"], state["losses"]
        report(f"pre-training: going on from step {step}")
    model.train()
    recent: list[float] = []
    for batch in batches(data, options.batch_size, params.seed, step):
        if step >= options.max_steps:
            break
        start.seed(params.seed, "pretraining", step)
        parts = parts_of(batch, data, options.micro_batch_size)
        recent.append(one_step(start.network, optimizer, rate_at(step, options), parts, start.mixed))
        step += 1
        if step % options.report_every == 0 or step == options.max_steps:
            losses.append({"step": step, "loss": round(sum(recent) / len(recent), 6)})
            recent = []
            report(f"pre-training: step {step}/{options.max_steps}, loss {losses[-1]['loss']:.3f} nats")
            save_checkpoint(checkpoint, model, optimizer, step=step, losses=losses)
    summary = {"texts": len(plain), "steps": step, "losses": losses} | origin(params, commit)
    draft = scratch / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    start.save(draft / "policy", "float32")
    publish(draft, summary, out)
    return summary


def publish(draft: Path, summary: dict[str, Any], out: Path) -> None:
    """out/pretraining.json, beside what the draft holds already."""
    draft.mkdir(parents=True, exist_ok=True)
    (draft / "pretraining.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    publish_folder(draft, out)
