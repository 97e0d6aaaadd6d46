"""Everything private of TRL, transformers and accelerate that the trainer relies on, in one place. TRL is pinned
exactly.

What GRPOTrainer does itself is sampling, scoring, its own loss and its own batches; here it is given finished
batches. Kept are its configuration, optimizer, precision, distribution, logging and checkpoints. Overridden or used
of what is not public:

- `trl.import_utils.is_vllm_available`: answers no while TRL is imported. TRL would import vLLM, which costs many
  seconds and sets up worker processes, for generation that never happens here.
- `GRPOTrainer._prepare_inputs` and `_generate_and_score_completions`: would sample.
- `GRPOTrainer._metrics["train"]`: values to be logged at the next log.
- `Trainer.training_step`, called past GRPOTrainer's (which counts steps of a generation batch).
- `Trainer._load_optimizer_and_scheduler` and `_save_optimizer_and_scheduler`: the only code that knows how DDP and
  FSDP store an optimizer; called with our own folders.
- `TrainingArguments._n_gpu` (in grpo.py): 1, so that no nn.DataParallel is made.
- `accelerator.gradient_state._set_sync_gradients`: as Trainer does between micro-batches.
- `_original_forward` of a model that accelerate prepared for mixed precision: put back, see `keep_logits_short`.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import trl
from trl import import_utils

TRL_VERSION = "1.16.0"

if trl.__version__ != TRL_VERSION:
    raise ImportError(
        f"TRL {trl.__version__} is installed, but the trainer relies on private parts of {TRL_VERSION}: "
        f"pip install trl=={TRL_VERSION}"
    )

_answer = import_utils.is_vllm_available
import_utils.is_vllm_available = lambda min_version=None: False
try:
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer
finally:
    import_utils.is_vllm_available = _answer

__all__ = ["GRPOConfig", "StoredTrainer"]


def _never(**_arguments: Any) -> list[float]:
    raise RuntimeError("rewards come from stored verdicts; the trainer computes none")


class StoredTrainer(GRPOTrainer):
    """GRPOTrainer without sampling: its inputs are micro-batches that a subclass supplies.

    A subclass defines `get_train_dataloader`, whose items are dictionaries with `micro_batches`, one item for each
    optimizer step, and `compute_loss(model, micro_batch, ...)`, whose losses add up to the loss of the step.
    """

    def __init__(self, model: Any, args: GRPOConfig, processing_class: Any) -> None:
        from datasets import Dataset

        # GRPOTrainer refuses to start without prompts and a reward; neither is ever used.
        prompts = Dataset.from_dict({"prompt": [""] * args.generation_batch_size})
        super().__init__(model, _never, args, train_dataset=prompts, processing_class=processing_class)

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs.to(self.args.device)

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        raise RuntimeError("this trainer works on stored trajectories and never generates")

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward over all micro-batches of one optimizer step. Returns the step's loss on this
        process."""
        micro_batches = inputs["micro_batches"]
        total = torch.zeros((), device=self.args.device)
        for number, micro_batch in enumerate(micro_batches):
            last = number == len(micro_batches) - 1
            self.accelerator.gradient_state._set_sync_gradients(last)
            with nullcontext() if last else self.accelerator.no_sync(model):
                total += super(GRPOTrainer, self).training_step(model, micro_batch, None)
        return total

    def keep_logits_short(self) -> None:
        """Undo accelerate's wrapper of the model's forward, which copies logits (rows x vocabulary, the largest tensor
        of an update) to float32, as is their gradient. What it did beside, autocast, `compute_loss` must do."""
        model = self.accelerator.unwrap_model(self.model_wrapped, keep_torch_compile=False)
        original = model.__dict__.pop("_original_forward", None)
        if original is not None:
            model.forward = original

    def note(self, measures: dict[str, float]) -> None:
        """Values for the next log."""
        for name, value in measures.items():
            self._metrics["train"][name] = [value]

    def save_optimizer(self, folder: Path) -> None:
        """Optimizer and position in the schedule, as GRPOTrainer's checkpoints hold them. Called on every process."""
        self._save_optimizer_and_scheduler(str(folder))

    def load_optimizer(self, folder: Path) -> None:
        """What `save_optimizer` wrote. Called on every process, when training has begun."""
        self._load_optimizer_and_scheduler(str(folder))

    def create_model_card(self, *_arguments: Any, **_options: Any) -> None:
        """Checkpoints are scratch; cards are written by the evaluation."""
