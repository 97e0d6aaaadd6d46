"""The learning rate as a function of the optimizer step over the whole run."""

import math

from assay.params.training import TrainingParams


def learning_rate_factor(step: int, training: TrainingParams) -> float:
    """What training.learning_rate is multiplied by at optimizer step `step` (from 0). Linear warm-up, then the
    schedule.

    linear and cosine fall from 1 at the end of the warm-up to 0 at total_steps, and stay there. While the critic alone learns
    (training.critic.warmup_steps) it is 0; the policy's warm-up follows.
    """
    alone = 0 if training.critic is None else training.critic.warmup_steps
    if step < alone:
        return 0.0
    begun = alone + training.warmup_steps
    if step < begun:
        return (step - alone + 1) / (training.warmup_steps + 1)
    if training.schedule == "constant" or training.total_steps is None:
        return 1.0
    whole = max(training.total_steps - begun, 1)
    progress = min((step - begun) / whole, 1.0)
    return 1 - progress if training.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
