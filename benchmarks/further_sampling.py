"""What critiques and continuations cost beside the solutions that they belong to, and what the prefix cache saves.

    python -m benchmarks.further_sampling              # policy 0 of the two studies below; minutes, more where those must be made first

Each line is one engine in a process of its own; solutions are sampled once to warm up, then everything REPEATS times, the middle of which
counts. Prefix cache: vLLM's, which is emptied before every batch, so that only sharing within the batch is seen.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.claims_self_verification import STUDY as JUDGING
from benchmarks.claims_stepwise import STUDY as STEPS
from benchmarks.study import load
from benchmarks.workspace import ROOT

REPEATS, TASKS, ROUNDS = 3, 64, 1
CASES = {"continuations": (STEPS, "VSRM"), "critiques": (JUDGING, "RISE")}


def measure(case: str, caching: bool, workspace: Path) -> dict[str, float]:
    from assay.environments import tasks_from_table
    from assay.params import load_execution
    from assay.rollouts import sample_rows
    from assay.rounds import open_sampler, plan_samples
    from assay.rounds.further import further_samples
    from assay.trajectories import read_table

    study, arm = CASES[case]
    values = study.parameters(arm, 0, ROUNDS)
    engine = {"type": "vllm", "arguments": {"enable_prefix_caching": caching}}
    values["sampling"] = {**values.get("sampling", {}), "tasks_per_iteration": TASKS, "engine": engine}
    params = load(values, workspace / "further")
    tasks = workspace / "data/tasks/tasks.parquet"
    plan, known = plan_samples(tasks, params, 0, ("solution",)), tasks_from_table(read_table("tasks", tasks))
    with open_sampler(params, workspace / "models/0/policy", load_execution(), plan) as sampler:
        prompts = [sampler.renderer.prompt_ids(row.messages) for row in plan]
        solutions = sample_rows(plan, prompts, sampler.engine, sampler.renderer)
        began = time.perf_counter()
        further = further_samples(sampler.renderer, solutions, known, params).plan
        planning = time.perf_counter() - began
        given = [row.prompt_ids or () for row in further]
        seconds: dict[str, list[float]] = {"solutions": [], "further": []}
        for _ in range(REPEATS):
            for name, rows, ids in (("solutions", plan, prompts), ("further", further, given)):
                began = time.perf_counter()
                sample_rows(rows, ids, sampler.engine, sampler.renderer)
                seconds[name].append(time.perf_counter() - began)
    return {
        "solutions": len(plan), "further": len(further), "prompt_tokens": sum(map(len, given)) / max(len(given), 1), "planning": planning,
        "solution_seconds": median(seconds["solutions"]), "further_seconds": median(seconds["further"]),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / ".assay/claims")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--worker", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--caching", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--workspace", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(measure(arguments.worker, bool(arguments.caching), arguments.workspace)))
        return
    head = ("kind", "prefix cache", "solutions", "s", "further rows", "prompt tokens each", "planning s", "s", "share of sampling")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for case in arguments.cases:
        study, _ = CASES[case]
        workspace = study.prepare(arguments.folder.resolve(), 0)
        spent = {}
        for caching in (1, 0):
            command = [
                sys.executable, "-m", "benchmarks.further_sampling", "--worker", case, "--caching", str(caching), "--workspace",
                str(workspace.root),
            ]  # fmt: skip
            output = subprocess.run(command, cwd=ROOT, env=workspace.environment(), check=True, capture_output=True, text=True).stdout
            row = json.loads(output.strip().splitlines()[-1])
            spent[caching] = row["further_seconds"]
            share = row["further_seconds"] / (row["further_seconds"] + row["solution_seconds"])
            print(
                f"| {case} | {'on' if caching else 'off'} | {row['solutions']:,} | {row['solution_seconds']:.2f} | {row['further']:,} | "
                f"{row['prompt_tokens']:.0f} | {row['planning']:.2f} | {row['further_seconds']:.2f} | {share:.0%} |",
                flush=True,
            )
        print(f"\n{case}: the prefix cache saves {1 - spent[1] / spent[0]:.0%} of their sampling\n", flush=True)


if __name__ == "__main__":
    main()
