"""Estimate of a run from its parameters alone: rows, tokens, disk, minutes. Arithmetic and two short measurements of the machine."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from assay.params import ParameterError, Params, round_params
from assay.params.doubts import column_doubts
from assay.params.noise import EndpointJudge, LocalJudge, SymbolicJudge
from assay.rounds.plan_episodes import sampled
from assay.rounds.plan_models import model_gib

BYTES_PER_ROW, BYTES_PER_TOKEN = 30.0, 4.3
"""Of a stored trajectory, compressed: ids, masks, log-probabilities; benchmarks/storage.py prints the measured figures."""
START_SECONDS = {
    "generate": 6, "pretrain": 6, "warm_start": 6, "presample": 3, "rollout": 10, "verify": 2, "filter": 6, "update": 7, "train": 20,
    "finish": 12, "evaluate": 5,
}  # fmt: skip
"""Libraries and engine, per start of a stage, on two CPU cores; benchmarks/orchestration.py prints the measured figures."""
SAMPLING_SHARE = 0.02
"""Share of the measured matrix rate that sampling reaches (it is bound by memory and launch overhead); benchmarks/sampling.py."""
TRAINING_SHARE = 0.25
"""The same of an update; benchmarks/training.py."""
WARM_START_STEP_ROW_TOKENS = 16
"""Tokens of a demonstration with its prompt, about."""
CHARACTERS_PER_TOKEN = 3
"""Of the question that is put to a judge, at least: English prose has four or more."""


@dataclass(frozen=True)
class Line:
    """One stage: how often it runs, and what one run handles."""

    stage: str
    runs: int
    rows: int
    tokens: int
    """Completion tokens at most (max_tokens per row)."""
    gib: float
    minutes: float


@dataclass(frozen=True)
class Appeals:
    """What goes before the judge."""

    judge: str
    runs: int
    """Iterations."""
    calls: int
    """Of one iteration, at most, on average over the draws. (Equal questions are put once.)"""
    tokens: int | None
    """Read and written by a language model in these calls, at most; None for other judges."""


@dataclass(frozen=True)
class Estimate:
    """What a run will take: a line for each stage."""

    parameters: int
    """Of the policy."""
    lines: tuple[Line, ...]
    matrix_rate: float
    """Measured, FLOP/s in float32."""
    appeals: Appeals | None = None
    doubts: tuple[str, ...] = ()
    """Sentences about what would not fit."""


def policy_parameters(params: Params, root: Path = Path()) -> int | None:
    """Number of parameters of the policy: exact from its shape, or from the folder's weights; None for a hub name."""
    if params.policy.base is None:
        s = params.policy.shape
        attention = s.hidden_size * s.head_dim * (2 * s.heads + 2 * s.key_value_heads) + 2 * s.head_dim
        layer = attention + 3 * s.hidden_size * s.intermediate_size + 2 * s.hidden_size
        return s.vocabulary * s.hidden_size + s.layers * layer + s.hidden_size
    folder = root / params.policy.base
    if not folder.is_dir():
        return None
    config = folder / "config.json"
    if not config.is_file():
        raise ParameterError(f"params.yaml: policy.base is {params.policy.base!r}, but {config} is missing; name a complete model folder")
    content = json.loads(config.read_text(encoding="utf-8"))
    kind = content.get("dtype") or content.get("torch_dtype") or "bfloat16"
    width = {"float32": 4, "float16": 2, "bfloat16": 2}.get(str(kind), 2)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) // width


def measured_matrix_rate() -> float:
    """FLOP/s of a float32 matrix product on this machine's default device, best of a few short runs."""
    import time

    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 4096 if device == "cuda" else 1024
    a = torch.rand(size, size, device=device)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        product = a @ a
        float(product[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def stored_gib(rows: int, tokens: int) -> float:
    """GiB on disk of so many trajectories with so many tokens altogether."""
    return (rows * BYTES_PER_ROW + tokens * BYTES_PER_TOKEN) / 2**30


def estimate_appeals(params: Params, rows: int) -> Appeals | None:
    """Calls and tokens for so many training rows an iteration; None without appeals.

    A row is a negative or a positive of the rule, so that the larger of the two probabilities bounds the share of rows that are judged.
    A longer prompt than a local judge takes is not put to it. What an endpoint reads is bounded by what the policy may read and write,
    as long as the judge's tokenizer cuts no finer than the policy's; an answer is counted twice, for a gold of the same length.
    """
    appeals, judge = params.verification.appeals, params.verification.appeals.judge
    if not appeals.enabled:
        return None
    calls = math.ceil(round(max(appeals.probability, appeals.audit_probability) * rows, 6))
    name: str = f"symbolic {judge.verifier}" if isinstance(judge, SymbolicJudge) else judge.type
    each = None
    if isinstance(judge, LocalJudge):
        name, each = f"local {judge.model}", judge.max_prompt_tokens + judge.max_tokens
    elif isinstance(judge, EndpointJudge):
        from assay.verifiers.judges.prompt import PROMPT

        asked = (len(PROMPT) + len(judge.system_prompt or "")) // CHARACTERS_PER_TOKEN
        each = asked + params.policy.max_prompt_tokens + 2 * params.sampling.max_tokens + judge.max_tokens
        name = f"endpoint {judge.model}" if judge.model else name
    return Appeals(name, len(params.iterations), calls, None if each is None else each * calls)


def estimate_run(params: Params, root: Path = Path(), *, fused: bool = False) -> Estimate:
    """Lines of the plan, in the order of the staged or the fused pipeline. Tokens are upper bounds; minutes are rough (a factor
    of two)."""
    size = policy_parameters(params, root) or 0
    rate = measured_matrix_rate()
    count = len(params.iterations)
    t = params.tasks
    s = (round_params(params) if fused else params).sampling
    rounds = params.fused.rounds if fused else 1
    held_out = (t.eval + t.ood) * params.evaluation.samples
    rows_of = sampled(params.model_copy(update={"sampling": s}), s.tasks_per_iteration * rounds, held_out)
    train_rows, eval_rows, eval_tokens = rows_of.trained.rows, rows_of.evaluated.rows, rows_of.evaluated.tokens
    weights, trainer = model_gib(params, size, root)

    def sampling(rows: int, tokens: int) -> float:
        return (tokens + rows * params.policy.max_prompt_tokens / 8) * 2 * size / (rate * SAMPLING_SHARE)

    def training(tokens: float, passes: int = 8) -> float:
        return passes * size * tokens / (rate * TRAINING_SHARE)

    def line(stage: str, runs: int, rows: int, tokens: int, gib: float, seconds: float) -> Line:
        return Line(stage, runs, rows, tokens, gib, runs * (START_SECONDS[stage] + seconds) / 60)

    shown = t.demonstrations if params.supervises else 0
    warm_tokens = 0 if not params.supervises else params.warm_start.max_steps * params.warm_start.batch_size * WARM_START_STEP_ROW_TOKENS
    rehearsal, in_batch = params.training.rehearsal, train_rows
    if rehearsal is not None and rehearsal.coefficient > 0:
        in_batch += rehearsal.rows_per_step * (round_params(params) if fused else params).training.steps_per_iteration * rounds
    judged, judged_tokens, judged_at_evaluation = critique_rows(params, s.tasks_per_iteration * rounds, eval_rows)
    in_batch += judged
    in_batch_tokens = rows_of.trained.tokens + (in_batch - train_rows) * s.max_tokens
    update = training(in_batch_tokens + in_batch * rows_of.context / 4)
    batch = stored_gib(in_batch, in_batch_tokens)
    further, further_tokens = continuation_rows(params, train_rows)
    both = train_rows + rows_of.collected.rows + eval_rows + judged + judged_at_evaluation + further
    both_tokens = rows_of.trained.tokens + rows_of.collected.tokens + eval_tokens + judged_tokens + further_tokens
    eval_rows, eval_tokens = eval_rows + judged_at_evaluation, eval_tokens + judged_at_evaluation * critique_tokens(params)
    own = t.train + t.eval + t.ood
    begin: tuple[Line, ...] = (
        line("generate", 1, own, 0, (own + shown) * 120 / 2**30, shown / 20_000),
        line("warm_start", 1, shown, warm_tokens, weights, training(warm_tokens, 6)),
    )
    reading = params.warm_start.pretraining
    if reading.max_steps and params.supervises:
        read = reading.max_steps * reading.batch_size * WARM_START_STEP_ROW_TOKENS
        begin = (begin[0], line("pretrain", 1, params.tasks.texts, read, weights, training(read, 6)), begin[1])
    if params.presample.enabled:
        asked = t.train * (params.presample.samples + 1)
        tokens = asked * s.max_tokens
        begin = (*begin, line("presample", 1, asked, tokens, stored_gib(asked, tokens), START_SECONDS["rollout"] + sampling(asked, tokens)))
    staged = (
        line("rollout", count, both, both_tokens, stored_gib(both, both_tokens), sampling(both, both_tokens)),
        line("verify", count, both, 0, both * 12 / 2**30, both / 40_000),
        line("filter", count, in_batch, in_batch_tokens, batch, in_batch / 40_000),
        line("update", count, in_batch, in_batch_tokens, batch + weights + trainer, update),
    )
    in_one = (line("train", count, both, both_tokens, 3 * batch + weights + trainer, sampling(both, both_tokens) + update + both / 20_000),)
    end = (
        line("finish", 1, eval_rows, eval_tokens, stored_gib(eval_rows, eval_tokens), sampling(eval_rows, eval_tokens)),
        line("evaluate", 1, (count + 1) * eval_rows, 0, 0.002, (count + 1) * eval_rows / 20_000),
    )
    doubts = tuple(column_doubts(round_params(params) if fused else params))
    return Estimate(size, (*begin, *(in_one if fused else staged), *end), rate, estimate_appeals(params, train_rows), doubts)


def critique_tokens(params: Params) -> int:
    """Tokens that one critique may have at most."""
    return params.self_verification.max_tokens or params.sampling.max_tokens


def critique_rows(params: Params, tasks: int, eval_rows: int) -> tuple[int, int, int]:
    """Critiques that train, tokens of all critiques at most, critiques of evaluation samples; of one iteration."""
    own = params.self_verification
    trained = own.prompts(tasks) * (own.group_size or params.sampling.group_size)
    return trained, (trained + own.evaluation * eval_rows) * critique_tokens(params), own.evaluation * eval_rows


def continuation_rows(params: Params, solutions: int) -> tuple[int, int]:
    """Continuations and their tokens at most: solutions as long as they may be, split as often as the thresholds allow."""
    option = params.stepwise
    unit = 1 if option.unit == "tokens" else CHARACTERS_PER_TOKEN
    splits = max(0, (params.sampling.max_tokens * unit - option.opening) // option.interval)
    rows = solutions * (1 + splits) * option.continuations
    return rows, rows * option.max_tokens


def format_estimate(estimate: Estimate) -> str:
    """A table for a terminal: each stage times the number of its runs, and the sum."""
    head = f"{'stage':<12}{'runs':>5}{'rows each':>12}{'tokens each, at most':>22}{'GiB in all':>12}{'minutes in all':>16}"
    body = [f"{x.stage:<12}{x.runs:>5}{x.rows:>12,}{x.tokens:>22,}{x.gib * x.runs:>12.3f}{x.minutes:>16.1f}" for x in estimate.lines]
    gib, minutes = sum(x.gib * x.runs for x in estimate.lines), sum(x.minutes for x in estimate.lines)
    total = f"{'together':<51}{gib:>12.3f}{minutes:>16.1f}"
    size = f"{estimate.parameters:,} parameters" if estimate.parameters else "size unknown before its download: minutes are start-up only"
    note = f"policy: {size}; measured matrix rate {estimate.matrix_rate / 1e9:,.0f} GFLOP/s; minutes are rough (a factor of two either way)"
    doubts = [f"warning: {doubt}" for doubt in estimate.doubts]
    return "\n".join([head, *body, total, *_appeals(estimate.appeals), *doubts, note])


def _appeals(appeals: Appeals | None) -> list[str]:
    if appeals is None:
        return []
    runs, calls, tokens = appeals.runs, appeals.calls, appeals.tokens
    line = f"appeals: at most {calls:,} answers an iteration go before the judge ({appeals.judge}), {runs * calls:,} in all"
    if tokens is not None:
        line += f"; it reads and writes at most {tokens:,} tokens an iteration, {runs * tokens:,} in all (minutes not counted)"
    return [line]
