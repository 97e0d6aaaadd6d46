"""Fused rounds beside TRL's own GRPO loop: updates per second and held-out pass@1 after equal updates, in one run.

    dvc repro warm_start                                  # policy 0 and tasks, which both start from
    python -m benchmarks.fused_vs_trl --updates 60 --seeds 0 1 2

Both train the same policy on tasks of the same split: the same group size, tasks per update, lengths, learning rate, loss,
clip and number of updates, each loop in a process of its own, in turn. TRL generates with its default (transformers) and
rewards with the same rule, called in process. Ours samples with vLLM, verifies with the cascade (rule, reference, oracle),
estimates the rule's noise and records every row, durable after each round. Starting (imports, engine) is left out of the
rates and printed; so is the first update of each, which meets every shape for the first time. A loop's peak is of resident
memory, its worker processes included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

import assay  # noqa: F401  telemetry off, threads asleep while waiting
from assay.params import Params, load_params

PARTS = ("plan", "sample", "verify", "assemble", "update", "write", "swap")
RECORDING = ("verify", "write")


def settings(seed: int, updates: int, tasks: int) -> Params:
    """The default run's parameters with rounds of one optimizer step."""
    base = load_params()
    return base.model_copy(update={
        "seed": seed,
        "fused": base.fused.model_copy(update={"rounds": updates, "tasks_per_round": tasks, "steps_per_round": 1}),
        "training": base.training.model_copy(update={"grpo": {"report_to": "none"}}),
    })  # fmt: skip


def run_ours(params: Params, model: Path, tasks: Path, out: Path) -> dict[str, Any]:
    from assay.params import load_execution
    from assay.rounds.round_report import RoundReport
    from assay.rounds.train import Places, train

    began, ends, reports = time.perf_counter(), [], []

    def watch(report: RoundReport) -> None:
        ends.append(time.perf_counter())
        reports.append(report)
        if report.round % 10 == 9:
            print(report, file=sys.stderr, flush=True)

    places = Places(tasks / "tasks.parquet", model, model / "policy", out / "tables", out / "model", out / "scratch", None)
    train(params, 0, places, load_execution(), watch)
    later = reports[1:]
    parts = {name: sum(report.seconds.get(name, 0.0) for report in later) / len(later) for name in PARTS}
    start = ends[0] - began - sum(reports[0].seconds.values())
    return {"seconds": (ends[-1] - ends[0]) / len(later), "start": start, "parts": parts, "policy": str(out / "model/policy")}


def run_trl(params: Params, model: Path, tasks: Path, out: Path) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    from assay.environments import tasks_from_table
    from assay.training.trl_surface import GRPOConfig, GRPOTrainer
    from assay.trajectories import read_table
    from assay.verifiers import Judge

    began = time.perf_counter()
    every = tasks_from_table(read_table("tasks", tasks / "tasks.parquet"))
    known = {name: task for name, task in every.items() if task.split == "train"}
    sampling, training, rows = params.sampling, params.training, params.fused.tasks_per_round * params.sampling.group_size
    micro = min(training.micro_batch_size, rows)
    judge = Judge(params.verification)

    def reward(completions: list[Any], task_id: list[str], **_others: Any) -> list[float]:
        texts = [completion[0]["content"] for completion in completions]
        return [float(judge.verdict(known[name], text).verdict == "correct") for name, text in zip(task_id, texts, strict=True)]

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_others: Any) -> None:
            ends.append(time.perf_counter())

    config = GRPOConfig(
        output_dir=str(out / "trl"), seed=params.seed, max_steps=params.fused.rounds, learning_rate=training.learning_rate,
        lr_scheduler_type="constant", weight_decay=training.weight_decay, max_grad_norm=training.max_gradient_norm,
        per_device_train_batch_size=micro, gradient_accumulation_steps=rows // micro, num_generations=sampling.group_size,
        max_completion_length=sampling.max_tokens, temperature=sampling.temperature, top_k=0, beta=0.0, loss_type="grpo",
        epsilon=training.loss.clip_low, epsilon_high=training.loss.clip_high, bf16=False, gradient_checkpointing=False,
        report_to="none", save_strategy="no", logging_steps=10, disable_tqdm=True, log_level="error", use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(model / "policy")
    rows_of = [{"prompt": [dict(m) for m in task.prompt], "task_id": name} for name, task in sorted(known.items())]
    trainer = GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(model / "policy", dtype=torch.float32), reward, config,
        train_dataset=Dataset.from_list(rows_of), processing_class=tokenizer, callbacks=[Clock()],
    )  # fmt: skip
    start = time.perf_counter() - began
    trainer.train()
    trainer.save_model(str(out / "policy"))
    tokenizer.save_pretrained(out / "policy")
    return {"seconds": (ends[-1] - ends[0]) / (len(ends) - 1), "start": start, "parts": {}, "policy": str(out / "policy")}


def run_evaluation(params: Params, model: Path, tasks: Path, out: Path) -> dict[str, Any]:
    """pass@1 of the policy in `model` on held-out tasks, as the pipeline measures it."""
    from assay.environments import tasks_from_table
    from assay.evaluation import evaluate
    from assay.params import load_execution
    from assay.rounds import open_bench, open_sampler, plan_samples, sample_into, verify
    from assay.trajectories import read_table
    from assay.verifiers import NoiseState

    plan = plan_samples(tasks / "tasks.parquet", params, 0, ("evaluation",))
    with open_sampler(params, model, load_execution(), plan) as sampler:
        sample_into(sampler, plan, params, out / "samples")
    table, rows = read_table("tasks", tasks / "tasks.parquet"), read_table("trajectories", out / "samples")
    known, execution = tasks_from_table(table), load_execution()
    with open_bench(known, params, execution, appeals=False) as bench:
        verdicts = verify(known, rows, params, execution, bench, NoiseState()).verdicts
    wanted = {"environment": "all", "split": "eval", "metric": "pass@1"}
    for row in evaluate(table, rows, verdicts, params.evaluation).to_pylist():
        if all(row[key] == value for key, value in wanted.items()):
            return {"value": row["value"], "low": row["low"], "high": row["high"]}
    raise LookupError("no pass@1 on held-out tasks")


RUNS = {"ours": run_ours, "trl": run_trl, "evaluate": run_evaluation}


def worker(arguments: argparse.Namespace) -> None:
    params = settings(arguments.seed, arguments.updates, arguments.tasks)
    with tempfile.TemporaryDirectory() as scratch:
        result = RUNS[arguments.worker](params, arguments.model, arguments.data, arguments.out or Path(scratch))
    print("RESULT " + json.dumps(result))


def call(name: str, arguments: argparse.Namespace, seed: int, model: Path, out: Path) -> dict[str, Any]:
    """A worker process's result, with the peak of its resident memory in GiB."""
    command = [
        sys.executable, "-m", "benchmarks.fused_vs_trl", "--worker", name, "--seed", str(seed), "--updates", str(arguments.updates),
        "--tasks", str(arguments.tasks), "--model", str(model), "--data", str(arguments.data), "--out", str(out),
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    peak = 0

    def look() -> None:
        nonlocal peak
        while process.poll() is None:
            try:
                tree = psutil.Process(process.pid)
                peak = max(peak, sum(part.memory_info().rss for part in (tree, *tree.children(recursive=True))))
            except psutil.NoSuchProcess:
                pass
            time.sleep(0.5)

    looker = threading.Thread(target=look)
    looker.start()
    output, _ = process.communicate()
    looker.join()
    if process.returncode:
        raise SystemExit(f"{name} ended with {process.returncode}")
    return json.loads(output.split("RESULT ")[1]) | {"gib": peak / 2**30}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--tasks", type=int, default=128, help="tasks per update")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--model", type=Path, default=Path("models/0"))
    parser.add_argument("--data", type=Path, default=Path("data/tasks"))
    parser.add_argument("--worker", choices=tuple(RUNS), help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(arguments)
    if not (arguments.model / "policy").is_dir():
        raise SystemExit(f"{arguments.model}: no policy; run `dvc repro warm_start` first")
    group = load_params().sampling.group_size
    size = f"{arguments.tasks} tasks x {group} completions"
    print(f"{arguments.updates} updates of {size}, one optimizer step each; {os.cpu_count()} CPU cores")
    print(f"{'seed':>4}  {'loop':<6}{'updates/s':>10}{'start s':>9}{'GiB':>6}  held-out pass@1 after them", flush=True)
    parts, ratios = [], []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            found = {name: call(name, arguments, seed, arguments.model, Path(folder) / name) for name in ("ours", "trl")}
            scores = {
                name: call("evaluate", arguments, seed, Path(result["policy"]), Path(folder) / f"{name}-eval")
                for name, result in found.items()
            }
        for name, result in found.items():
            score = "{value:.3f} [{low:.3f}, {high:.3f}]".format(**scores[name])
            print(f"{seed:>4}  {name:<6}{1 / result['seconds']:>10.2f}{result['start']:>9.1f}{result['gib']:>6.2f}  {score}", flush=True)
        ratios.append(found["trl"]["seconds"] / found["ours"]["seconds"])
        parts.append(found["ours"]["parts"])
        overlap = scores["ours"]["low"] <= scores["trl"]["high"] and scores["trl"]["low"] <= scores["ours"]["high"]
        print(f"{'':>4}  ours is {ratios[-1]:.2f} times as fast; the intervals {'overlap' if overlap else 'are DISJOINT'}", flush=True)
    mean = {name: sum(part[name] for part in parts) / len(parts) for name in PARTS}
    total = sum(mean.values())
    print("\nwhere a round of ours goes: " + ", ".join(f"{name} {value:.3f} s ({value / total:.0%})" for name, value in mean.items()))
    share = sum(mean[name] for name in RECORDING) / total
    print(f"recording and verification: {share:.1%} (aim: below 10%); speed: {min(ratios):.2f} to {max(ratios):.2f} times TRL's (aim: 1.0)")


if __name__ == "__main__":
    main()
