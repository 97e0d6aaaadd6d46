"""The trainer: optimizer steps over a stored batch, as a sum of loss terms. It knows no method by name."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback

from assay.params import Params
from assay.training import first_pass as passes
from assay.training.data import MicroBatch, StoredBatch
from assay.training.first_pass import Values, place
from assay.training.forward import completion_logits, likelihood
from assay.training.ragged import Ragged
from assay.training.schedule import learning_rate_factor
from assay.training.streams import StepTotals
from assay.training.terms import Term, TokenStreams, needs_entropy_gradient, needs_logits
from assay.training.trl_surface import GRPOConfig, StoredTrainer
from assay.trajectories import seed_from


class TrainingError(RuntimeError):
    """Training that cannot go on. The message says at which step, and what to do."""


class TrajectoryTrainer(StoredTrainer):
    """Trains a causal language model on stored trajectories.

    Every normaliser is over the optimizer step: neither micro-batches nor processes change the gradient. The
    importance ratio is against the first pass's log-probabilities, reference log-probabilities come from the batch.
    Randomness (dropout) of an optimizer step is seeded by a hash of run seed, global step and process, so a resumed
    update goes on as if never stopped.
    """

    def __init__(
        self,
        model: Any,
        config: GRPOConfig,
        processing_class: Any,
        params: Params,
        terms: tuple[Term, ...],
        *,
        position: int = 0,
        optimizer_state: Path | None = None,
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        """position: optimizer steps that the run did before. optimizer_state: what `save_optimizer` wrote, if anything."""
        self.params, self.terms, self.position = params, terms, position
        self.optimizer_state, self.progress = optimizer_state, progress
        self.batch: StoredBatch | None = None
        self.statistics: dict[str, Ragged] = {}
        super().__init__(model, config, processing_class)
        self.remove_callback(PrinterCallback)
        self.add_callback(_Begin(self))
        self._sums: dict[str, tuple[torch.Tensor, float]] = {}
        self._only_pass: dict[str, np.ndarray] | None = None
        """What the only step's forward pass found, while it runs."""
        self.head: torch.nn.Module = self.accelerator.unwrap_model(self.model).get_output_embeddings()

    def get_train_dataloader(self) -> DataLoader:
        if self.batch is None:
            raise TrainingError("no batch: set `batch` before `train`")
        return self.batch.loader()

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """The schedule of the whole run, at this update's position in it."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] = self.args.learning_rate
        training = self.params.training
        self.lr_scheduler = LambdaLR(self.optimizer, lambda step: learning_rate_factor(step, training), last_epoch=self.position - 1)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def carry_on(self) -> None:
        """Take over the optimizer of the update before. Parameters decide on rates and betas, the state on moments."""
        if self.optimizer_state is None:
            return
        fresh = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        try:
            self.load_optimizer(self.optimizer_state)
        except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
            raise TrainingError(
                f"{self.optimizer_state}: the optimizer's state cannot be read ({error}); run the update before it again"
            ) from error
        if self.lr_scheduler.last_epoch != self.position:
            raise TrainingError(
                f"{self.optimizer_state}: its schedule stands at step {self.lr_scheduler.last_epoch}, its state.json "
                f"at {self.position}: the folder mixes two updates; run the update before it again"
            )
        for group, own in zip(self.optimizer.param_groups, fresh, strict=True):
            group.update(own)
        self.create_scheduler(0)
        self.optimizer_state = None

    def first_pass(self) -> None:
        """What is known of this process's rows under the policy as it is, without gradient.

        Fills `statistics` (and the batch's old log-probabilities); rows of other processes read 0.
        """
        batch, training = self._batch(), self.params.training
        option = passes.lp_reg_of(training)
        offsets, values = self._offsets(), self._empty_first_pass()
        supports: list[tuple[np.ndarray, ...]] = []
        model = self.model_wrapped
        was_training = model.training
        model.eval()
        with torch.no_grad(), self.accelerator.autocast():
            for done, step in enumerate(batch.steps, start=1):
                for micro in batch.micro_batches(step):
                    tokens = micro.tokens.to(self.args.device)
                    logits = completion_logits(model, self.head, tokens)
                    logprobs, entropies = likelihood(logits, tokens, self.args.temperature)
                    found = {"logprobs": logprobs[tokens.present], "entropies": entropies[tokens.present]}
                    if option is not None:
                        found |= passes.observe_proxy(logits, tokens.ids, option, self.args.temperature)
                        if passes.stores_supports(training, len(batch)):
                            bears, advantages = (
                                part.to(self.args.device)[tokens.present] for part in (micro.mask, micro.advantages)
                            )
                            own = passes.observe_supports(logits, found, bears, advantages, option, self.args.temperature)
                            supports.append((batch.token_places(micro.rows)[own[0]], *own[1:]))
                    for name, result in found.items():
                        place(values[name], offsets, micro.rows, result.cpu().numpy())
                if self.accelerator.is_main_process:
                    self.progress(f"first pass: rows of step {done} of {len(batch)}")
        model.train(was_training)
        if supports:
            values |= dict(zip(passes.SUPPORT, map(np.concatenate, zip(*supports, strict=True)), strict=True))
        passes.write(values, self._first_pass_file())
        self._use_first_pass(values)

    def begin_without_first_pass(self) -> bool:
        """Where a batch has one step, its own forward pass is the first one: it is computed once, and kept by `compute_loss`.
        Not where dropout would make it another policy's, or a term needs the whole batch's values before."""
        config = getattr(self.accelerator.unwrap_model(self.model), "config", None)
        dropout = [module.p for module in self.model.modules() if isinstance(module, torch.nn.Dropout)]
        dropout.append(getattr(config, "attention_dropout", None) or 0.0)
        if len(self._batch()) > 1 or any(dropout) or passes.is_needed(self.params.training):
            return False
        self._only_pass = self._empty_first_pass()
        return True

    def _batch(self) -> StoredBatch:
        assert self.batch is not None
        return self.batch

    def _empty_first_pass(self) -> Values:
        return passes.empty(self.params.training, int(self._offsets()[-1]))

    def _first_pass_file(self) -> Path:
        return Path(self.args.output_dir) / f"first_pass-{self.args.process_index}.npz"

    def _use_first_pass(self, values: Values) -> None:
        batch, offsets = self._batch(), self._offsets()
        if passes.SUPPORT[0] in values:
            batch.set_supports(*(values.pop(name) for name in passes.SUPPORT))
        self.statistics = {name: Ragged(array, offsets) for name, array in values.items()}
        batch.old_logprobs = self.statistics["logprobs"]
        if not passes.is_needed(self.params.training):
            return
        everywhere = passes.gathered(values, lambda part: self.accelerator.reduce(part.to(self.args.device), "sum"))
        batch.statistics = passes.batch_statistics(everywhere, batch.policy_mask(), batch.advantages, self.params.training)

    def reread_first_pass(self) -> None:
        """What the first pass found before this update was interrupted."""
        values = self._stored_first_pass()
        if values is None:
            raise TrainingError(f"{self._first_pass_file()}: cannot be read; delete {self.args.output_dir} and run the update again")
        self._use_first_pass(values)

    def has_first_pass(self) -> bool:
        """Whether every process can read what its first pass stored for this batch. Called on every process."""
        own = torch.tensor(float(self._stored_first_pass() is not None), device=self.args.device)
        return self.accelerator.reduce(own, "sum").item() == self.accelerator.num_processes

    def _stored_first_pass(self) -> Values | None:
        extra = passes.SUPPORT if passes.stores_supports(self.params.training, len(self._batch())) else ()
        return passes.read(self._first_pass_file(), self._empty_first_pass(), extra)

    def floating_point_ops(self, inputs: Any) -> int:
        """Six per parameter and token, padding included; shown by some reporters."""
        tokens = sum(micro.tokens.input_ids.numel() for micro in inputs["micro_batches"])
        return 6 * tokens * sum(parameter.numel() for parameter in self.model.parameters())

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        step = self.position + self.state.global_step
        # Also makes a resumed update bit-equal: nothing random is carried from step to step.
        torch.manual_seed(seed_from(self.params.seed, "update", step, self.args.process_index))
        self._sums = {}
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"optimizer step {inputs['step']}: the loss is {loss.item()}; lower training.learning_rate, or look at "
                "this step's rows in the batches table"
            )
        if self._only_pass is not None:
            self._use_first_pass(self._only_pass)
            self._only_pass = None
        self._note_step(inputs)
        return loss

    def compute_loss(self, model: Any, inputs: MicroBatch, return_outputs: bool = False, num_items_in_batch: Any = None) -> torch.Tensor:
        """This micro-batch's part of the step's loss, times the number of processes, over which gradients are averaged."""
        with self.accelerator.autocast():
            logits = completion_logits(model, self.head, inputs.tokens)
            logprobs, entropies = likelihood(
                logits, inputs.tokens, self.args.temperature, entropy_gradient=needs_entropy_gradient(self.terms)
            )
        old_logprobs = inputs.old_logprobs
        if self._only_pass is not None:
            old_logprobs = logprobs.detach()
            for name, result in zip(passes.BASE, (old_logprobs, entropies.detach()), strict=True):
                flat = result[inputs.tokens.present].float().cpu().numpy()
                place(self._only_pass[name], self._offsets(), inputs.rows, flat)
        assert old_logprobs is not None
        whole = needs_logits(self.terms)
        streams = TokenStreams(
            mask=inputs.mask,
            logprobs=logprobs,
            entropies=entropies,
            old_logprobs=old_logprobs,
            sampled_logprobs=inputs.sampled_logprobs,
            advantages=inputs.advantages,
            reference_logprobs=inputs.reference_logprobs,
            rehearsal=inputs.rehearsal,
            selected=inputs.selected,
            proxy_logprobs=inputs.proxy_logprobs,
            candidates=inputs.candidates,
            logits=logits if whole else None,
            present=inputs.tokens.present if whole else None,
            support=inputs.support,
        )
        del logits
        outputs = [term(streams, inputs.totals) for term in self.terms]
        loss = torch.stack([output.loss for output in outputs]).sum()
        with torch.no_grad():
            self._add({"entropy": ((entropies * streams.policy_mask).sum(), inputs.totals.tokens)})
            self._add({"loss": (loss.detach(), 1)})
            for output in outputs:
                self._add(output.measures)
        return loss * self.accelerator.num_processes

    def _offsets(self) -> np.ndarray:
        return self._batch().streams.completions.offsets

    def _add(self, measures: dict[str, tuple[torch.Tensor, float]]) -> None:
        for name, (total, count) in measures.items():
            before = self._sums[name][0] if name in self._sums else torch.zeros((), device=self.args.device)
            self._sums[name] = (before + total.double().to(self.args.device), count)

    def _note_step(self, inputs: Any) -> None:
        """Measures of the step over all processes, for the log (and so for the table `updates`)."""
        batch = self._batch()
        step, totals = inputs["step"], batch.totals(inputs["step"])
        names = list(self._sums)
        gathered = self.accelerator.reduce(torch.stack([self._sums[name][0].double() for name in names]), "sum")
        measures = {name: value / max(self._sums[name][1], 1) for name, value in zip(names, gathered.tolist(), strict=True)}
        own = np.concatenate([micro.rows for micro in inputs["micro_batches"]])
        own = own[~batch.rehearsal[own]]
        measures["policy_count"] = self._sums["policy_loss"][1]
        if "selected_entropy_sum" in measures:
            total, number = measures.pop("selected_entropy_sum"), measures["selected_tokens"]
            if number:
                measures["selected_entropy"] = total / number
        gap = torch.tensor([*_mismatch(batch, own)], dtype=torch.float64, device=self.args.device)
        summed, largest = self.accelerator.reduce(gap[:1], "sum"), self.accelerator.gather(gap[1:]).max()
        advantages = batch.table["advantage"].to_numpy()[batch.rows(step)].astype(np.float64)
        self.note({
            **measures,
            **_of_batch(batch, totals),
            "step_of_iteration": step,
            "rows": totals.rows,
            "tokens": totals.tokens,
            "mismatch_mean": summed.item() / max(totals.tokens, 1),
            "mismatch_max": largest.item(),
            "advantage_mean": float(advantages.mean()),
            "advantage_std": float(advantages.std()),
        })  # fmt: skip


class _Begin(TrainerCallback):
    """When model and optimizer are ready: take over the optimizer, then the first pass, unless a checkpoint has both."""

    def __init__(self, trainer: TrajectoryTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_others: Any) -> None:
        self.trainer.keep_logits_short()
        if state.global_step == 0:
            self.trainer.carry_on()
            if not self.trainer.begin_without_first_pass():
                self.trainer.first_pass()
        else:
            self.trainer.optimizer_state = None
            self.trainer.reread_first_pass()

    def on_step_end(self, args: Any, state: Any, control: Any, **_others: Any) -> Any:
        if state.global_step >= state.max_steps:
            control.should_save = False  # what follows is publication
        return control


def _of_batch(batch: StoredBatch, totals: StepTotals) -> dict[str, float]:
    """What the log says of the batch's statistics; nothing where no method takes any."""
    found = {
        "low_probability_threshold": batch.statistics.low_probability_threshold,
        "entropy_threshold": batch.statistics.entropy_threshold,
        "rehearsal_tokens": totals.rehearsal_tokens or None,
        "rehearsal_rows": totals.rehearsal_rows or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _mismatch(batch: StoredBatch, rows: np.ndarray) -> tuple[float, float]:
    """Sum and largest of |sampler - trainer| log-probability over the given rows' tokens that bear loss."""
    assert batch.old_logprobs is not None
    mask = batch.streams.mask.take(rows).values.astype(bool)
    gap = np.abs(batch.old_logprobs.take(rows).values - batch.streams.logprobs.take(rows).values)[mask]
    return (float(gap.sum(dtype=np.float64)), float(gap.max())) if len(gap) else (0.0, 0.0)
