"""Every preset of conf/method from one policy 0 to the report at scale micro, through the real DVC: does it run, what does it train on?

    python -m benchmarks.presets [--methods lp_reg dph_js ...]

A rule that a policy which has learned nothing satisfies now and then stands for the tasks' verifiers, so that groups have a variance,
tasks can be near-perfect and appeals have something to uphold. Sampled with transformers. Ends with code 1 where one fails.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.workspace import MICRO, ROOT, Workspace, copy_project

RULE = '''"""1 where the characters' codes add up to no multiple of 3."""


def parity(completions, **_others):
    return [float(sum(map(ord, text)) % 3 != 0) for text in completions]
'''
OWN = {
    "presample": {"samples": 2, "solved": 2}, "sampling": {"engine": {"type": "transformers"}},
    "verification": {"rule": "parity", "functions": {"parity": {"path": "conf/functions/parity.py"}}},
}  # fmt: skip


def run(workspace: Workspace, method: str) -> str:
    """One line about a preset, which starts with `failed` where it did not run."""
    workspace.set_params(method=method)
    began = time.perf_counter()
    done = workspace.run("dvc", "repro", check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        return f"failed    {method}: {' '.join((done.stderr or done.stdout).split())[-300:]}"
    batch, updates = workspace.table("batches", "data/filter/0"), workspace.table("updates", "data/update/0").to_pylist()
    trained = sum(batch["kept"].to_pylist()) - sum(batch["rehearsal"].to_pylist())
    beside = {name: sum(row[name] or 0 for row in updates) for name in ("protected_count", "selected_tokens", "rehearsal_rows")}
    more = ", ".join(f"{name} {value:.0f}" for name, value in beside.items() if value)
    return f"{seconds:>6.0f} s  {method:<22} {trained:>3} rows in {len(updates)} steps, loss {updates[-1]['loss']:+.4f}  {more}"


def main() -> None:
    known = sorted(path.stem for path in (ROOT / "conf/method").glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=known, default=known)
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        workspace = copy_project(Path(folder) / "project", MICRO | OWN)
        (workspace.root / "conf/functions/parity.py").write_text(RULE)
        (workspace.root / "params.yaml").write_text(yaml.safe_dump(MICRO | OWN, sort_keys=False))
        for method in arguments.methods:
            line = run(workspace, method)
            failed += line.startswith("failed")
            print(line, flush=True)
    print(f"{len(arguments.methods) - failed} of {len(arguments.methods)} presets ran")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
