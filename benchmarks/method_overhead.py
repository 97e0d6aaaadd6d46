"""Time and memory of an update under each exploration method, beside plain GRPO on the same rows, in one run.

    python -m benchmarks.method_overhead [--rows 256] [--repeats 3] [--steps 1 4]

A random model with a vocabulary of 8,192, completions of 32 to 64 tokens, one optimizer step a batch (on-policy) and four. Every
measurement is a process of its own, so that its peak of resident memory is its own; methods alternate, and the table has medians
over repeats. An update is first pass, optimizer steps and nothing else; the first one warms up and is not timed. Methods that
rehearse train on a quarter more rows, which is what they do.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from benchmarks.training import make_policy
from benchmarks.workspace import ROOT

FULL = "lp_reg, full KL"
"""On-policy only: off-policy it needs the proxy's tokens stored, and of a random model, near uniform, these are the vocabulary."""
METHODS = (
    "clip_higher", "entropy_bonus", "gspo", "kl_cov", "reverse_kl", "top_entropy", "lp_reg", FULL, "dph_forward", "dph_js",
)  # fmt: skip
"""clip_higher is the plain loss: GRPO with a mean over tokens and no penalty."""
PLAIN = METHODS[0]
SHAPE = {
    "hidden_size": 128, "intermediate_size": 384, "layers": 4, "heads": 4, "key_value_heads": 2, "head_dim": 32, "vocabulary": 8192,
    "max_positions": 128,
}  # fmt: skip
GROUP, LENGTHS = 8, (32, 65)


def load(method: str, rows: int, steps: int) -> Any:
    """Parameters of a preset at these sizes. Groups without variance and reference passes play no part here."""
    from assay.params import Params

    name, _, variant = method.partition(", ")
    preset = yaml.safe_load((ROOT / f"conf/method/{name}.yaml").read_text(encoding="utf-8"))
    training = preset["training"] | {
        "steps_per_iteration": steps, "micro_batch_size": 64, "checkpoint_every": 99, "grpo": {"report_to": "none"},
    }  # fmt: skip
    if variant:
        training["lp_reg"] = training["lp_reg"] | {"form": "forward_kl", "ceiling": None}
    if "rehearsal" in training:
        training["rehearsal"] = training["rehearsal"] | {"rows_per_step": rows // steps // 4}
    return Params.model_validate({
        "policy": {"shape": SHAPE}, "sampling": {"group_size": GROUP, "tasks_per_iteration": rows // GROUP, "max_tokens": LENGTHS[1]},
        "presample": preset.get("presample", {}), "training": training, "filter": {"zero_variance_groups": False},
    })  # fmt: skip


def make_batch(params: Any, policy: Path, rows: int, steps: int) -> pa.Table:
    """A batch of random tokens with the streams that the method reads."""
    from assay.training.assemble import add_rehearsal
    from assay.training.ragged import Streams
    from assay.training.reference import compute_logprobs
    from assay.trajectories import content_hash, schema, to_table

    generator = np.random.default_rng(0)
    names, found = schema("batches").names, []
    reference = params.training.divergence.coefficient > 0
    for index in range(rows):
        ids = generator.integers(8, SHAPE["vocabulary"], generator.integers(*LENGTHS)).tolist()
        found.append(dict.fromkeys(names) | {
            "trajectory_id": content_hash(index), "iteration": 0, "round": 0, "group_id": str(index // GROUP), "kept": True,
            "reward": float(index % 2), "advantage": float(index % 2) * 2 - 1, "step": index * steps // rows,
            "prompt_ids": generator.integers(8, SHAPE["vocabulary"], 16).tolist(), "completion_ids": ids, "loss_mask": [True] * len(ids),
            "sampled_logprobs": [-9.0] * len(ids), "reference_logprobs": [-9.0] * len(ids) if reference else None, "rehearsal": False,
            "denominator_rows": rows // steps, "denominator_tokens": 48 * rows // steps,
        })  # fmt: skip
    batch = to_table("batches", found)
    if params.training.rehearsal is None:
        return batch
    own = batch.slice(0, 64)
    logprobs = compute_logprobs(policy, Streams.from_table(own), params).column(schema("rehearsal").field("reference_logprobs").type)
    stored = pa.table({
        name: own[name] for name in ("trajectory_id", "group_id", "prompt_ids", "completion_ids", "loss_mask", "sampled_logprobs")
    } | {
        "task_id": own["group_id"], "reference_logprobs": logprobs, "temperature": pa.array([1.0] * 64), "base_policy": own["group_id"],
    })  # fmt: skip
    return add_rehearsal(batch, to_table("rehearsal", stored), params)


def measure(method: str, rows: int, steps: int, policy: Path) -> dict[str, float]:
    """Seconds of an update and the peak of resident memory."""
    from assay.training.session import UpdateSession

    params = load(method, rows, steps)
    with tempfile.TemporaryDirectory() as scratch:
        batch = make_batch(params, policy, rows, steps)
        session = UpdateSession(policy, None, params, scratch=Path(scratch))
        session.run(batch)
        took = []
        for _ in range(2):
            began = time.perf_counter()
            session.run(batch)
            took.append(time.perf_counter() - began)
    return {"seconds": min(took), "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--worker", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 4], help="optimizer steps a batch")
    parser.add_argument("--policy", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print("RESULT " + json.dumps(measure(arguments.worker, arguments.rows, arguments.steps[0], arguments.policy)))
        return
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "policy"
        make_policy(policy, load(PLAIN, arguments.rows, 1).policy.shape)
        for steps in arguments.steps:
            methods = [name for name in METHODS if steps == 1 or name != FULL]
            found: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
            for _ in range(arguments.repeats):
                for name in methods:
                    command = [
                        sys.executable, "-m", "benchmarks.method_overhead", "--worker", name, "--rows", str(arguments.rows),
                        "--steps", str(steps), "--policy", str(policy),
                    ]  # fmt: skip
                    out = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
                    found[name].append(json.loads(out.split("RESULT ")[1]))
            base = {key: statistics.median(row[key] for row in found[PLAIN]) for key in ("seconds", "mib")}
            print(f"\n{arguments.rows} rows, {steps} optimizer step{'s' if steps > 1 else ''} a batch, {arguments.repeats} repeats")
            print(f"{'method':<18}{'s':>8}{'times plain':>13}{'(of each repeat)':>24}{'peak MiB':>10}{'more':>8}", flush=True)
            for name in methods:
                seconds, mib = (statistics.median(row[key] for row in found[name]) for key in ("seconds", "mib"))
                each = ", ".join(f"{a['seconds'] / b['seconds']:.2f}" for a, b in zip(found[name], found[PLAIN], strict=True))
                label = "plain" if name == PLAIN else name
                print(f"{label:<18}{seconds:>8.2f}{seconds / base['seconds']:>13.2f}{each:>24}{mib:>10,.0f}{mib - base['mib']:>+8,.0f}")


if __name__ == "__main__":
    main()
