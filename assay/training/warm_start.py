"""Warm start: supervised training of a small policy from scratch, stopped while reinforcement still has room.

The measure is what reinforcement will see: pass@1 at sampling temperature on tasks that are no demonstration, judged by the
caller's verifier. Checkpoints make it kill-safe; batch n depends on seed and n alone, so a resumed run sees the same batches.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from assay.engines import PLAIN_TEMPLATE, Renderer, Request, given_template
from assay.environments.tools.tasks import VERIFIER as TOOL_USE
from assay.params import Params
from assay.training.demonstrations import IGNORED, Demonstrations, batches, by_width, encode
from assay.training.model import make_model, save_policy
from assay.training.tokenizer import train_tokenizer
from assay.trajectories import publish_folder, seed_from, sync_file

IsCorrect = Callable[[Mapping[str, Any], str], bool]
"""(row of `tasks`, completion's text) -> right or not."""
TOKENIZER_TEXTS = 20_000
"""Demonstrations that the tokenizer learns its merges from; more change nothing but the time."""


class WarmStartError(ValueError):
    """Demonstrations that no policy can be trained on."""


@dataclass(frozen=True)
class Check:
    """One measurement of the policy in training."""

    step: int
    loss: float
    """Mean of the completion tokens' cross-entropy since the last check, nats."""
    pass_at_1: float


def warm_start(
    params: Params,
    tasks: pa.Table,
    demonstrations: pa.Table,
    out: Path,
    scratch: Path,
    is_correct: IsCorrect,
    report: Callable[[str], None] = lambda line: print(line, flush=True),
) -> dict[str, Any]:
    """Train until pass@1 reaches `warm_start.target` and publish out/policy and out/warm_start.json. Returns the summary.

    Not reaching the target within max_steps is a warning: the policy is published as it is. Raises WarmStartError.
    """
    if not len(demonstrations):
        raise WarmStartError(
            "there are no demonstrations to start from: raise tasks.demonstrations, add an environment that has such, "
            "or name a trained model in policy.base"
        )
    run = WarmStartRun(params, tasks, demonstrations, scratch, is_correct)
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
    }
    draft = scratch / "draft"
    save_policy(run.model, run.tokenizer, draft / "policy", params.policy.dtype)
    (draft / "warm_start.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    publish_folder(draft, out)
    return summary


class WarmStartRun:
    """Tokenizer, model, optimizer and data of one warm start."""

    def __init__(self, params: Params, tasks: pa.Table, demonstrations: pa.Table, scratch: Path, is_correct: IsCorrect) -> None:
        import torch

        self.params, self.is_correct = params, is_correct
        self.checkpoint = scratch / "checkpoint.pt"
        held_back = check_tasks(tasks, params.warm_start.check_tasks, params.seed)
        self.held_back = [task for task in held_back if task["verifier"] != TOOL_USE]
        self.to_play = [task for task in held_back if task["verifier"] == TOOL_USE]
        ids = {task["task_id"] for task in held_back}
        rows = [row for row in demonstrations.to_pylist() if row["task_id"] not in ids]
        if not rows:
            raise WarmStartError("every demonstration belongs to a task that is held back for checks: raise tasks.demonstrations")
        template = given_template(params.policy) or PLAIN_TEMPLATE
        turns = [row["turns"] or [{"role": "assistant", "content": row["completion"]}] for row in rows]
        shape = params.policy.shape
        prompts = rendered(params, template, [row["prompt"] for row in rows])
        told = [[*row["prompt"], *more] for row, more in zip(rows[:TOKENIZER_TEXTS], turns, strict=False)]
        self.tokenizer = train_tokenizer(
            rendered(params, template, told, complete=True), shape.vocabulary, template, shape.max_positions, shape.words
        )
        check_renderer = renderer_of(self.tokenizer, params)
        self.rows: Demonstrations = encode(check_renderer, prompts, turns, shape.max_positions, [row["task_id"] for row in rows])
        self.tokens_per_row = float(self.rows.lengths.mean())
        self.model = make_model(params.policy, self.tokenizer, params.seed)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=params.warm_start.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
        )  # fmt: skip
        check_renderer.check_prompts(tasks.select(["task_id", "prompt"]).to_pylist())  # better now than after the training
        self.requests = [
            Request(
                prompt_ids=check_renderer.prompt_ids(task["prompt"], task["task_id"]),
                seed=seed_from(params.seed, "warm_start", task["task_id"]),
                temperature=params.sampling.temperature,
                top_p=params.sampling.top_p,
                max_tokens=params.sampling.max_tokens,
            )
            for task in self.held_back
        ]
        self.renderer = check_renderer

    def train(self, report: Callable[[str], None]) -> list[Check]:
        """Train to the target or the last step; goes on from the checkpoint, if there is one."""
        import torch

        options = self.params.warm_start
        checks: list[Check] = []
        step = 0
        if self.checkpoint.is_file():
            state = torch.load(self.checkpoint, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            step, checks = state["step"], [Check(**check) for check in state["checks"]]
            report(f"warm start: going on from step {step}")
            if self.done(step, checks):
                return checks
        ids, labels = torch.from_numpy(self.rows.ids), torch.from_numpy(self.rows.labels)
        lengths = self.rows.lengths
        losses: list[float] = []
        self.model.train()
        for batch in batches(self.rows, options.batch_size, self.params.seed, step):
            parts = []
            for rows in by_width(batch, lengths):
                width, index = int(lengths[rows].max()), torch.from_numpy(rows)
                parts.append((ids[index, :width], labels[index, :width]))
            losses.append(self.one_step(step, parts))
            step += 1
            if step % options.check_every == 0 or step == options.max_steps:
                checks.append(Check(step, sum(losses) / len(losses), self.pass_at_1()))
                losses = []
                report(
                    f"warm start: step {step}/{options.max_steps}, loss {checks[-1].loss:.3f} nats, "
                    f"pass@1 {checks[-1].pass_at_1:.3f} (target {options.target})"
                )
                self.save(step, checks)
                if self.done(step, checks):
                    break
        return checks

    def done(self, step: int, checks: Sequence[Check]) -> bool:
        return step >= self.params.warm_start.max_steps or checks[-1].pass_at_1 >= self.params.warm_start.target

    def one_step(self, step: int, parts: Sequence[tuple[Any, Any]]) -> float:
        """One optimizer step on a batch: ids and labels (rows, width) of each part. Returns the mean loss of completion tokens, nats."""
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = self.params.warm_start.learning_rate * min(1.0, (step + 1) / max(1, self.params.warm_start.warmup_steps))
        self.optimizer.zero_grad(set_to_none=True)
        counts = [int((labels[:, 1:] != IGNORED).sum()) for _, labels in parts]
        total = 0.0
        for (ids, labels), count in zip(parts, counts, strict=True):
            # Padding lies on the right and attention is causal, so that no mask is needed; logits only where there is a loss.
            hidden = self.model.model(input_ids=ids).last_hidden_state[:, :-1]
            bears_loss = labels[:, 1:] != IGNORED
            loss = torch.nn.functional.cross_entropy(self.model.lm_head(hidden[bears_loss]), labels[:, 1:][bears_loss])
            share = count / sum(counts)
            (loss * share).backward()
            total += float(loss.detach()) * share
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return total

    def pass_at_1(self) -> float:
        """Share of held-back tasks that one sample each solves: one completion, or one episode where there are tools."""
        from assay.engines.transformers_engine import TransformersSampler

        self.model.eval()
        engine = TransformersSampler.around(
            self.model, stop_ids=self.renderer.stop_ids, max_model_tokens=self.params.policy.shape.max_positions
        )
        completions = engine.generate(self.requests) if self.requests else []
        right = [
            completion.finish_reason == "stop" and self.is_correct(task, self.renderer.text(completion.ids))
            for task, completion in zip(self.held_back, completions, strict=True)
        ]
        if self.to_play:
            from assay.training.warm_start_episodes import answered

            right += answered(self.to_play, engine, self.renderer, self.params)
        self.model.train()
        return sum(right) / len(right)

    def save(self, step: int, checks: Sequence[Check]) -> None:
        """Checkpoint by rename: a kill leaves the last one whole."""
        import torch

        temporary = self.checkpoint.with_suffix(".partial")
        torch.save(
            {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": step, "checks": [vars(c) for c in checks]},
            temporary,
        )
        sync_file(temporary)
        os.replace(temporary, self.checkpoint)


def check_tasks(tasks: pa.Table, count: int, seed: int) -> list[dict[str, Any]]:
    """Tasks of the train split that are held back to measure on, chosen by hash."""
    train = [row for row in tasks.to_pylist() if row["split"] == "train"]
    return sorted(train, key=lambda row: seed_from(seed, "check", row["task_id"]))[:count]


def rendered(
    params: Params, template: str, conversations: Sequence[Sequence[Mapping[str, str]]], *, complete: bool = False
) -> list[str]:
    """Prompts, up to where the policy's turn begins, rendered by the template before there is a tokenizer. complete: whole conversations,
    to their end."""
    from transformers.utils.chat_template_utils import render_jinja_template

    found = []
    for conversation in conversations:
        messages = [dict(message) for message in conversation]
        if params.policy.system_prompt is not None and not any(m["role"] == "system" for m in messages):
            messages.insert(0, {"role": "system", "content": params.policy.system_prompt})
        found.append(messages)
    texts, _ = render_jinja_template(
        found, chat_template=template, add_generation_prompt=not complete, **dict(params.policy.chat_template_arguments)
    )
    return texts


def renderer_of(tokenizer: Any, params: Params) -> Renderer:
    """The renderer that sampling will use, over a tokenizer that is not on disk yet."""
    return Renderer(
        tokenizer=tokenizer,
        template=tokenizer.chat_template,
        template_arguments=dict(params.policy.chat_template_arguments),
        system_prompt=params.policy.system_prompt,
        stop_ids=(tokenizer.eos_token_id,),
        max_prompt_tokens=params.policy.max_prompt_tokens,
    )
