"""The critic of PPO: a value model of its own beside the policy, trained on the returns that the batch stores.

A token-classification model of transformers with one label, so that anybody can load it. It begins as policy 0 with a value of 0: the first
batch's advantages are those of REINFORCE++.
"""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForTokenClassification
from transformers.utils import logging

from assay.objectives.critic import clipped_value, explained_variance
from assay.params import Params
from assay.training.batching import Tokens, chunks, pack, padded
from assay.training.data import StoredBatch
from assay.training.first_pass import place
from assay.training.policies import PolicyError, config_dtype, is_weight, precision, write_weights
from assay.training.ragged import Ragged, Streams, from_column

OPTIMIZER = "critic_optimizer.safetensors"
"""In the trainer folder."""


class CriticModelError(PolicyError):
    """A critic's folder that does not belong to the policy."""


def load_critic(folder: Path, policy: Path, params: Params) -> Any:
    """The critic in a folder, float32 on the CPU; where there is none, a new one made from the policy, whose value is 0 everywhere.

    Raises CriticModelError for a folder of another architecture or tokenizer, and for an architecture that has no such model.
    """
    new = not folder.is_dir()
    if not new:
        check_critic(folder, policy)
    config_dtype(policy if new else folder)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # a new critic's value is initialised below
    logging.disable_progress_bar()
    trust = bool(params.training.grpo.get("trust_remote_code", False))
    try:
        source = policy if new else folder
        config = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=trust, num_labels=1)
        # Without dropout, whatever a hub's model says: returns are learned around the values that were stored, and a resumed update must
        # draw nothing else.
        for name, value in vars(config).items():
            if "drop" in name and isinstance(value, float):
                setattr(config, name, 0.0)
        config.classifier_dropout = 0.0
        options = {"dtype": torch.float32, **params.training.grpo.get("model_init_kwargs", {})}
        model, loading = AutoModelForTokenClassification.from_pretrained(
            source, config=config, local_files_only=True, trust_remote_code=trust, output_loading_info=True, **options
        )
    except ValueError as error:
        raise CriticModelError(
            f"{policy}: transformers knows no token-classification model of this architecture, which a critic is ({error}); choose "
            "training.advantage.type reinforce_plus_plus"
        ) from error
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CriticModelError(f"{folder}: the critic's weights cannot be read ({error}); run the update before it again") from error
    finally:
        logging.set_verbosity(verbosity)
    odd = sorted({*map(str, loading["missing_keys"]), *map(str, loading["mismatched_keys"])})
    if odd and not new:
        raise CriticModelError(
            f"{folder}: no critic: it has no weights for {', '.join(odd[:3])}, which would be random; run the update that made it again"
        )
    with torch.no_grad():
        for parameter in head_of(model).parameters() if new else ():
            parameter.zero_()
        # Out of the file's memory, whose alignment would show in the last digits: values must be those of a model that was never stored.
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
    return model


def check_critic(folder: Path, policy: Path) -> None:
    """Raises CriticModelError for a critic whose architecture, size, vocabulary or tokenizer is not that of the policy."""
    own, other = _config(folder), _config(policy)
    for name in ("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings"):
        if own.get(name) != other.get(name):
            raise CriticModelError(
                f"{folder}: the critic's {name} is {own.get(name)!r}, the policy's {other.get(name)!r}: a critic starts as a copy of its "
                "policy; remove the folder, or run the update that made it again"
            )
    for name in ("tokenizer.json", "tokenizer.model", "vocab.json"):
        files = [path / name for path in (folder, policy)]
        if any(file.is_file() for file in files) and not (
            all(file.is_file() for file in files) and files[0].read_bytes() == files[1].read_bytes()
        ):
            raise CriticModelError(f"{folder}: the critic has another tokenizer than the policy ({name}): token ids would mean other texts")


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CriticModelError(f"{folder}: config.json cannot be read ({error}); run the update that made the folder again") from None
    if not isinstance(found, dict):
        raise CriticModelError(f"{folder}: config.json is no object; run the update that made the folder again")
    return found


def head_of(model: Any) -> torch.nn.Module:
    """The layer that turns hidden states into values."""
    for name in ("score", "classifier"):
        if isinstance(getattr(model, name, None), torch.nn.Module):
            return getattr(model, name)
    raise CriticModelError(f"{type(model).__name__} has no value layer named score or classifier")


def values_at(model: Any, tokens: Tokens) -> torch.Tensor:
    """(completion tokens,) float32: the value before each completion token."""
    found = model(input_ids=tokens.input_ids, use_cache=False).logits
    return found.reshape(-1)[tokens.positions].float()


def critic_values(model: Any, streams: Streams, params: Params, policy: Path) -> Ragged:
    """float32 value before each completion token."""
    device = next(model.parameters()).device
    values = np.zeros(len(streams.completions.values), dtype=np.float32)
    was_training = model.training
    model.eval()
    with torch.no_grad(), _autocast(device, policy, params):
        for rows in chunks(streams, params.training.micro_batch_size):
            flat = values_at(model, pack(streams, rows).to(device)).cpu().numpy()
            place(values, streams.completions.offsets, rows, flat)
    model.train(was_training)
    return Ragged(values, streams.completions.offsets)


def stored_values(model: Path, params: Params, streams: Streams) -> Ragged:
    """Values of the critic in a folder models/K, on the first GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() and not params.training.grpo.get("use_cpu") else "cpu"
    critic = load_critic(critic_folder(model), model / "policy", params).to(device)
    return critic_values(critic, streams, params, model / "policy")


def critic_folder(model: Path) -> Path:
    """models/K/critic. Raises CriticModelError where an update has left none: only the first one starts without."""
    folder = model / "critic"
    if not folder.is_dir() and (model / "trainer").is_dir():
        raise CriticModelError(
            f"{folder}: missing, though {model} comes from an update: training.critic cannot be set in the middle of a run; run from "
            "policy 0, or set it to null"
        )
    return folder


class Critic:
    """A value model in training. `update` may be called for batch after batch."""

    def __init__(self, model: Path, params: Params, accelerator: Any) -> None:
        assert params.training.critic is not None
        self.policy, self.params, self.option, self.accelerator = model / "policy", params, params.training.critic, accelerator
        self.model = load_critic(critic_folder(model), self.policy, params).to(accelerator.device)
        self._checkpointing = bool(params.training.grpo.get("gradient_checkpointing"))
        if self._checkpointing:
            options = params.training.grpo.get("gradient_checkpointing_kwargs") or {"use_reentrant": False}
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
        rate = self.option.learning_rate or 10 * params.training.learning_rate
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=rate, betas=params.training.adam_betas, weight_decay=self.option.weight_decay
        )
        state = model / "trainer" / OPTIMIZER
        if state.is_file():
            _read_moments(self.optimizer, state)

    def values(self, streams: Streams) -> Ragged:
        return critic_values(self.model, streams, self.params, self.policy)

    def update(self, batch: StoredBatch) -> dict[int, dict[str, float | None]]:
        """Learn the returns of every optimizer step's rows. Returns columns of `updates` by step; the same on every process."""
        old, returns = (from_column(batch.table[name]) for name in ("token_values", "token_returns"))
        self.model.train(self._checkpointing)  # there is no dropout; transformers keeps every activation of a model that is not in training
        found = {step: self._step(batch, step, old, returns) for step in batch.steps}
        self.model.eval()
        return found

    def _step(self, batch: StoredBatch, step: int, old: Ragged, returns: Ragged) -> dict[str, float | None]:
        losses, clipped, norms = [], [], []
        total = batch.totals(step).tokens
        for _ in range(self.option.steps):
            sums = torch.zeros(2, dtype=torch.float64, device=self.accelerator.device)
            for micro in batch.micro_batches(step):
                if len(micro.rows) == 0:
                    continue
                moved = micro.to(self.accelerator.device)
                mask = moved.mask & ~moved.rehearsal.unsqueeze(-1)
                if not bool(mask.any()):
                    continue
                width = mask.shape[1]
                before, target = (padded(part, micro.rows, width, torch.float32).to(mask.device) for part in (old, returns))
                with _autocast(mask.device, self.policy, self.params):
                    values = moved.tokens.spread(values_at(self.model, moved.tokens))
                loss = clipped_value(values, before, target, clip=self.option.clip)
                (loss.loss * mask).sum().div(max(total, 1)).backward()
                sums += torch.stack([(loss.loss.detach() * mask).sum(), (loss.clipped & mask).sum()]).double()
            self._sum_gradients()
            norms.append(float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.option.max_gradient_norm)))
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)  # not held while the policy trains and samples
            sums = self.accelerator.reduce(sums, "sum") / max(total, 1)
            losses.append(float(sums[0]))
            clipped.append(float(sums[1]))
        rows = batch.rows(step)
        mask_all = torch.from_numpy(batch.streams.mask.take(rows).values.astype(bool))
        values_all, returns_all = (torch.from_numpy(part.take(rows).values) for part in (old, returns))
        return {
            "value_loss": float(np.mean(losses)), "value_clip_share": float(np.mean(clipped)),
            "value_mean": float(values_all[mask_all].double().mean()), "return_mean": float(returns_all[mask_all].double().mean()),
            "explained_variance": explained_variance(values_all, returns_all, mask_all), "critic_gradient_norm": float(np.mean(norms)),
        }  # fmt: skip

    def publish(self, folder: Path, trainer: Path) -> None:
        """Write the critic, complete with its tokenizer, and its optimizer beside the policy's. On the main process alone."""
        weights = {name: value.detach() for name, value in self.model.state_dict().items()}
        write_weights(self.model, weights, "float32", folder)
        for file in sorted(path for path in self.policy.iterdir() if path.is_file() and not is_weight(path)):
            if file.name not in ("config.json", "generation_config.json"):
                shutil.copyfile(file, folder / file.name)
        _write_moments(self.optimizer, trainer / OPTIMIZER)

    def _sum_gradients(self) -> None:
        """Every process holds the whole critic and has seen some rows."""
        if self.accelerator.num_processes > 1:
            for parameter in self.model.parameters():
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad = self.accelerator.reduce(parameter.grad, "sum")


def _autocast(device: Any, policy: Path, params: Params) -> Any:
    mixed = precision(policy, params)
    return nullcontext() if mixed is None else torch.autocast(torch.device(device).type, dtype=getattr(torch, mixed))


def _write_moments(optimizer: torch.optim.Optimizer, file: Path) -> None:
    state = optimizer.state_dict()["state"]
    tensors = {
        f"{name}.{index}": value.detach().cpu().contiguous().clone() for index, own in state.items() for name, value in own.items()
    }
    save_file(tensors, file)


def _read_moments(optimizer: torch.optim.Optimizer, file: Path) -> None:
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise CriticModelError(f"{file}: the critic's optimizer cannot be read ({error}); run the update before it again") from error
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        key, _, index = name.rpartition(".")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
