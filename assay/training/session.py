"""A policy in training: from folders to a trainer, through batches, to a published folder."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file, save_file

from assay.engines import load_tokenizer
from assay.params import Params
from assay.training import checkpoints, policies
from assay.training.checkpoints import MarkComplete, TrainerState, last_complete, read_state
from assay.training.critic import Critic
from assay.training.data import BatchError, StoredBatch
from assay.training.grpo import grpo_config, wants_dvclive
from assay.training.policies import PolicyError
from assay.training.ragged import Ragged
from assay.training.reference import needs_reference
from assay.training.reports import Progress, dvclive_callback
from assay.training.terms import loss_terms
from assay.training.trainer import TrajectoryTrainer
from assay.trajectories import publish_folder, schema, to_table

Report = Callable[[str], None]
LEAST_SURVIVING = 0.5
"""Share of an adapter's change, below which its publication is warned of."""


@dataclass(frozen=True)
class UpdateResult:
    """What an update recorded; the same on every process."""

    updates: pa.Table
    token_statistics: pa.Table
    main: bool
    """This process is the one that writes files."""


def draft_of(out: Path) -> Path:
    """Where a folder is prepared before it replaces `out`: beside it, so that a rename suffices."""
    return out.with_name(f".{out.name}.draft")


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name where the file system can, which takes no room; else a copy, also of a file that may not be written
    (one of DVC's cache), as its permissions would come along. Nothing writes weights in place."""
    try:
        if os.access(source, os.W_OK):
            os.link(source.resolve(), target)  # resolved: DVC may check files out as symbolic links
            return
    except OSError:
        pass
    shutil.copyfile(source, target)


class UpdateSession:
    """A policy in training. `run` may be called for batch after batch, `publish` after any of them."""

    def __init__(
        self,
        policy: Path,
        trainer_state: Path | None,
        params: Params,
        *,
        scratch: Path,
        live: Path | None = None,
        progress: Report = lambda line: None,
    ) -> None:
        self.policy, self.params, self._progress = policy, params, progress
        self._trainer_state = trainer_state
        # Another number of processes divides rows otherwise: its checkpoints are of no use to this one.
        self.scratch = scratch / f"processes-{os.environ.get('WORLD_SIZE', '1')}"
        state = read_state(trainer_state, policy, params) if trainer_state else None
        self._base = trainer_state / "base" if trainer_state and state and state.lora else policy
        model = _load(policy, trainer_state, state, params)
        config = grpo_config(params, policy, self.scratch, progress)
        self.trainer = TrajectoryTrainer(
            model,
            config,
            _tokenizer(policy),
            params,
            loss_terms(params),
            position=state.global_step if state else 0,
            optimizer_state=trainer_state,
            progress=progress,
        )
        self.trainer.add_callback(MarkComplete(self.trainer.accelerator.wait_for_everyone))
        self.trainer.add_callback(Progress(progress))
        self.critic: Critic | None = None
        if params.training.critic is not None:
            self.critic = Critic(policy.parent, params, self.trainer.accelerator)
        self._ran = self._warned = False
        self._live = live if wants_dvclive(params) and self.main else None

    @property
    def main(self) -> bool:
        return bool(self.trainer.accelerator.is_main_process)

    def run(self, batches: pa.Table) -> UpdateResult:
        """All optimizer steps of a batch, from the last complete checkpoint of this very batch if there is one."""
        trainer = self.trainer
        accelerator = trainer.accelerator
        if self._ran:
            self.forget_checkpoints()
            accelerator.wait_for_everyone()
        self._ran = True
        trainer.batch = StoredBatch(
            batches,
            max_tokens=self.params.sampling.max_tokens,
            micro_batch_size=self.params.training.micro_batch_size,
            processes=accelerator.num_processes,
            process=accelerator.process_index,
        )
        self._check_ids(trainer.batch)
        trainer.batch.check_reference(sampled=needs_reference(self.params), rehearsed=_rehearses(self.params))
        checkpoint = last_complete(self.scratch) if self.main else None
        accelerator.wait_for_everyone()
        checkpoint = checkpoint or last_complete(self.scratch)
        if checkpoint is not None and not trainer.has_first_pass():
            # Without the first pass the ratios of a resumed update would be wrong: no checkpoint, then.
            if self.main:
                self._progress(f"{self.scratch}: its first pass cannot be read, so the update starts anew")
            self.forget_checkpoints()
            accelerator.wait_for_everyone()
            checkpoint = None
        if self._live is not None:
            trainer.add_callback(dvclive_callback(self._live, resumed=checkpoint is not None))
            self._live = None
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        # After the policy: an update that is resumed finds the critic as it was, and its targets are in the batch.
        values = {} if self.critic is None else self.critic.update(trainer.batch)
        result = UpdateResult(self._updates(values), self._statistics(), self.main)
        trainer.position += len(trainer.batch)
        return result

    def publish(self, out: Path, *, whole: bool = True) -> None:
        """Replace the folder `out` by policy, trainer state and critic as they are now, whole or not at all. whole: False leaves the policy
        alone, from which no update can go on."""
        if not self._ran:
            return self._publish_start(out, whole)
        trainer = self.trainer
        accelerator = trainer.accelerator
        lora = self.params.training.lora is not None
        model = accelerator.unwrap_model(trainer.model)
        weights = policies.merged_weights(model) if lora else accelerator.get_state_dict(trainer.model_wrapped)
        architecture = model.get_base_model() if lora else model
        draft = draft_of(out)
        if self.main:
            shutil.rmtree(draft, ignore_errors=True)
            (draft / "trainer" if whole else draft).mkdir(parents=True)
            policies.publish_policy(architecture, weights, self.policy, draft / "policy")
            if lora:
                self._tell_rounding(model, weights)
        accelerator.wait_for_everyone()
        if whole:
            trainer.save_optimizer(draft / "trainer")
        if self.main:
            if whole:
                self._write_state(architecture, weights, draft)
            if whole and self.critic is not None:
                self.critic.publish(draft / "critic", draft / "trainer")
            publish_folder(draft, out)
        accelerator.wait_for_everyone()

    def _tell_rounding(self, model: Any, weights: dict[str, torch.Tensor]) -> None:
        """Sampled is what was published, trained on is the adapter as it is: say how far the two are apart."""
        dtype = policies.config_dtype(self.policy)
        if dtype == "float32":
            return
        share = policies.surviving_share(model, weights, dtype)
        self._progress(f"adapter: {share:.0%} of its change is left in the published weights ({dtype})")
        if share < LEAST_SURVIVING and not self._warned:
            self._warned = True
            # Said by fused rounds too, which show nothing else of an update.
            print(
                f"warning: {share:.0%} of what the adapter has learned is left in the published weights, the rest is rounded away "
                f"({dtype}): another policy is sampled than is trained; raise training.learning_rate (1e-5 to 1e-4 with lora)",
                flush=True,
            )

    def _publish_start(self, out: Path, whole: bool) -> None:
        """What the session was opened with: before the first update there is no optimizer whose state could be written."""
        if self.main:
            draft = draft_of(out)
            shutil.rmtree(draft, ignore_errors=True)
            for folder in (self.policy, self._trainer_state, self.policy.parent / "critic") if whole else (self.policy,):
                if folder is not None and folder.is_dir():
                    shutil.copytree(folder, draft / folder.name)
            publish_folder(draft, out)
        self.trainer.accelerator.wait_for_everyone()

    def forget_checkpoints(self) -> None:
        """Checkpoints belong to a batch that is done."""
        if self.main:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _check_ids(self, batch: StoredBatch) -> None:
        """Raises BatchError for a token that the policy does not have: a batch of another tokenizer."""
        known = self.trainer.accelerator.unwrap_model(self.trainer.model).get_input_embeddings().num_embeddings
        largest = max(int(ids.values.max(initial=0)) for ids in (batch.streams.prompts, batch.streams.completions))
        if largest >= known:
            raise BatchError(
                f"the batch holds token {largest}, but the policy in {self.policy} knows {known}: the rows were sampled "
                "from a policy with another tokenizer"
            )

    def _write_state(self, architecture: Any, weights: dict[str, torch.Tensor], draft: Path) -> None:
        """What the next update needs beside the optimizer: exact weights where the policy does not hold them."""
        folder, lora = draft / "trainer", self.params.training.lora is not None
        short = policies.config_dtype(self.policy) != "float32"
        if lora:
            save_file(
                policies.adapter_weights(self.trainer.accelerator.unwrap_model(self.trainer.model)),
                folder / "adapter.safetensors",
            )
            (folder / "base").mkdir()
            for file in sorted(self._base.iterdir()):
                if policies.is_weight(file) or file.suffix == ".py" or file.name == "config.json":
                    link_or_copy(file, folder / "base" / file.name)
        elif short:
            policies.write_weights(architecture, weights, "float32", folder / "weights")
        state = TrainerState(
            global_step=self.trainer.position,
            policy=checkpoints.weights_digest(draft / "policy"),
            lora=lora,
            weights=short and not lora,
        )
        state.write(folder)

    def _updates(self, values: Mapping[int, Mapping[str, float | None]]) -> pa.Table:
        """values: what the critic measured, by step."""
        batch = self.trainer.batch
        assert batch is not None
        names = {"step": "step_of_iteration", "gradient_norm": "grad_norm"}
        rows: list[dict[str, Any]] = []
        for entry in self.trainer.state.log_history:
            if "step_of_iteration" not in entry:
                continue
            row = {column: entry.get(names.get(column, column)) for column in schema("updates").names}
            rows.append({
                **row,
                **batch.audit(entry["step_of_iteration"]),
                **values.get(entry["step_of_iteration"], {}),
                "iteration": batch.table["iteration"][0].as_py(),
                "round": batch.table["round"][0].as_py(),
                "global_step": self.trainer.position + len(rows),
            })  # fmt: skip
        return to_table("updates", rows)

    def _statistics(self) -> pa.Table:
        """Rows of the batch, in its order, whichever process computed them."""
        batch = self.trainer.batch
        assert batch is not None
        columns: dict[str, Any] = {name: batch.table[name] for name in ("trajectory_id", "iteration", "round")}
        types = schema("token_statistics")
        for name, own in self.trainer.statistics.items():
            # Each row is non-zero on one process only.
            values = torch.from_numpy(own.values.astype(np.float32)).to(self.trainer.args.device)
            whole = self.trainer.accelerator.reduce(values, "sum").cpu().numpy().astype(own.values.dtype)
            columns[name] = Ragged(whole, own.offsets).column(types.field(name).type)
        for name in ("protected", "selected"):
            found = getattr(batch.statistics, name)
            if found is not None:
                columns[name] = found.column(types.field(name).type)
        columns |= {name: pa.nulls(len(batch.table), types.field(name).type) for name in types.names if name not in columns}
        # Rehearsed rows come again and again; what is known of them is in `updates`.
        return to_table("token_statistics", pa.table(columns).filter(pa.array(~batch.rehearsal)))


def _rehearses(params: Params) -> bool:
    return params.training.rehearsal is not None and params.training.rehearsal.coefficient > 0


def _load(policy: Path, trainer_state: Path | None, state: TrainerState | None, params: Params) -> Any:
    """The model to train, in float32: the policy's weights, or the exact ones that the state keeps."""
    if params.training.lora is None:
        source = trainer_state / "weights" if trainer_state and state and state.weights else policy
        return policies.load_model(source, params)
    if trainer_state is None:
        return policies.add_adapter(policies.load_model(policy, params), params.training.lora, params.seed, None)
    base = policies.load_model(trainer_state / "base", params)
    return policies.add_adapter(base, params.training.lora, params.seed, load_file(trainer_state / "adapter.safetensors"))


def _tokenizer(policy: Path) -> Any:
    """The trainer never tokenises, but a policy folder without a tokenizer could not be sampled: better refused now."""
    if not any((policy / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")):
        raise PolicyError(f"{policy}: has no tokenizer (tokenizer.json); copy the tokenizer of its base model there")
    return load_tokenizer(policy)
