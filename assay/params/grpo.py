"""Which fields of TRL's GRPOConfig may be set in training.grpo, and which of our own parameters replaces the others."""

import difflib
from collections.abc import Mapping
from typing import Any

# Speed, memory, precision, logging and distribution: what an update on stored trajectories really uses.
ALLOWED: frozenset[str] = frozenset({
    "accelerator_config", "adam_epsilon", "bf16", "cast_lm_head_to_fp32", "ddp_backend", "ddp_broadcast_buffers",
    "ddp_bucket_cap_mb", "ddp_find_unused_parameters", "ddp_static_graph", "ddp_timeout", "debug", "disable_dropout",
    "fsdp", "fsdp_config", "full_determinism", "gradient_checkpointing", "gradient_checkpointing_kwargs", "log_level",
    "log_level_replica", "log_on_each_node", "model_init_kwargs", "neftune_noise_alpha", "optim", "optim_args",
    "optim_target_modules", "project", "report_to", "run_name", "tf32", "torch_compile", "torch_compile_backend",
    "torch_compile_mode", "torch_empty_cache_steps", "trackio_bucket_id", "trackio_space_id",
    "trackio_static_space_id", "trust_remote_code", "use_cpu",
})  # fmt: skip

# Field of GRPOConfig -> why an update refuses it, and what to do instead.
REFUSED: dict[str, str] = {
    "deepspeed": "DeepSpeed keeps the optimizer in a layout that the next update cannot take over: leave it out and use "
    "`accelerate launch` with DDP, or training.lora where memory is short",
    "fp16": "its gradient scaler skips optimizer steps, after which schedule and stored steps disagree: set bf16 instead",
}

# Field of GRPOConfig -> the parameter of ours that says the same.
OWNED: dict[str, str] = {
    "adam_beta1": "training.adam_betas",
    "adam_beta2": "training.adam_betas",
    "beta": "training.divergence.coefficient",
    "delta": "training.loss.dual_clip",
    "entropy_coef": "training.entropy_bonus",
    "epsilon": "training.loss.clip_low",
    "epsilon_high": "training.loss.clip_high",
    "generation_batch_size": "sampling.tasks_per_iteration and sampling.group_size",
    "gradient_accumulation_steps": "training.steps_per_iteration and training.micro_batch_size",
    "learning_rate": "training.learning_rate",
    "loss_type": "training.loss.aggregation",
    "lr_scheduler_type": "training.schedule",
    "mask_truncated_completions": "filter.truncated",
    "max_completion_length": "sampling.max_tokens",
    "max_grad_norm": "training.max_gradient_norm",
    "max_steps": "iterations and training.steps_per_iteration",
    "num_generations": "sampling.group_size",
    "num_train_epochs": "iterations",
    "per_device_train_batch_size": "training.micro_batch_size",
    "save_steps": "training.checkpoint_every",
    "scale_rewards": "training.advantage",
    "seed": "seed",
    "steps_per_generation": "training.steps_per_iteration",
    "temperature": "sampling.temperature",
    "top_p": "sampling.top_p",
    "vllm_importance_sampling_cap": "training.importance.cap",
    "vllm_importance_sampling_clip_max": "training.importance.cap",
    "vllm_importance_sampling_correction": "training.importance.mode",
    "vllm_importance_sampling_mode": "training.importance.mode",
    "warmup_steps": "training.warmup_steps",
    "weight_decay": "training.weight_decay",
}


def check_grpo_fields(fields: Mapping[str, Any]) -> None:
    """Raises ValueError with one clear sentence for the first field that an update cannot use."""
    for name in fields:
        if name in ALLOWED:
            continue
        if name in REFUSED:
            if fields[name]:
                raise ValueError(f"training.grpo.{name}: {REFUSED[name]}")
            continue  # false or null: what it is anyway
        if name in OWNED:
            raise ValueError(f"training.grpo.{name} is set by {OWNED[name]}: set that instead")
        close = difflib.get_close_matches(name, ALLOWED, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ValueError(
            f"training.grpo.{name} is not a field of GRPOConfig that an update on stored trajectories uses (sampling, "
            f"rewards and evaluation are stages of their own); {hint}usable are {', '.join(sorted(ALLOWED))}"
        )
