"""Tool environments per second: 1,000 of them constructed by templates and put through the gate, twice, and what the set looks like.

    python -m benchmarks.tool_environments [--count 1000] [--workers 2] [--seed 0]

Construction is timed alone and with the gate, whose calls are the bulk of the work. Then the golden calls are executed as those of a policy
are, each distinct one in a process of its own (up to 2,000: `apart/s`). Equal seeds must give equal hashes: the second time it
is done in another process, with another hash seed, in batches that begin elsewhere. The start of the workers counts. Fails where a place
stays empty or hashes differ.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from assay.environments.tools.backends import TemplateBackend
from assay.environments.tools.build import Built, build
from assay.environments.tools.config import FULL, TINY, ToolConfig
from assay.environments.tools.construct import construct
from assay.environments.tools.execution import Request, ToolExecutor
from assay.environments.tools.record import ToolEnvironment, ToolError
from assay.environments.tools.statistics import measure, table
from assay.trajectories import content_hash, seed_from

PRESETS: dict[str, ToolConfig] = {"full": FULL, "full, ood": FULL.ood(), "tiny": TINY}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", choices=PRESETS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.again:
        print(json.dumps(again(PRESETS[arguments.again], arguments.count, arguments.workers, arguments.seed)))
        return
    heads = {"environments": 14, "refused": 9, "constructed/s": 15, "and gated/s": 13, "calls": 9, "calls/s": 9, "apart/s": 9}
    print(f"{'preset':<10}{''.join(f'{head:>{width}}' for head, width in heads.items())}  hashes")
    for name, config in PRESETS.items():
        constructed = construction_rate(config, min(200, arguments.count), arguments.seed)
        with ToolExecutor(arguments.workers, apart=False) as executor:
            began = time.perf_counter()
            built = build(config, TemplateBackend(config), executor, range(arguments.count), arguments.seed)
            seconds = time.perf_counter() - began
            executed, rate = executor.calls, executor.calls / executor.waited
        check(built, name, arguments)
        print(
            f"{name:<10}{len(built.environments):>14}{built.refused.total():>9}{constructed:>15.0f}{arguments.count / seconds:>13.1f}"
            f"{executed:>9}{rate:>9.0f}{apart_rate(built.environments, arguments.workers):>9.0f}  equal"
        )
        if name == "full":
            shown = table(measure(built.environments))
    print(f"\nfull, with the published test set in brackets:\n{shown}")


def construction_rate(config: ToolConfig, count: int, seed: int) -> float:
    """Environments per second without the gate."""
    backend, began = TemplateBackend(config), time.perf_counter()
    for place in range(count):
        try:
            construct(backend, config, config.scenarios[place % len(config.scenarios)], seed_from(seed, "rate", place))
        except ToolError:
            continue  # a draw that `build` would draw again
    return count / (time.perf_counter() - began)


def apart_rate(environments: Sequence[ToolEnvironment], workers: int) -> float:
    """Golden calls per second, each in a process of its own. The workers are warm."""
    requests = [
        Request(environment.codes, call.tool, call.arguments) for environment in environments for call in environment.calls
    ][:2000]  # fmt: skip
    with ToolExecutor(workers) as executor:
        executor.execute(requests[:1])
        began = time.perf_counter()
        executor.execute(requests)
        return len(requests) / (time.perf_counter() - began)


def check(built: Built, name: str, arguments: argparse.Namespace) -> None:
    """Build once more in another process and compare."""
    if built.empty:
        raise SystemExit(f"{name}: {len(built.empty)} places stayed empty: {dict(built.examples)}")
    command = [sys.executable, "-m", "benchmarks.tool_environments", "--again", name, "--count", str(arguments.count)]
    command += ["--workers", str(arguments.workers), "--seed", str(arguments.seed)]
    said = subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True).stdout
    hashes = json.loads(said)
    if [environment.env_id for environment in built.environments] != hashes:
        raise SystemExit(f"{name}: equal seeds gave other environments in another process")
    print(f"{name}: {content_hash(*hashes)}", file=sys.stderr)


def again(config: ToolConfig, count: int, workers: int, seed: int) -> list[str]:
    """Hashes, the last places built first."""
    half = count // 3
    with ToolExecutor(workers, apart=False) as executor:
        parts = [build(config, TemplateBackend(config), executor, places, seed) for places in (range(half, count), range(half))]
    return [environment.env_id for part in reversed(parts) for environment in part.environments]


if __name__ == "__main__":
    main()
