"""The gates over sampled answers and their verdicts: those of presamples, of a batch before it is made, and of the last policy."""

import json
from pathlib import Path

import pyarrow as pa

from assay.params import Params
from assay.trajectories import Limits, run_gate

TEXT_CONFIGS = ("text_config", "decoder", "generator", "text_encoder")
"""Keys under which a composite model's config.json has that of its language model, as transformers looks for it."""


def limits_of(params: Params, policy: Path) -> Limits:
    """What the numbers of a run with these parameters are compared with. policy: the folder of the one that sampled."""
    own, size = params.self_verification, params.sampling.group_size
    critiques = (own.group_size or size) if own.share else None
    return Limits(
        abstain=params.verification.abstain_limit, group_size=size, critique_group_size=critiques, vocabulary=vocabulary_of(policy)
    )


def vocabulary_of(policy: Path) -> int | None:
    """Rows of the policy's embedding, which every token id lies below; None where its folder does not say, so that nothing is checked."""
    try:
        config = json.loads((policy / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # who loads the policy says so
        return None
    text = next((config[key] for key in TEXT_CONFIGS if isinstance(config.get(key), dict)), config) if isinstance(config, dict) else {}
    size = text.get("vocab_size")
    return size if isinstance(size, int) and size > 0 else None


def check_answers(tasks: pa.Table, trajectories: pa.Table, verdicts: pa.Table, limits: Limits, gates: Path) -> None:
    """The gates `trajectories` and `verdicts`, with a line for each. gates: folder for data docs. Raises GateError."""
    print(run_gate("trajectories", {"trajectories": trajectories, "tasks": tasks}, gates / "trajectories", limits), flush=True)
    whole = {"verdicts": verdicts, "trajectories": trajectories, "tasks": tasks}
    print(run_gate("verdicts", whole, gates / "verdicts", limits), flush=True)
