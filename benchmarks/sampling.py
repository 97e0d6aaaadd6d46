"""Sampled tokens per second of each engine, on the same requests, in one run: `python -m benchmarks.sampling`.

Each engine runs in a process of its own, one after the other. The first batch is the one that counts in a pipeline (a
stage samples each shard once); the second shows what remains when every matrix shape has been met before. Memory is the
peak of resident memory of the engine's process and all below it. The last columns compare the reported log-
probabilities with one plain float32 forward pass of transformers over the same tokens.
"""

import argparse
import os
import pickle
import random
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

import assay  # noqa: F401  telemetry off, threads asleep while waiting
from assay.engines import PLAIN_TEMPLATE, Completion, Request, load_renderer, open_engine
from assay.params import Params
from assay.params.execution import ExecutionParams
from assay.params.sampling import ServerEngine, TransformersEngine, VllmEngine

ENGINES = ("vllm", "transformers", "server")
COLUMNS = {
    "engine": -28,
    "start s": 8,
    "tokens": 9,
    "tokens/s": 10,
    "2nd batch": 11,
    "GiB": 6,
    "mean |d|": 10,
    "max |d|": 10,
}
HEAD = "".join(f"{name:{'<' if width < 0 else '>'}{abs(width)}}" for name, width in COLUMNS.items())


@dataclass(frozen=True)
class Result:
    start: float
    """Seconds from process start to the first request."""
    seconds: tuple[float, ...]
    """Of each batch."""
    completions: list[Completion]
    version: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--policy", type=Path, default=Path("models/0/policy"), help="default: %(default)s, else random weights"
    )
    parser.add_argument("--prompts", type=int, default=512)
    parser.add_argument("--samples", type=int, default=8, help="completions per prompt")
    parser.add_argument("--max-tokens", type=int, default=Params().sampling.max_tokens)
    parser.add_argument("--compared", type=int, default=512, help="completions whose log-probabilities are compared")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--worker", nargs=3, metavar=("ENGINE", "IN", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        engine, source, target = arguments.worker
        policy, stop_ids, requests = pickle.loads(Path(source).read_bytes())
        Path(target).write_bytes(pickle.dumps(measure(engine, policy, stop_ids, requests)))
        return
    with tempfile.TemporaryDirectory() as folder:
        policy = arguments.policy if arguments.policy.is_dir() else random_policy(Path(folder) / "policy")
        renderer = load_renderer(policy, Params().policy)
        requests = make_requests(renderer, arguments.prompts, arguments.samples, arguments.max_tokens)
        print(f"policy {arguments.policy if policy == arguments.policy else 'of the default shape, random weights'}")
        print(f"{len(requests):,} requests, up to {arguments.max_tokens} tokens each; {os.cpu_count()} CPU cores\n")
        job = Path(folder) / "job"
        job.write_bytes(pickle.dumps((policy, renderer.stop_ids, requests)))
        print(HEAD)
        for engine in arguments.engines:
            result, peak = run(engine, job, Path(folder) / engine)
            print(
                line(engine, result, peak, differences(policy, requests, result.completions, arguments.compared)),
                flush=True,
            )
        print("\n|d|: reported minus recomputed log-probability, nats")


def make_requests(renderer, prompts: int, samples: int, max_tokens: int) -> list[Request]:
    """Sums, rendered as the policy's prompts."""
    generator = random.Random(0)
    requests = []
    for _ in range(prompts):
        question = " + ".join(str(generator.randrange(1000)) for _ in range(generator.randrange(2, 4)))
        ids = renderer.prompt_ids([{"role": "user", "content": f"What is {question}?"}])
        requests += [Request(ids, generator.randrange(2**31), 1.0, 1.0, max_tokens) for _ in range(samples)]
    return requests


def random_policy(folder: Path) -> Path:
    """Random weights of the default shape, with the tokenizer that a warm start makes from some text."""
    from assay.training.model import make_model, save_policy
    from assay.training.tokenizer import train_tokenizer

    params = Params().policy
    texts = [f"What is {n} + {n * 7 % 1000}? {n * 8}" for n in range(1000)]
    tokenizer = train_tokenizer(texts, params.shape.vocabulary, PLAIN_TEMPLATE, params.shape.max_positions)
    save_policy(make_model(params, tokenizer, 0), tokenizer, folder, "float32")
    return folder


def measure(engine: str, policy: Path, stop_ids: tuple[int, ...], requests: list[Request]) -> Result:
    """In the engine's own process: start it and sample the batch twice."""
    started = time.perf_counter()
    longest = max(len(request.prompt_ids) + request.max_tokens for request in requests)
    with ExitStack() as stack:
        params: VllmEngine | TransformersEngine | ServerEngine
        execution = ExecutionParams()
        if engine == "server":
            from assay.engines.serving import CPU_ARGUMENTS, serve

            log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "log"
            arguments = (
                *CPU_ARGUMENTS,
                "--kv-cache-memory-bytes",
                str(2**30),
                "--max-num-seqs",
                "1024",
                "--block-size",
                "32",
            )
            served = serve(policy, dtype="float32", max_model_tokens=longest, arguments=arguments, log=log)
            params, execution = ServerEngine(), ExecutionParams(server={"urls": (stack.enter_context(served),)})
        else:
            params = VllmEngine() if engine == "vllm" else TransformersEngine()
        opened = open_engine(
            params, policy, stop_ids=stop_ids, dtype="float32", max_model_tokens=longest, execution=execution
        )
        start, seconds = time.perf_counter() - started, []
        for _ in range(2):
            begun = time.perf_counter()
            completions = opened.generate(requests)
            seconds.append(time.perf_counter() - begun)
        opened.close()
    return Result(start, tuple(seconds), completions, opened.version)


def run(engine: str, job: Path, answer: Path) -> tuple[Result, int]:
    """Result of a worker process and the peak of its resident memory, with all processes below it, in bytes."""
    command = [sys.executable, "-m", "benchmarks.sampling", "--worker", engine, str(job), str(answer)]
    process = subprocess.Popen(command)
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            try:
                tree = psutil.Process(process.pid)
                peak = max(peak, sum(resident(part) for part in (tree, *tree.children(recursive=True))))
            except psutil.NoSuchProcess:
                pass
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    watcher.join()
    if code:
        sys.exit(f"engine {engine} ended with code {code}")
    return pickle.loads(answer.read_bytes()), peak


def resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def differences(policy: Path, requests: list[Request], completions: list[Completion], count: int) -> list[float]:
    """|reported - recomputed| log-probabilities of the first `count` completions, nats."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(policy), dtype=torch.float32).eval()
    found = []
    for request, completion in zip(requests[:count], completions[:count], strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([request.prompt_ids + completion.ids])).logits[
                0, len(request.prompt_ids) - 1 : -1
            ]
        logprobs = logits.log_softmax(-1).gather(1, torch.tensor(completion.ids)[:, None]).squeeze(1)
        found += (logprobs - torch.tensor(completion.logprobs)).abs().tolist()
    return found


def line(engine: str, result: Result, peak: int, found: list[float]) -> str:
    tokens = sum(len(completion.ids) for completion in result.completions)
    first, second = (tokens / seconds for seconds in result.seconds)
    name = {"server": "vllm serve, loopback"}.get(engine, engine) + f" {result.version}"
    return (
        f"{name:<28}{result.start:>8.1f}{tokens:>9,}{first:>10,.0f}{second:>11,.0f}{peak / 2**30:>6.2f}"
        f"{sum(found) / len(found):>10.1e}{max(found):>10.1e}"
    )


if __name__ == "__main__":
    main()
