"""GRPOConfig of one update, from our parameters: one value, one place."""

from pathlib import Path
from typing import Any

import torch

from assay.params import Params
from assay.params.grpo import check_grpo_fields
from assay.training.policies import precision
from assay.training.trl_surface import GRPOConfig


def grpo_config(params: Params, policy: Path, output: Path) -> GRPOConfig:
    """The configuration under which `policy` is trained; checkpoints go to `output`. Raises ValueError for a refused
    field."""
    training = params.training
    check_grpo_fields(training.grpo)
    mixed = precision(policy, params)
    # Defaults that a user may overrule in training.grpo.
    choices: dict[str, Any] = {
        "bf16": mixed == "bfloat16",
        "fp16": mixed == "float16",
        "gradient_checkpointing": False,  # TRL's default is true: a fifth slower; smaller micro-batches save memory too
        "log_level": "error",
        "use_cpu": not torch.cuda.is_available(),
        **training.grpo,
    }
    # DVCLive is added by hand, so that its files lie where the caller says.
    reports = choices.pop("report_to", [])
    reports = [reports] if isinstance(reports, str) else list(reports)
    choices["report_to"] = [name for name in reports if name not in ("dvclive", "none")]
    return GRPOConfig(
        output_dir=str(output),
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        adam_beta1=training.adam_betas[0],
        adam_beta2=training.adam_betas[1],
        max_grad_norm=training.max_gradient_norm,
        temperature=params.sampling.temperature,
        max_completion_length=params.sampling.max_tokens,
        seed=params.seed,
        num_train_epochs=1,
        logging_strategy="steps",
        logging_steps=1,
        save_strategy="steps",
        save_steps=training.checkpoint_every,
        save_total_limit=2,  # the one before stays until the newer one is marked complete
        disable_tqdm=True,
        remove_unused_columns=False,
        # Our loader gives one item for each optimizer step; the two below only satisfy GRPOConfig's own checks.
        gradient_accumulation_steps=1,
        per_device_train_batch_size=2,
        num_generations=2,
        **choices,
    )


def wants_dvclive(params: Params) -> bool:
    """Unless training.grpo.report_to names other places only."""
    reports = params.training.grpo.get("report_to", "dvclive")
    return "dvclive" in ([reports] if isinstance(reports, str) else reports)
