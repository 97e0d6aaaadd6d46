"""GRPOConfig of one update, from our parameters: one value, one place."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from assay.params import Params
from assay.params.grpo import REFUSED, check_grpo_fields
from assay.training.policies import precision
from assay.training.trl_surface import GRPOConfig


class LaunchError(ValueError):
    """Options of `accelerate launch` under which an update cannot train. The message says which, and what to do."""


def grpo_config(
    params: Params, policy: Path, output: Path, progress: Callable[[str], None] = lambda line: None
) -> GRPOConfig:
    """The configuration under which `policy` is trained; checkpoints go to `output`. Raises ValueError for a refused
    field, LaunchError for a launch that does not fit."""
    training = params.training
    check_grpo_fields(training.grpo)
    mixed = precision(policy, params)
    _check_launch(mixed, params)
    # Defaults that a user may overrule in training.grpo.
    choices: dict[str, Any] = {
        "bf16": mixed == "bfloat16",
        "gradient_checkpointing": False,  # TRL's default is true: a fifth slower; smaller micro-batches save memory too
        "log_level": "error",
        "use_cpu": not torch.cuda.is_available(),
        **training.grpo,
    }
    # DVCLive is added by hand, so that its files lie where the caller says.
    reports = choices.pop("report_to", [])
    reports = [reports] if isinstance(reports, str) else list(reports)
    choices["report_to"] = [name for name in reports if name not in ("dvclive", "none")]
    config = GRPOConfig(
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
    if config.n_gpu > 1:
        # Trainer would wrap the model in nn.DataParallel, which splits tensors that are not rows; TRL refuses to start.
        progress(f"{config.n_gpu} GPUs seen, one used: start with accelerate launch to use them all")
        config._n_gpu = 1
    return config


def _check_launch(mixed: str | None, params: Params) -> None:
    """Raises LaunchError where the environment that `accelerate launch` sets would overrule our parameters, or could not be published."""
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true":
        raise LaunchError(f"accelerate launch was asked for DeepSpeed: {REFUSED['deepspeed']}")
    sharded = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true" or bool(params.training.grpo.get("fsdp"))
    if sharded and params.training.lora is not None:
        raise LaunchError(
            "FSDP was asked for, and training.lora: an adapter cannot be merged into weights that are divided among processes; start "
            "accelerate launch with DDP (--multi_gpu), or set training.lora to null"
        )
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    own = "bf16" if mixed else "no"
    if asked not in ("no", own):
        raise LaunchError(
            f"accelerate launch was asked for mixed precision {asked}, but the parameters say {own}: start it with "
            "--mixed_precision no; training.grpo.bf16 decides, and else the type of the policy"
        )


def wants_dvclive(params: Params) -> bool:
    """Unless training.grpo.report_to names other places only."""
    reports = params.training.grpo.get("report_to", "dvclive")
    return "dvclive" in ([reports] if isinstance(reports, str) else reports)
