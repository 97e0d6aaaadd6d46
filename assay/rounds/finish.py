"""Held-out answers of the last policy, verified. The body of the stage `finish` of both pipelines."""

from pathlib import Path

from assay.environments import tasks_from_table
from assay.params import Params
from assay.params.execution import ExecutionParams
from assay.rounds.gates import check_answers, limits_of
from assay.rounds.sample import open_sampler, plan_samples, sample_into
from assay.rounds.verify import describe, open_bench, verify
from assay.trajectories import publish_folder, read_table, write_shard
from assay.verifiers import NoiseState


def finish(params: Params, n: int, tasks: Path, policy: Path, out: Path, scratch: Path, execution: ExecutionParams, gates: Path) -> None:
    """Publish `out`: answers of policy `n` to held-out tasks, their verdicts and the estimate of the rule's noise.

    Finished shards in `scratch` are not sampled again. gates: folder for data docs. Raises GateError before anything is published.
    """
    plan, draft = plan_samples(tasks, params, n, ("evaluation",)), scratch / "draft"
    table = read_table("tasks", tasks)
    known = tasks_from_table(table)
    with open_sampler(params, policy, execution, plan) as sampler:
        sample_into(sampler, plan, params, draft, known, execution.verifier_workers)
    trajectories, turns, calls = (read_table(name, draft) for name in ("trajectories", "turns", "tool_calls"))
    with open_bench(known, params, execution, appeals=False) as bench:
        done = verify(known, trajectories, params, execution, bench, NoiseState(), turns=turns, tool_calls=calls)
    check_answers(table, trajectories, done.verdicts, limits_of(params, policy), gates)
    write_shard(draft / "verdicts.parquet", "verdicts", done.verdicts)
    write_shard(draft / "noise_estimates.parquet", "noise_estimates", done.noise_estimates)
    publish_folder(draft, out)
    print(describe(done.verdicts, done.noise_estimates))
