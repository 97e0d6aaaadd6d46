"""The report: one HTML file that needs nothing else, made of tables, pictures and single trajectories.

Text that a model or a data set wrote is never trusted: the template engine escapes all of it, and the page's content
security policy lets no script run but the page's own (named by its hash), and nothing load from anywhere.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assay.evaluation import breakdown, definitions
from assay.evaluation.breakdown import interval
from assay.evaluation.console import gain_sentence
from assay.evaluation.definitions import SPLIT_TITLES
from assay.evaluation.figures import result_figures, verifier_figures
from assay.evaluation.figures_noise import noise_figures
from assay.evaluation.figures_training import training_figures
from assay.evaluation.metrics import Lookup, write_text
from assay.evaluation.noise import judged, left_out, noise_grid, noise_sentences, warning_lines
from assay.evaluation.record import RunRecord
from assay.evaluation.samples import Samples
from assay.evaluation.section_exploration import exploration_section
from assay.evaluation.section_protocols import protocol_section
from assay.evaluation.section_self_verification import self_verification_section
from assay.evaluation.section_tools import tool_section
from assay.evaluation.selection import CATEGORIES, Renderer, choose, clip, shown, visible
from assay.params import Params, stage_view
from assay.trajectories import content_hash

SIZE_LIMIT = 3_000_000
"""Bytes of the report. Texts are cut until it fits."""
TEXT_BUDGET = 400_000
"""Characters of completions, all trajectories together, at first."""
LONGEST_TEXT = 6_000
RENDERED_PROMPTS = 3
SPECIAL = re.compile(r"(<\|[^<>|]*\|>|</?(?:s|bos|eos|pad|unk|think|start_of_turn|end_of_turn)>|\[/?INST\])")
"""What special tokens look like in the usual chat templates; only for emphasis."""


def write_report(
    path: Path, record: RunRecord, evaluations: pa.Table, params: Params, renderer: Renderer | None = None
) -> None:
    """Write the report to `path`. Equal inputs give equal bytes: no clock, no host name, no random number.

    renderer: decodes single tokens and renders prompts (assay.engines.rendering); without it completions are not
    coloured by token and prompts are shown as messages.
    """
    write_text(path, report_html(record, evaluations, params, renderer))


def report_html(record: RunRecord, evaluations: pa.Table, params: Params, renderer: Renderer | None = None) -> str:
    """The page. Raises EvaluationError as `evaluate` does."""
    samples = record.samples
    rows = choose(samples, params.evaluation.sampled_trajectories)
    fixed = context(record, samples, Lookup(evaluations), params, renderer)
    characters = min(LONGEST_TEXT, TEXT_BUDGET // max(len(rows), 1))
    while True:
        page = _render(fixed | {"trajectories": shown(samples, rows, record.verdicts, renderer, characters)})
        if len(page.encode()) <= SIZE_LIMIT or (characters < 50 and not len(rows)):
            return page
        if characters >= 50:
            characters //= 2
        else:
            rows = rows[: len(rows) // 2]


def context(
    record: RunRecord, samples: Samples, table: Lookup, params: Params, renderer: Renderer | None
) -> dict[str, Any]:
    """Everything that the template shows, trajectories apart."""
    split = table.splits[0]
    first, last = table.iterations[0], table.iterations[-1]
    name = min(samples.environments, key=lambda e: (samples.headline_role[e] != "oracle", e))
    estimates = [] if record.noise_estimates is None else record.noise_estimates.to_pylist()
    appeals = judged(record.noise_estimates)
    return {
        "title": f"{params.method} on {params.environment}",
        "facts": facts(record, table, params),
        "headline": headline(table, split),
        "tiles": tiles(record, table, split),
        "split_name": SPLIT_TITLES[split],
        "policy_grids": [(SPLIT_TITLES[s], breakdown.policies(table, s, table.pass_at)) for s in table.splits],
        "gains": [(SPLIT_TITLES[s], sentence) for s in table.splits if (sentence := gain_sentence(table, s))],
        "environment_grid": breakdown.environments(table, samples),
        "difficulty_grid": breakdown.difficulty(samples, split),
        "reason_grid": breakdown.reasons(samples),
        "verifier_grid": breakdown.verifiers(record.verdicts),
        "result_figures": result_figures(table, split),
        "exploration": exploration_section(record, samples, table, split, params, renderer),
        "reasoning": self_verification_section(record, table, split, params, renderer),
        "protocols": protocol_section(samples, record.verdicts, table, split),
        "tools": tool_section(record, samples, table, split, SPLIT_TITLES),
        "verifier_figures": verifier_figures(table, split) + noise_figures(record.noise_estimates),
        "noise_warnings": warning_lines(estimates),
        "noise_sentences": noise_sentences(estimates) + left_out(estimates),
        "noise_grid": noise_grid(estimates),
        "training_figures": training_figures(record.batches, record.updates),
        "categories": CATEGORIES,
        "iterations": table.iterations,
        "environments": samples.environments,
        "splits": table.splits,
        "prompts": prompts(samples, renderer),
        "special_tokens": renderer is not None,
        "metrics": definitions.METRICS,
        "headline_rule": definitions.HEADLINE,
        "interval_rule": definitions.INTERVALS.replace(
            "Wilson score interval", f"{params.evaluation.confidence:.0%} Wilson score interval"
        ),
        "noise_rule": definitions.noise_meaning(appeals),
        "queries": definitions.queries(name, samples.headline_role[name], split, last, appeals),
        "parameters": json.dumps(stage_view(params, "evaluate"), indent=2),
        "first": first,
        "last": last,
    }


def facts(record: RunRecord, table: Lookup, params: Params) -> list[tuple[str, str]]:
    """What was run, for the head of the page."""
    policy = (
        (params.policy.base and f"{params.policy.base}{', fine-tuned' if params.policy.fine_tune else ''}")
        or f"from scratch: {params.policy.shape.layers} layers, width {params.policy.shape.hidden_size}"
    )
    tasks = record.tasks["split"].value_counts().to_pylist()
    counted = {r["values"]: r["counts"] for r in tasks}
    steps = 0 if record.updates is None else len(record.updates)
    judged = record.verdicts["verdict"]
    return [
        ("method", params.method),
        ("environment", f"{params.environment} ({', '.join(table.environments)})"),
        ("scale", params.scale),
        ("seed", str(params.seed)),
        ("policy", policy),
        ("iterations", f"{len(table.iterations) - 1}, {steps:,} optimizer steps"),
        ("tasks", ", ".join(f"{counted[s]:,} {s}" for s in ("train", "eval", "ood") if s in counted)),
        ("record", f"{len(record.trajectories):,} trajectories, {len(judged):,} verdicts"),
    ]


def headline(table: Lookup, split: str) -> str:
    """One sentence: did it improve?"""
    k = table.pass_at[0]
    first, last = table.iterations[0], table.iterations[-1]
    before, after, gain = (
        table.get(first, split, f"pass@{k}"),
        table.get(last, split, f"pass@{k}"),
        table.get(last, split, f"pass@{k}_gain"),
    )
    if before is None or after is None:
        return f"No decided samples on {SPLIT_TITLES[split]}."
    if gain is None:
        return f"Policy {last} solves {after['value']:.1%} of {SPLIT_TITLES[split]} at the first try."
    if gain["low"] > 0 or gain["high"] < 0:
        verb = "rose" if gain["value"] > 0 else "fell"
        return f"On {SPLIT_TITLES[split]}, pass@{k} {verb} from {before['value']:.1%} to {after['value']:.1%}."
    values = f"{before['value']:.1%} before, {after['value']:.1%} after"
    return f"On {SPLIT_TITLES[split]}, pass@{k} shows no clear change: {values}."


def tiles(record: RunRecord, table: Lookup, split: str) -> list[tuple[str, str, str]]:
    """(name, value, detail) of the few numbers that matter most."""
    first, last = table.iterations[0], table.iterations[-1]
    found = []
    for k in dict.fromkeys((table.pass_at[0], table.pass_at[-1])):
        after = table.get(last, split, f"pass@{k}")
        gain = table.get(last, split, f"pass@{k}_gain")
        if after is not None:
            detail = (
                f"policy {last}; {interval(gain, sign='+')} over policy {first}, paired" if gain else f"policy {last}"
            )
            found.append((f"pass@{k}", f"{after['value']:.3f}", detail))
    rate = _last_noise(record.noise_estimates)
    if rate is not None:
        truth = rate["true_false_negative_rate"]
        detail = (
            f"[{rate['false_negative_low']:.3f}, {rate['false_negative_high']:.3f}] on {rate['environment']}"
            if rate["false_negative_low"] is not None
            else rate["environment"]
        )
        found.append(
            (
                "right answers the rule rejects",
                f"{rate['false_negative_rate']:.3f}",
                detail + ("" if truth is None else f"; true rate {truth:.3f}"),
            )
        )
    share = table.value(last, split, "abstain_share_rule")
    if share is not None:
        found.append(("samples the rule did not decide", f"{share:.1%}", f"policy {last}"))
    return found


def prompts(samples: Samples, renderer: Renderer | None) -> list[tuple[str, str, list[tuple[str, bool]]]]:
    """(environment, split, pieces) of a few tasks, each environment and split in turn; a piece is (text, special "
    "token?)."""
    seen: set[int] = set(samples.task.tolist())
    rows = samples.tasks.take(pa.array(sorted(seen))).select(["task_id", "environment", "split", "prompt"]).to_pylist()
    kinds: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda r: content_hash("prompt", r["task_id"])):
        kinds.setdefault((row["environment"], row["split"]), []).append(row)
    queues = [kinds[key] for key in sorted(kinds, key=lambda key: (key[1], key[0]))]
    ordered = [queue[turn] for turn in range(RENDERED_PROMPTS) for queue in queues if turn < len(queue)][
        :RENDERED_PROMPTS
    ]
    found = []
    for row in ordered:
        text = (
            renderer.rendered(row["prompt"])
            if renderer
            else "\n".join(f"{m['role']}: {m['content']}" for m in row["prompt"])
        )
        parts = SPECIAL.split(clip(visible(text), LONGEST_TEXT)) if renderer else [clip(visible(text), LONGEST_TEXT)]
        found.append((row["environment"], row["split"], [(part, bool(i % 2)) for i, part in enumerate(parts) if part]))
    return found


def _last_noise(noise: pa.Table | None) -> dict[str, Any] | None:
    """The estimate of the last iteration on the environment with the most rows."""
    if noise is None or not len(noise):
        return None
    known = noise.filter(pc.is_valid(noise["false_negative_rate"])).to_pylist()
    return max(known, key=lambda r: (r["iteration"], r["round"], r["n"], r["environment"], r["against"]), default=None)


@cache
def asset(name: str) -> str:
    """A file of templates/."""
    return (files("assay.evaluation") / "templates" / name).read_text(encoding="utf-8")


def _render(values: Mapping[str, Any]) -> str:
    from jinja2 import DictLoader, Environment, StrictUndefined
    from markupsafe import Markup

    engine = Environment(
        loader=DictLoader({"report.html.j2": asset("report.html.j2")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, style = asset("report.js"), asset("report.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return engine.get_template("report.html.j2").render(
        values, script=Markup(script), style=Markup(style), script_digest=digest, svg=Markup
    )
