"""Policy 0 from `policy.base`: a causal language model of text, from a local folder or the Hugging Face hub."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa

from assay.engines import load_renderer
from assay.params import Params
from assay.trajectories import publish_folder

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_OTHER_HALVES = ("vision_config", "audio_config", "speech_config", "thinker_config")
"""Keys of config.json that only a model of more than text has."""
_LEFT_OUT = (".git", ".cache", "original", "onnx", "gguf")
"""Folders of hub repositories that hold the same weights again in another layout."""


class BaseError(ValueError):
    """policy.base does not name a usable model. The message says what is missing and what to do."""


def base_policy(params: Params, tasks: pa.Table, out: Path, scratch: Path, source: Path | None = None) -> dict[str, Any]:
    """Copy the model that `policy.base` names into out/policy, complete and checked. Returns a summary. source: another folder, which
    was made of it.

    Files are copied as they are, but for float32 weights where policy.dtype is shorter: policy 0 is what is sampled, and its type decides
    on the arithmetic of updates. The prompts of `tasks` are rendered with its
    tokenizer and template, so that a bad one is said before anything is sampled. Raises EngineError for such, BaseError
    for a folder without configuration, weights or tokenizer, and for a hub name that cannot be fetched.
    """
    draft = scratch / "base"
    commit = copy_base(params, draft / "policy", source)
    # A template, an end token, a prompt that is too long: found here, not after sampling began.
    load_renderer(draft / "policy", params.policy).check_prompts(tasks.select(["task_id", "prompt"]).to_pylist())
    config = json.loads((draft / "policy" / "config.json").read_text(encoding="utf-8"))
    if params.policy.dtype != "float32" and (config.get("dtype") or config.get("torch_dtype") or "float32") == "float32":
        shorten(draft / "policy", params.policy.dtype)
    summary = {"architecture": (config.get("architectures") or ["unknown"])[0]} | origin(params, commit)
    (draft / "warm_start.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    publish_folder(draft, out)
    return {"base": params.policy.base} | summary


def origin(params: Params, commit: str | None) -> dict[str, str | None]:
    """What a summary says of a base from the hub. Of a local folder nothing: its path is this machine's."""
    return {"base": params.policy.base, "commit": commit} if commit is not None else {}


def copy_base(params: Params, target: Path, source: Path | None = None) -> str | None:
    """What `policy.base` names, or the folder `source` (of a policy that pre-training made of it), without the weights' other layouts.
    Returns the commit, where the base is of the hub. Raises BaseError."""
    name = params.policy.base
    if name is None:
        raise BaseError("policy.base is null: there is no model to copy")
    known = None if source is None else source.parent / "pretraining.json"
    commit = json.loads(known.read_text(encoding="utf-8")).get("commit") if known is not None and known.is_file() else None
    if source is None:
        source = base_folder(params)
        commit = commit_of(source)
    check_folder(source, name)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=False, ignore=shutil.ignore_patterns(*_LEFT_OUT, "*.bin", "*.pth", "*.gguf"))
    return commit


def base_folder(params: Params, root: Path = Path(), weights: bool = True) -> Path:
    """The folder that `policy.base` names, below `root` or in the hub's cache. weights: whether they are fetched. Raises BaseError, also
    for what is no causal language model of text."""
    name, revision = str(params.policy.base), params.policy.revision
    if not (root / name).is_dir():
        found = fetch(name, revision, weights)
        check_kind(found, name)
        return found
    if revision is not None:
        raise BaseError(f"policy.revision is {revision!r}, but policy.base, {name!r}, is a local folder, which has none: leave it out")
    check_kind(root / name, name)
    return root / name


def commit_of(folder: Path) -> str | None:
    """The commit that a folder of the hub's local cache holds, None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None


def fetch(name: str, revision: str | None = None, weights: bool = True) -> Path:
    """The local copy of a hub model, with its weights or without. Raises BaseError when it is neither there nor to be had."""
    from huggingface_hub import snapshot_download

    ignored = ["*.bin", "*.pth", "*.gguf", "original/*", "onnx/*", *([] if weights else ["*.safetensors"])]
    try:
        return Path(snapshot_download(name, revision=revision, ignore_patterns=ignored))
    except Exception as error:  # anything from a bad name to a lost connection
        reason = " ".join(str(error).split())[:300]
        raise BaseError(
            f"policy.base is {name!r}{f', policy.revision {revision!r}' if revision else ''}: no such local folder, and the hub did not "
            f"give it ({type(error).__name__}: {reason}); check the name, the connection and, for gated models, HF_TOKEN"
        ) from error


def check_folder(folder: Path, name: str) -> None:
    """Raises BaseError unless the folder holds configuration, safetensors weights and a tokenizer."""
    if not (folder / "config.json").is_file():
        raise BaseError(f"policy.base is {name!r}: config.json is missing in {folder}; name a complete model folder")
    check_kind(folder, name)
    if not any(folder.glob("*.safetensors")):
        raise BaseError(
            f"policy.base is {name!r}: no *.safetensors in {folder}; save the model again with save_pretrained, which writes them"
        )
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="np"):
                pass
        except Exception as error:  # the library's own kind, or that of the file system
            raise BaseError(f"policy.base is {name!r}: {file.name} in {folder} is cut off or damaged ({error}); copy it again") from error
    if not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        raise BaseError(
            f"policy.base is {name!r}: a model without tokenizer (none of {', '.join(_TOKENIZER_FILES)} in {folder}); "
            "copy its tokenizer's files there"
        )


def check_kind(folder: Path, name: str) -> None:
    """Raises BaseError for a model that is more than a causal language model of text, or another one: training would load a part of it, and
    publish that part under the configuration of the whole. A folder without config.json passes."""
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    halves = [key for key in _OTHER_HALVES if config.get(key) is not None]
    stored = config.get("architectures") or []
    if halves:
        raise BaseError(
            f"policy.base is {name!r}, {(stored or ['a model'])[0]}, which also takes images or sound ({halves[0]} in its config.json): "
            "only its text half would be trained and published; name a model of text alone"
        )
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    loads = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.get("model_type"))
    if loads is None or "auto_map" in config or not stored:
        return  # an engine knows it or says that it does not
    # Old conversions write LLaMAForCausalLM.
    if loads.lower() not in {one.lower() for one in stored}:
        raise BaseError(
            f"policy.base is {name!r}, whose config.json says {stored[0]}, but as a language model it would be loaded as {loads}, with "
            f"other weights than are stored: name a model whose architecture is {loads}"
        )


def shorten(folder: Path, dtype: str) -> None:
    """Put the float32 weights of a complete folder into a shorter type, file by file, with config.json and the index that tell of it."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    kind = getattr(torch, dtype)
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as stored:
            metadata = stored.metadata()
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}
        tensors = {name: value.to(kind) if value.dtype == torch.float32 else value for name, value in tensors.items()}
        file.unlink()
        save_file(tensors, file, metadata)
    for index in sorted(folder.glob("*.safetensors.index.json")):
        content = json.loads(index.read_text(encoding="utf-8"))
        content.get("metadata", {}).pop("total_size", None)
        _rewrite(index, content)
    set_config_dtype(folder, dtype)


def set_config_dtype(folder: Path, dtype: str) -> None:
    """Say in config.json, in which all else stays, that the weights are of this type."""
    file = folder / "config.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    names = [name for name in ("dtype", "torch_dtype") if name in content] or ["dtype"]
    _rewrite(file, content | dict.fromkeys(names, dtype))


def _rewrite(file: Path, content: dict[str, Any]) -> None:
    """Another file in its place: it may be a copy of one of DVC's cache, which may not be written."""
    file.unlink()
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
