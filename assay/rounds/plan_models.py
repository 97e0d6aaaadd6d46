"""What a published policy and its trainer state take on disk."""

import json
from pathlib import Path

from assay.params import Params
from assay.params.policy import LoraParams

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_ENDS = ("embed", "lm_head", "wte", "wpe")
"""Parts of names of tables and output heads, which adapters leave out unless they are named."""


def model_gib(params: Params, size: int, root: Path = Path()) -> tuple[float, float]:
    """Of policy K in its published type, and of what the next update needs beside it. size: parameters of the policy, 0 if unknown.

    In full: two float32 moments of Adam, and float32 weights where those of the policy are shorter. An adapter: it and its moments, and a
    copy of the base under it (which DVC's cache holds once, and so does a workspace with cache.type reflink or hardlink). A critic:
    float32 weights and moments of a whole model.
    """
    kind = published_dtype(params, root)
    if params.training.lora is None:
        state = 8 * size + (4 * size if kind != "float32" else 0)
    else:
        state = 12 * adapter_parameters(params.training.lora, matrices(params, root)) + BYTES[kind] * size
    if params.training.critic is not None:
        state += 12 * size
    return size * BYTES[kind] / 2**30, state / 2**30


def published_dtype(params: Params, root: Path = Path()) -> str:
    """Type of the published weights: policy.dtype, and of a local base the shorter one of that and its own."""
    config = root / str(params.policy.base) / "config.json"
    if params.policy.base is None or not config.is_file():
        return params.policy.dtype
    content = json.loads(config.read_text(encoding="utf-8"))
    own = str(content.get("dtype") or content.get("torch_dtype") or "float32")
    return own if own in BYTES and own != "float32" else params.policy.dtype


def matrices(params: Params, root: Path = Path()) -> dict[str, tuple[int, ...]]:
    """Shapes of the policy's matrices by name; none for a hub name, whose files are not here."""
    if params.policy.base is not None:
        folder = root / params.policy.base
        if not any(folder.glob("*.safetensors")):
            return {}
        from assay.engines.folder import read_shape

        return {name: shape for name, shape in read_shape(folder).tensors.items() if len(shape) == 2}
    s = params.policy.shape
    queries, keys = s.heads * s.head_dim, s.key_value_heads * s.head_dim
    attention = {"q_proj": queries, "k_proj": keys, "v_proj": keys, "o_proj": queries}
    layer = {name: (s.hidden_size, width) for name, width in attention.items()}
    layer |= dict.fromkeys(("gate_proj", "up_proj", "down_proj"), (s.hidden_size, s.intermediate_size))
    return {f"layers.{n}.{name}.weight": shape for n in range(s.layers) for name, shape in layer.items()}


def adapter_parameters(options: LoraParams, shapes: dict[str, tuple[int, ...]]) -> int:
    """Of A and B of every adapted matrix: rank x (rows + columns)."""

    def adapted(name: str) -> bool:
        if options.targets == "all-linear":
            return not any(end in name for end in _ENDS)
        return name.removesuffix(".weight").split(".")[-1] in options.targets

    return sum(options.rank * sum(shape) for name, shape in shapes.items() if adapted(name))
