"""Policies as folders: loading one for training, adapters, and publishing a complete folder that any engine can
load."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.utils import logging

from assay.params import Params
from assay.params.training import LoraParams
from assay.trajectories import seed_from

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".onnx", ".index.json")
"""Files that hold weights or say where they are; every other file of a policy is passed on byte for byte."""


class PolicyError(ValueError):
    """A policy folder that cannot be trained or published."""


def is_weight(file: Path) -> bool:
    """Whether a file of a policy folder holds weights, or says where they are."""
    return file.name.endswith(WEIGHT_SUFFIXES)


def config_dtype(folder: Path) -> str:
    """The floating-point type in which a policy is published, from its config.json. Raises PolicyError."""
    config = folder / "config.json"
    if not config.is_file():
        raise PolicyError(f"{config}: missing, so {folder} is no model folder; run the stage that makes it")
    content = json.loads(config.read_text(encoding="utf-8"))
    return str(content.get("dtype") or content.get("torch_dtype") or "float32")


def shorter_dtype(folder: Path, wanted: str) -> str:
    """The type in which a base in a folder is published: as policy.dtype wants, but never in a longer one than its own."""
    own = config_dtype(folder)
    return wanted if own == "float32" else own


def precision(folder: Path, params: Params, dtype: str | None = None) -> str | None:
    """Type of mixed-precision arithmetic, None for float32 throughout. Weights in training are float32 in any case.

    training.grpo.bf16 decides; where it is not given, a policy that is published in half precision is trained in
    bfloat16, any other in float32. dtype: that it will be published in, where this is not the folder's own.
    """
    fields = params.training.grpo
    if "bf16" in fields:
        return "bfloat16" if fields["bf16"] else None
    return None if (dtype or config_dtype(folder)) == "float32" else "bfloat16"


def load_model(folder: Path, params: Params) -> Any:
    """The causal language model in a folder, float32, on the CPU. Raises PolicyError for a folder that holds none."""
    config_dtype(folder)
    if not any(file.suffix in (".safetensors", ".bin") for file in folder.iterdir()):
        raise PolicyError(f"{folder}: holds no weights (*.safetensors); run the stage that makes it")
    options = {"dtype": torch.float32, **params.training.grpo.get("model_init_kwargs", {})}
    logging.disable_progress_bar()  # a folder on disk; the update reports its own progress
    trust = bool(params.training.grpo.get("trust_remote_code", False))
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, trust_remote_code=trust, **options)
    except (SafetensorError, OSError) as error:
        raise PolicyError(f"{folder}: its weights cannot be read ({error}); run the stage that makes it again") from error
    # The folder's own is passed on as a file. transformers reads any, but refuses to write one that contradicts itself, as many of the
    # hub's do (a temperature without do_sample): at the first publication, after all the work.
    model.generation_config = GenerationConfig()
    return model


def add_adapter(
    model: Any, options: LoraParams, seed: int, weights: dict[str, torch.Tensor] | None, key: str = "training.lora"
) -> Any:  # fmt: skip
    """The model with a trainable low-rank adapter: new (seeded), or with the given weights.

    Raises PolicyError for targets that the model does not have, or that cannot be merged, and for weights of another
    adapter.
    """
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
    from peft.tuners.tuners_utils import BaseTunerLayer

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=options.targets if isinstance(options.targets, str) else list(options.targets),
    )
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    tied = ends[0] is not None and ends[1] is not None and ends[0].weight is ends[1].weight
    torch.manual_seed(seed_from(seed, "adapter"))
    try:
        wrapped = get_peft_model(model, config)
    except ValueError as error:
        raise PolicyError(f"{key}.targets {options.targets!r} does not fit the policy: {error}") from error
    if tied:
        # Merged, the adapter of one would change both: the published policy would not be the one that was trained.
        for name, module in wrapped.named_modules():
            if isinstance(module, BaseTunerLayer) and any(module.get_base_layer() is end for end in ends):
                raise PolicyError(
                    f"{key}.targets {options.targets!r} adapts {name.removeprefix('base_model.model.')}, but this "
                    "policy's input and output embeddings are one tensor: leave both out of the targets"
                )
    if weights is not None:
        found = set_peft_model_state_dict(wrapped, weights)
        missing = [name for name in found.missing_keys if "lora_" in name]
        if missing or found.unexpected_keys:
            raise PolicyError(
                f"the trainer state's adapter does not fit {key} ({(missing + found.unexpected_keys)[0]}): its "
                "rank and targets must stay as they were, or the run must start anew"
            )
    return wrapped


def adapter_weights(model: Any) -> dict[str, torch.Tensor]:
    """Weights of the adapter alone, on the CPU, by the names that peft gives them."""
    from peft import get_peft_model_state_dict

    return {name: value.detach().cpu().contiguous() for name, value in get_peft_model_state_dict(model).items()}


def merged_weights(model: Any) -> dict[str, torch.Tensor]:
    """Weights of the base model with the adapter added, float32. The model in training is left as it is."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    base = model.get_base_model()
    weights = {name.replace(".base_layer.", "."): value.detach() for name, value in base.state_dict().items() if ".lora_" not in name}
    for name, module in base.named_modules():
        if isinstance(module, BaseTunerLayer):
            weights[f"{name}.weight"] = weights[f"{name}.weight"] + module.get_delta_weight("default").detach()
    return weights


def surviving_share(model: Any, weights: dict[str, torch.Tensor], dtype: str) -> float:
    """How much of an adapter's change is left when merged weights are rounded to a shorter type: the projection of the rounded change on
    the exact one, over the latter's squared norm. 1: all on average; 0: none; 1 too where the adapter changes nothing.

    weights: of `merged_weights`.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    kept = whole = 0.0
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, BaseTunerLayer):
            before, after = module.get_base_layer().weight.detach(), weights[f"{name}.weight"]
            change = after - before
            kept += float(((after.to(getattr(torch, dtype)).to(after.dtype) - before) * change).sum())
            whole += float((change * change).sum())
    return kept / whole if whole else 1.0


def write_weights(model: Any, weights: dict[str, torch.Tensor], dtype: str, folder: Path) -> None:
    """Weights (and config.json, needed to load them) in the layout of transformers: shards, tied weights once."""
    kind = getattr(torch, dtype)
    cast: dict[tuple[int, torch.Size], torch.Tensor] = {}
    for value in weights.values():
        # Tied weights must stay one tensor: two equal copies would both be written, and untie the model when loaded.
        cast.setdefault((value.data_ptr(), value.shape), value.to(kind) if value.is_floating_point() else value)
    shared = {name: cast[value.data_ptr(), value.shape] for name, value in weights.items()}
    model.save_pretrained(folder, state_dict=shared)


def publish_policy(model: Any, weights: dict[str, torch.Tensor], source: Path, target: Path, dtype: str | None = None) -> None:
    """A complete policy folder: new weights, and every other file (configuration, tokenizer, template) of `source`
    unchanged; but no README.md, which describes the model that training began from (`assay export --policy` adds our card).

    model: an unwrapped transformers model of that architecture. target: must not exist. dtype: of the weights, where it is not that of
    `source` (then `set_config_dtype` is to follow).
    """
    write_weights(model, weights, dtype or config_dtype(source), target)
    for file in target.iterdir():
        if not is_weight(file):
            file.unlink()
    for file in sorted(p for p in source.rglob("*") if p.is_file() and not is_weight(p) and p.name.lower() != "readme.md"):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
