"""Trained tokens per second of an update, its share of the measured matrix rate, beside TRL's own loop on the same
tokens.

    python -m benchmarks.training [--rows 8192] [--steps 8] [--repeats 2]

Model and micro-batches are those of `scale: tiny`, the default. Each loop runs in a process of its own, so that its peak
memory is its own, and is warmed up by one optimizer step on a few rows. Tokens are all tokens that pass through the model
(prompt and completion, without padding). The share of the matrix rate is 6 x parameters x tokens per second over the best
measured float32 (on a CUDA device: TF32 off) matrix product. TRL's loop gets the same rows from a rollout_func at once,
computes their log-probabilities before the first step, as ours does, and trains on them in the same number of optimizer
steps; what it spends on generation is nothing. Ours publishes the policy too, TRL's saves nothing.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROMPT, COMPLETION, GROUP = (11, 17), (2, 7), 8
"""Lengths as those of the default tasks (from, below)."""
WARM_UP = 32
"""Rows of the step that is not timed."""


def tiny(rows: int, steps: int) -> Any:
    """Params of `scale: tiny` with the given rows and optimizer steps, DVCLive off."""
    from assay.params import Params

    scale = yaml.safe_load((ROOT / "conf/scale/tiny.yaml").read_text(encoding="utf-8"))
    sampling = {**scale["sampling"], "tasks_per_iteration": rows // GROUP, "group_size": GROUP}
    training = {**scale["training"], "steps_per_iteration": steps, "checkpoint_every": steps, "grpo": {"report_to": "none"}}
    return Params.model_validate({
        "policy": scale["policy"], "sampling": sampling, "training": training, "filter": {"zero_variance_groups": False},
    })  # fmt: skip


def make_rows(rows: int, vocabulary: int, max_tokens: int) -> pa.Table:
    """Random tokens with the lengths of the default tasks."""
    from assay.trajectories import content_hash, to_table

    generator = np.random.default_rng(0)
    found = []
    for group in range(rows // GROUP):
        prompt = generator.integers(8, vocabulary, generator.integers(*PROMPT)).tolist()
        for index in range(GROUP):
            ids = generator.integers(8, vocabulary, generator.integers(*COMPLETION)).tolist()
            found.append({
                "trajectory_id": content_hash(group, index), "iteration": 0, "round": 0, "policy": "0",
                "task_id": str(group), "group_id": str(group), "sample_index": index, "kind": "solution",
                "parent_id": None, "prompt_ids": prompt, "completion_ids": ids, "loss_mask": [True] * len(ids),
                "sampled_logprobs": [-6.0] * len(ids),
                "finish_reason": "stop", "text": "", "sampling": {
                    "temperature": 1.0, "top_p": 1.0, "max_tokens": max_tokens, "seed": 0, "engine": "none",
                    "engine_version": "0"},
            })  # fmt: skip
    return to_table("trajectories", found)


def rewards_of(rows: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 2, rows).astype(float)


def make_policy(folder: Path, shape: Any) -> None:
    """A model of the given shape, with random weights."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden_size, intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_dim, max_position_embeddings=shape.max_positions, tie_word_embeddings=True,
        eos_token_id=1, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)
    words = {"<pad>": 0, "<end>": 1, **{f"w{i}": i for i in range(2, shape.vocabulary)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>").save_pretrained(folder)


def run_ours(policy: Path, rows: int, steps: int, scratch: Path) -> float:
    """Seconds of the update: first pass, optimizer steps, publication; libraries and model are loaded before."""
    from assay.training.assemble import assemble_batch
    from assay.training.session import UpdateSession
    from assay.trajectories import schema, to_table

    params = tiny(rows, steps)
    trajectories = make_rows(rows, params.policy.shape.vocabulary, params.sampling.max_tokens)
    rewards = rewards_of(rows)
    verdicts = [
        {
            **dict.fromkeys(schema("verdicts").names), "trajectory_id": name, "iteration": 0, "round": 0,
            "verifier": "none", "verifier_version": "0", "role": "rule", "verdict": "correct" if reward else "wrong",
            "reason": "equal",
            "appealed": False, "flipped": False, "observed_reward": reward,
        }
        for name, reward in zip(trajectories["trajectory_id"].to_pylist(), rewards, strict=True)
    ]  # fmt: skip
    batch = assemble_batch(trajectories, to_table("verdicts", verdicts), params)
    session = UpdateSession(policy, None, params, scratch=scratch / "s")
    session.run(batch.slice(0, WARM_UP))  # first calls allocate
    session.trainer.position = 0
    start = time.perf_counter()
    session.run(batch)
    session.publish(scratch / "next")
    return time.perf_counter() - start


def run_stock(policy: Path, rows: int, steps: int, scratch: Path) -> float:
    """Seconds of TRL's loop over the same tokens: one pass for log-probabilities, then optimizer steps."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    from assay.training.trl_surface import GRPOConfig, GRPOTrainer

    params = tiny(rows, steps)
    trajectories = make_rows(rows, params.policy.shape.vocabulary, params.sampling.max_tokens)
    rewards = rewards_of(rows)
    columns = {name: trajectories[name].to_pylist() for name in ("prompt_ids", "completion_ids", "sampled_logprobs")}
    seen: dict[str, int] = {}

    def rollout(prompts, trainer):
        taken = []
        for prompt in prompts:
            taken.append(int(prompt) * GROUP + seen.get(prompt, 0) % GROUP)
            seen[prompt] = seen.get(prompt, 0) + 1
        picked = {name: [column[i] for i in taken] for name, column in columns.items()}
        return {
            "prompt_ids": picked["prompt_ids"], "completion_ids": picked["completion_ids"],
            "logprobs": picked["sampled_logprobs"], "earned": [float(rewards[i]) for i in taken],
        }  # fmt: skip

    class Clock(TrainerCallback):
        start = 0.0

        def on_step_begin(self, args, state, control, **others):
            self.start = self.start or time.perf_counter()

    model, clock = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32), Clock()
    for count, optimizer_steps in ((WARM_UP, 1), (rows, steps)):
        micro = min(params.training.micro_batch_size, count // optimizer_steps)
        config = GRPOConfig(
            output_dir=str(scratch), per_device_train_batch_size=micro,
            gradient_accumulation_steps=count // optimizer_steps // micro, steps_per_generation=count // micro,
            num_generations=GROUP, max_steps=optimizer_steps, max_completion_length=params.sampling.max_tokens,
            bf16=False, gradient_checkpointing=False, logging_steps=1, shuffle_dataset=False, report_to="none",
            save_strategy="no", disable_tqdm=True, learning_rate=params.training.learning_rate, log_level="error",
        )  # fmt: skip
        seen.clear()
        clock.start = 0.0
        trainer = GRPOTrainer(
            model,
            lambda **given: given["earned"],
            config,
            train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(count // GROUP)]}),
            processing_class=AutoTokenizer.from_pretrained(policy),
            rollout_func=rollout,
            callbacks=[clock],
        )
        trainer.train()
    return time.perf_counter() - clock.start


def worker(arguments: argparse.Namespace) -> None:
    run = run_ours if arguments.worker == "ours" else run_stock
    with tempfile.TemporaryDirectory() as scratch:
        seconds = run(Path(arguments.policy), arguments.rows, arguments.steps, Path(scratch))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print("RESULT " + json.dumps({"seconds": seconds, "gib": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8192, help="sampled rows; a multiple of steps x micro-batch size")
    parser.add_argument("--steps", type=int, default=8, help="optimizer steps that the rows are divided among")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--worker", choices=("ours", "stock"))
    parser.add_argument("--policy")
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(arguments)

    from assay.rounds.plan import measured_matrix_rate, policy_parameters

    params = tiny(arguments.rows, arguments.steps)
    micro = params.training.micro_batch_size
    if arguments.rows % (arguments.steps * min(micro, arguments.rows // arguments.steps) or 1) or arguments.rows % GROUP:
        parser.error(f"--rows {arguments.rows} must be a multiple of --steps x the micro-batch size ({micro}) and of {GROUP}")
    table = make_rows(arguments.rows, params.policy.shape.vocabulary, params.sampling.max_tokens)
    lists = [len(ids) for name in ("prompt_ids", "completion_ids") for ids in table[name].to_pylist()]
    tokens, completion = sum(lists), sum(lists[arguments.rows :])
    size = policy_parameters(params) or 0
    with tempfile.TemporaryDirectory() as scratch:
        make_policy(Path(scratch) / "policy", params.policy.shape)
        results: dict[str, list[dict[str, float]]] = {"ours": [], "stock": []}
        rates = []
        for _ in range(arguments.repeats):
            for name in results:  # in turn, so that a busy moment of the machine does not fall on one alone
                rates.append(measured_matrix_rate())
                command = [
                    sys.executable, "-m", "benchmarks.training", "--worker", name, "--policy", f"{scratch}/policy",
                    "--rows", str(arguments.rows), "--steps", str(arguments.steps),
                ]  # fmt: skip
                environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
                done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
                results[name].append(json.loads(done.stdout.split("RESULT ")[1]))
    rate = max(rates)
    print(f"{arguments.rows:,} rows, {tokens:,} tokens ({completion:,} in completions), {arguments.steps} steps, micro-batches of {micro}")
    print(f"{size:,} parameters; measured matrix rate {rate / 1e9:.1f} GFLOP/s\n")
    print(f"{'loop':<34}{'seconds':>9}{'tokens/s':>11}{'share of matrix rate':>22}{'peak GiB':>10}")
    names = {"ours": "assay (first pass, steps, publish)", "stock": "TRL (first pass, steps)"}
    for name, runs in results.items():
        best = min(runs, key=lambda run: run["seconds"])
        speed = tokens / best["seconds"]
        share = 6 * size * speed / rate
        print(f"{names[name]:<34}{best['seconds']:>9.2f}{speed:>11,.0f}{share:>21.1%}{best['gib']:>11.2f}")


if __name__ == "__main__":
    main()
