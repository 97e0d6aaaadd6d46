"""Policy folders: what must be there before an engine loads one, and whether two folders hold the same model."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.engines.base import EngineMistake

_NOT_THE_MODEL = ("_name_or_path", "architectures", "transformers_version", "torch_dtype", "dtype", "use_cache")
"""Keys of config.json that do not change which weights fit."""
_PREFIX = re.compile(r"^(model|transformer|gpt_neox|backbone)\.")
"""What transformers writes before the names of a base model; some published files leave it out."""
_NO_WEIGHT = re.compile(r"(^|\.)(inv_freq|original_inv_freq|masked_bias|attn\.bias|attention\.bias)$|^mtp(_layers)?\.")
"""Tensors of published files that no policy is made of, and that transformers does not write again: buffers that are computed, and heads
that predict several tokens at once."""
_HEAD = "lm_head.weight"


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a policy folder. Raises EngineError where the folder is not a Hugging Face model."""
    file = folder / "config.json"
    if not folder.is_dir():
        raise EngineMistake(
            f"{folder}: no such policy folder; run the stage that makes it (warm_start for policy 0, update for the "
            "next)"
        )
    if not file.is_file():
        raise EngineMistake(
            f"{folder}: config.json is missing, so this is no Hugging Face model folder; publish the policy again"
        )
    if not any(folder.glob("*.safetensors")):
        raise EngineMistake(f"{folder}: no *.safetensors file; save the model with save_pretrained, which writes them")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EngineMistake(f"{file}: not valid JSON ({error}); publish the policy again") from error
    if not isinstance(config, dict):
        raise EngineMistake(f"{file}: expected a JSON object, found {type(config).__name__}")
    return config


@dataclass(frozen=True)
class Shape:
    """What weights must agree in to be swapped in place."""

    config: dict[str, Any]
    tensors: dict[str, tuple[int, ...]]
    """Shape of each tensor by its name, as a base model has it, of those that must be in both of two folders."""


def read_shape(folder: Path) -> Shape:
    """Configuration and tensor shapes of a policy folder, from the headers of its files alone. Raises EngineError."""
    config = {key: value for key, value in read_config(folder).items() if key not in _NOT_THE_MODEL}
    tensors: dict[str, tuple[int, ...]] = {}
    for file in _weight_files(folder):
        try:
            with file.open("rb") as stream:
                header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
            tensors |= {_PREFIX.sub("", name): tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
        except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
            raise EngineMistake(f"{file}: not a safetensors file ({error}); publish the policy again") from error
    # A head that is the embedding again: published files often hold it twice, ours never.
    tied = bool(config.get("tie_word_embeddings"))
    return Shape(config, {n: shape for n, shape in tensors.items() if not (_NO_WEIGHT.search(n) or (tied and n == _HEAD))})


def parameter_count(folder: Path) -> int:
    """Parameters of the model in a policy folder. Raises EngineError."""
    return sum(math.prod(shape) for shape in read_shape(folder).tensors.values())


def _weight_files(folder: Path) -> list[Path]:
    """Those of the index, where there is one: beside them a folder may hold the weights once more, in another format."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    try:
        return sorted({folder / name for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineMistake(f"{index}: not an index of safetensors files ({error}); publish the policy again") from error


def check_same_shape(loaded: Shape, folder: Path) -> None:
    """Raises EngineError where the folder holds another model than the loaded one: engines would drop weights silently.

    Files of one model may differ in names: policy 0 may be a published model as it came, and those after it are written by transformers.
    """
    other = read_shape(folder)
    for mine, theirs in ((loaded.config, other.config), (loaded.tensors, other.tensors)):
        for key in sorted(mine.keys() | theirs.keys()):
            if mine.get(key) != theirs.get(key):
                raise EngineMistake(
                    f"{folder}: another model than the one in the engine ({key} is {theirs.get(key, 'missing')}, the "
                    "engine's is "
                    f"{mine.get(key, 'missing')}); weights can be swapped only between policies of one run: open a new "
                    "engine"
                )


def check_length(config: dict[str, Any], folder: Path, max_model_tokens: int) -> None:
    """Raises EngineError where the model has fewer positions than prompt and completion together may need."""
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and positions < max_model_tokens and not config.get("rope_scaling"):
        raise EngineMistake(
            f"{folder}: the model has {positions} positions, but what is sampled needs up to {max_model_tokens}: lower "
            "policy.max_prompt_tokens and sampling.max_tokens, and, where they are on, the lengths of self_verification, stepwise and "
            "sampling.episodes"
        )
