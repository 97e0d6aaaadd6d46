"""A tiny policy and stored trajectories for the trainer's tests: real files, real tables, nothing mocked."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from assay.params import Params
from assay.training.assemble import assemble_batch
from assay.trajectories import content_hash, schema, to_table

# These models are so small that a second thread only waits, and on a busy machine waits long.
torch.set_num_threads(1)

VOCABULARY = 48
END = 1
LORA = {"rank": 3, "alpha": 7, "dropout": 0.2, "targets": "all-linear"}


def make_params(**sections: Any) -> Params:
    """Parameters for groups of 4, at most 6 tokens, one process, DVCLive off; sections override field by field."""
    base: dict[str, dict[str, Any]] = {
        "sampling": {"group_size": 4, "tasks_per_iteration": 8, "max_tokens": 6},
        "training": {"steps_per_iteration": 2, "micro_batch_size": 5, "grpo": {"report_to": "none"}},
    }
    for name, values in sections.items():
        base[name] = {**base.get(name, {}), **values} if isinstance(values, dict) else values
    return Params.model_validate(base)


def make_policy(folder: Path, *, dtype: str = "float32", seed: int = 0, **shape: Any) -> Path:
    """A complete folder: a random Qwen3 of two layers, a word tokenizer, a template, a generation configuration."""
    from tokenizers import Tokenizer, models
    from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(**{
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 64,
        "tie_word_embeddings": True,
        "eos_token_id": END, "pad_token_id": 0, "bos_token_id": None, "initializer_range": 0.2, **shape,
    })  # fmt: skip
    model = Qwen3ForCausalLM(config).to(getattr(torch, dtype))
    model.generation_config = GenerationConfig(eos_token_id=END, pad_token_id=0)
    model.save_pretrained(folder)
    words = {"<pad>": 0, "<end>": 1, **{f"w{i}": i for i in range(2, VOCABULARY)}}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<pad>")), eos_token="<end>", pad_token="<pad>"
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    tokenizer.save_pretrained(folder)
    return folder


def make_trajectories(
    groups: int, size: int, *, seed: int = 0, iteration: int = 0, temperature: float = 1.0
) -> pa.Table:
    """Random prompts of 2 to 7 tokens and completions of 1 to 6; the last token ends those below 6."""
    generator = np.random.default_rng(seed)
    rows = []
    for group in range(groups):
        prompt = generator.integers(2, VOCABULARY, generator.integers(2, 8)).tolist()
        for index in range(size):
            length = int(generator.integers(1, 7))
            ids = generator.integers(2, VOCABULARY, length).tolist()
            if length < 6:
                ids[-1] = END
            rows.append({
                "trajectory_id": content_hash(iteration, seed, group, index), "iteration": iteration, "round": 0,
                "policy": str(iteration), "task_id": f"task-{group}", "group_id": f"group-{iteration}-{seed}-{group}",
                "sample_index": index, "kind": "solution", "parent_id": None, "prompt_ids": prompt,
                "completion_ids": ids, "loss_mask": [True] * length,
                "sampled_logprobs": generator.uniform(-3, -0.5, length).tolist(),
                "finish_reason": "stop" if length < 6 else "length", "text": "",
                "sampling": {"temperature": temperature, "top_p": 1.0, "max_tokens": 6, "seed": 0, "engine": "test",
                             "engine_version": "0"},
            })  # fmt: skip
    return to_table("trajectories", rows)


def make_verdicts(
    trajectories: pa.Table, rewards: Any = None, *, seed: int = 0, abstain: tuple[int, ...] = ()
) -> pa.Table:
    """Rule verdicts: the given rewards, or random 0 and 1; abstained at the given rows."""
    count = len(trajectories)
    values = (
        np.random.default_rng(seed).integers(0, 2, count).astype(float)
        if rewards is None
        else np.asarray(rewards, float)
    )
    rows = []
    for index, name in enumerate(trajectories["trajectory_id"].to_pylist()):
        silent = index in abstain
        rows.append({
            **dict.fromkeys(schema("verdicts").names),
            "trajectory_id": name, "iteration": trajectories["iteration"][index].as_py(), "round": 0,
            "verifier": "test", "verifier_version": "1", "role": "rule",
            "verdict": "abstain" if silent else "correct" if values[index] else "wrong",
            "reason": "timeout" if silent else "equal", "appealed": False, "flipped": False,
            "observed_reward": None if silent else values[index],
        })  # fmt: skip
    return to_table("verdicts", rows)


def batch_of(params, groups=6, size=4, *, seed=0, iteration=0, reference=None):
    trajectories = make_trajectories(groups, size, seed=seed, iteration=iteration)
    rewards = np.random.default_rng(seed + 9).integers(0, 2, groups * size)
    rewards[::size], rewards[1::size] = 1, 0  # no group without variance
    return assemble_batch(trajectories, make_verdicts(trajectories, rewards), params, reference=reference)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def close(one, other, tolerance=2e-6):
    assert one.keys() == other.keys()
    return all(torch.allclose(one[name], other[name], atol=tolerance, rtol=0) for name in one)
