"""A small Qwen3-architecture policy made from scratch."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.params.policy import PolicyParams
from assay.training.tokenizer import train_tokenizer
from assay.trajectories import seed_from

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TOKENIZER_TEXTS = 20_000
"""Demonstrations that the tokenizer learns its merges from; more change nothing but the time."""
INITIAL_STD = 0.05
"""Standard deviation of the initial weights; Qwen3's own 0.02 is meant for widths in the thousands."""


def make_model(params: PolicyParams, tokenizer: "PreTrainedTokenizerFast", seed: int) -> Any:
    """A model with seeded weights, independent of the caller's random state, which is left as it was."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    shape = params.shape
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=True,
        initializer_range=INITIAL_STD,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed_from(seed, "model"))
        return Qwen3ForCausalLM(config)


def make_tokenizer(
    params: PolicyParams, template: str, prompts: Sequence[str], completions: Sequence[str], more: Sequence[str] = ()
) -> "PreTrainedTokenizerFast":
    """A tokenizer for rendered demonstrations, and for other texts."""
    texts = [a + b for a, b in zip(prompts[:TOKENIZER_TEXTS], completions, strict=False)]
    return train_tokenizer([*texts, *more], params.shape.vocabulary, template, params.shape.max_positions, params.shape.pieces)


def load_policy(folder: Path) -> tuple["PreTrainedTokenizerFast", Any]:
    """Tokenizer and model that `save_policy` wrote, to be trained on."""
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

    return PreTrainedTokenizerFast.from_pretrained(folder), Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)


def save_policy(model: Any, tokenizer: "PreTrainedTokenizerFast", folder: Path, dtype: str) -> None:
    """A complete policy folder: configuration, safetensors weights, generation configuration, tokenizer with its template."""
    import torch
    from transformers import GenerationConfig

    kind = getattr(torch, dtype)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.config.dtype = kind
    weights = {name: value.detach().to(kind) for name, value in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=weights)
    tokenizer.save_pretrained(folder)
