"""Warm start: supervised training of policy 0, stopped while reinforcement still has room.

The measure is what reinforcement will see: pass@1 at sampling temperature on tasks that are no demonstration, judged by the
caller's verifier. Checkpoints make it kill-safe; batch n depends on seed and n alone, so a resumed run sees the same batches.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from assay.engines import Request
from assay.params import Params
from assay.params.tools import TOOL_USE
from assay.training.base import origin
from assay.training.beginnings import from_base, from_scratch
from assay.training.demonstrations import Demonstrations, WarmStartError, batches, encode_rows
from assay.training.supervised import Parts, load_checkpoint, make_optimizer, one_step, parts_of, rate_at, save_checkpoint
from assay.trajectories import publish_folder, seed_from

if TYPE_CHECKING:
    from assay.engines.transformers_engine import TransformersSampler

SAMPLED = 16
"""Rows that are sampled at once for each that is trained at once."""
IsCorrect = Callable[[Mapping[str, Any], str], bool]
"""(row of `tasks`, completion's text) -> right or not."""


@dataclass(frozen=True)
class Check:
    """One measurement of the policy in training."""

    step: int
    loss: float
    """Mean of the completion tokens' cross-entropy since the last check, nats; 0 before any step."""
    pass_at_1: float


def warm_start(
    params: Params,
    tasks: pa.Table,
    demonstrations: pa.Table,
    out: Path,
    scratch: Path,
    is_correct: IsCorrect,
    report: Callable[[str], None] = lambda line: print(line, flush=True),
    pretrained: Path | None = None,
    base: Path | None = None,
    commit: str | None = None,
) -> dict[str, Any]:
    """Train until pass@1 reaches `warm_start.target` and publish out/policy and out/warm_start.json. Returns the summary.

    pretrained: folder of a policy made from scratch to go on from, with its tokenizer. base: of any other model, which is fine-tuned.
    commit: of the hub's model that it is.

    Not reaching the target within max_steps is a warning: the policy is published as it is. Raises WarmStartError.
    """
    if not len(demonstrations):
        raise WarmStartError(
            "there are no demonstrations to start from: raise tasks.demonstrations, add an environment that has such, "
            "or name a trained model in policy.base"
        )
    run = WarmStartRun(params, tasks, demonstrations, scratch, is_correct, pretrained, base)
    report(f"warm start: {run.parameters:,} parameters, {len(run.rows):,} demonstrations, {run.tokens_per_row:.1f} tokens each")
    checks = run.train(report)
    target, last = params.warm_start.target, checks[-1]
    if last.pass_at_1 < target:
        report(
            f"warning: warm start ended after {last.step} steps at pass@1 {last.pass_at_1:.3f}, below warm_start.target {target}: "
            "raise warm_start.max_steps, or make the tasks easier"
        )
    summary = {
        "parameters": run.parameters,
        "demonstrations": len(run.rows),
        "steps": last.step,
        "reached": last.pass_at_1 >= target,
        "checks": [{"step": c.step, "loss": round(c.loss, 6), "pass_at_1": c.pass_at_1} for c in checks],
    } | origin(params, commit)
    draft = scratch / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    run.start.save(draft / "policy", params.policy.dtype)
    (draft / "warm_start.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    publish_folder(draft, out)
    return summary


class WarmStartRun:
    """Tokenizer, model, optimizer and data of one warm start."""

    def __init__(
        self, params: Params, tasks: pa.Table, demonstrations: pa.Table, scratch: Path, is_correct: IsCorrect,
        pretrained: Path | None = None, base: Path | None = None,
    ) -> None:  # fmt: skip
        self.params, self.is_correct = params, is_correct
        self.checkpoint = scratch / "checkpoint.pt"
        held_back = check_tasks(tasks, params.warm_start.check_tasks, params.seed)
        self.held_back = [task for task in held_back if task["verifier"] != TOOL_USE]
        self.to_play = [task for task in held_back if task["verifier"] == TOOL_USE]
        ids = {task["task_id"] for task in held_back}
        rows = [row for row in demonstrations.to_pylist() if row["task_id"] not in ids]
        if not rows:
            raise WarmStartError("every demonstration belongs to a task that is held back for checks: raise tasks.demonstrations")
        options = params.warm_start
        start = from_scratch(params, rows, (), pretrained) if base is None else from_base(params, base, "warm_start", options)
        self.start, self.model, self.renderer = start, start.model, start.renderer
        self.rows: Demonstrations = encode_rows(self.renderer, rows, start.prompts(params, rows), start.limit, start.end)
        self.tokens_per_row = float(self.rows.lengths.mean())
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.optimizer = make_optimizer(self.model, params.warm_start)
        self.renderer.check_prompts(tasks.select(["task_id", "prompt"]).to_pylist())  # better now than after the training
        self.requests = [
            Request(
                prompt_ids=self.renderer.prompt_ids(task["prompt"], task["task_id"]),
                seed=seed_from(params.seed, "warm_start", task["task_id"]),
                temperature=params.sampling.temperature,
                top_p=params.sampling.top_p,
                max_tokens=params.sampling.max_tokens,
            )
            for task in self.held_back
        ]

    def train(self, report: Callable[[str], None]) -> list[Check]:
        """Train to the target or the last step; goes on from the checkpoint, if there is one."""
        options = self.params.warm_start
        checks: list[Check] = []
        step = 0
        if options.max_steps == 0:
            return [Check(0, 0.0, self.pass_at_1())]
        if state := load_checkpoint(self.checkpoint, self.model, self.optimizer):
            step, checks = state["step"], [Check(**check) for check in state["checks"]]
            report(f"warm start: going on from step {step}")
            if self.done(step, checks):
                return checks
        elif self.start.source is not None:  # what is fine-tuned may know enough already
            checks = [Check(0, 0.0, self.pass_at_1())]
            report(f"warm start: the base model has pass@1 {checks[0].pass_at_1:.3f} (target {options.target})")
            if self.done(0, checks):
                return checks
        losses: list[float] = []
        self.model.train()
        for batch in batches(self.rows, options.batch_size, self.params.seed, step):
            losses.append(self.one_step(step, parts_of(batch, self.rows, options.micro_batch_size)))
            step += 1
            if step % options.check_every == 0 or step == options.max_steps:
                checks.append(Check(step, sum(losses) / len(losses), self.pass_at_1()))
                losses = []
                report(
                    f"warm start: step {step}/{options.max_steps}, loss {checks[-1].loss:.3f} nats, "
                    f"pass@1 {checks[-1].pass_at_1:.3f} (target {options.target})"
                )
                save_checkpoint(self.checkpoint, self.model, self.optimizer, step=step, checks=[vars(c) for c in checks])
                if self.done(step, checks):
                    break
        return checks

    def done(self, step: int, checks: Sequence[Check]) -> bool:
        return step >= self.params.warm_start.max_steps or checks[-1].pass_at_1 >= self.params.warm_start.target

    def one_step(self, step: int, parts: Parts) -> float:
        """One optimizer step on a batch. Returns the mean loss of completion tokens, nats."""
        self.start.seed(self.params.seed, "warm_start step", step)
        return one_step(self.start.network, self.optimizer, rate_at(step, self.params.warm_start), parts, self.start.mixed)

    def pass_at_1(self) -> float:
        """Share of held-back tasks that one sample each solves: one completion, or one episode where there are tools."""
        from assay.engines.transformers_engine import TransformersSampler

        self.model.eval()
        import torch

        lengths = [len(one.prompt_ids) + one.max_tokens for one in self.requests]
        limit = self.start.limit.tokens or max([*lengths, self.params.sampling.episodes.max_tokens])
        at_once = SAMPLED * (self.params.warm_start.micro_batch_size or SAMPLED)
        network, mixed = self.start.network, self.start.mixed
        engine = TransformersSampler.around(network, stop_ids=self.renderer.stop_ids, max_model_tokens=limit, batch_size=at_once)
        with torch.autocast(network.device.type, dtype=getattr(torch, mixed or "bfloat16"), enabled=mixed is not None):
            return self._solved(engine)

    def _solved(self, engine: "TransformersSampler") -> float:
        completions = engine.generate(self.requests)
        right = [
            completion.finish_reason == "stop" and self.is_correct(task, self.renderer.text(completion.ids))
            for task, completion in zip(self.held_back, completions, strict=True)
        ]
        if self.to_play:
            from assay.training.warm_start_episodes import answered

            right += answered(self.to_play, engine, self.renderer, self.params)
        self.model.train()
        return sum(right) / len(right)


def check_tasks(tasks: pa.Table, count: int, seed: int) -> list[dict[str, Any]]:
    """Tasks of the train split that are held back to measure on, chosen by hash."""
    train = [row for row in tasks.to_pylist() if row["split"] == "train"]
    return sorted(train, key=lambda row: seed_from(seed, "check", row["task_id"]))[:count]
