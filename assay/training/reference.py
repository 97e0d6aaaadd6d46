"""Log-probabilities of stored rows under a policy in a folder, by the training engine: policy 0's, or the sampling
policy's."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from assay.params import Params
from assay.training.ragged import Ragged, Streams


def compute_logprobs(
    folder: Path, streams: Streams, params: Params, progress: Callable[[str], None] = lambda line: None
) -> Ragged:
    """float32 nats of every completion token at sampling.temperature; rows without a completion stay empty.

    The forward pass is that of the update (precision and micro-batches from `training`), so that a policy's
    log-probabilities of its own samples agree with those of the update's first pass.
    """
    import torch

    from assay.training.batching import chunks, pack
    from assay.training.forward import completion_likelihood
    from assay.training.policies import load_model, precision

    device = "cuda" if torch.cuda.is_available() and not params.training.grpo.get("use_cpu") else "cpu"
    model = load_model(folder, params).to(device).eval()
    mixed = precision(folder, params)
    autocast = nullcontext() if mixed is None else torch.autocast(device, dtype=getattr(torch, mixed))
    values = np.zeros(len(streams.completions.values), dtype=np.float32)
    done, total = 0, int((streams.completions.lengths > 0).sum())
    with torch.no_grad(), autocast:
        for rows in chunks(streams, params.training.micro_batch_size):
            tokens = pack(streams, rows).to(device)
            likelihood, _ = completion_likelihood(
                model, model.get_output_embeddings(), tokens, params.sampling.temperature
            )
            flat = likelihood[tokens.present].cpu().numpy()
            offsets, lengths = streams.completions.offsets[:-1][rows], streams.completions.lengths[rows]
            starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
            values[np.repeat(offsets - starts, lengths) + np.arange(lengths.sum())] = flat
            done += len(rows)
            progress(f"log-probabilities under {folder}: {done:,} of {total:,} rows")
    return Ragged(values, streams.completions.offsets)


def needs_reference(params: Params) -> bool:
    """Whether a term asks for policy 0's log-probabilities of what was sampled."""
    rehearsal = params.training.rehearsal
    definition = rehearsal is not None and rehearsal.coefficient > 0 and rehearsal.generator == "js_definition"
    return params.training.divergence.coefficient > 0 or params.rewards.reference_penalty > 0 or definition
