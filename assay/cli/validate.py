"""`assay validate`: check parameters, data, golds and the judge of appeals before compute is spent."""

import argparse
import json
from pathlib import Path

from assay.params import ParameterError, load_params
from assay.params.doubts import parameter_doubts

HELP = "check params.yaml, its presets, the judge of appeals, the tasks that they describe and every gold; writes nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path(), help="project folder (default: here)")
    parser.add_argument("--params-only", action="store_true", help="do not generate tasks")


def run(arguments: argparse.Namespace) -> int:
    params = load_params(arguments.root)
    print(
        f"parameters: valid ({arguments.root / 'params.yaml'}, method {params.method}, scale {params.scale}, "
        f"environment {params.environment})"
    )
    total = sum(section.share for section in params.environments.values())
    print("environments: " + ", ".join(f"{name} {section.share / total:.0%}" for name, section in params.environments.items()))
    for sentence in parameter_doubts(params):
        print(f"warning: {sentence}")
    from assay.rounds.judge_check import check_judge, doubts

    if judge := check_judge(params, arguments.root):
        print(judge)
    if arguments.params_only:
        return 0
    from assay.rounds.generate import make_tasks

    generated = make_tasks(params, arguments.root, params.execution)
    print(f"tasks: {len(generated.tasks)}, every gold accepted by its own verifier; demonstrations: {len(generated.demonstrations)}")
    for note in generated.notes:
        print(f"note: {note}")
    for doubt in doubts(generated.tasks, params):
        if doubt.everywhere:
            raise ParameterError(f"{arguments.root / 'params.yaml'}: {doubt.sentence}")
        print(f"warning: {doubt.sentence}")
    print(json.dumps(generated.counts, indent=1, sort_keys=True))
    return 0
