"""Answers of policy 0 to every train task, verified, and the division made from them. The body of the stage `presample`."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from assay.environments import tasks_from_table
from assay.params import Params
from assay.params.execution import ExecutionParams
from assay.rounds.gates import check_answers, limits_of
from assay.rounds.sample import open_sampler, plan_samples, sample_into
from assay.rounds.verify import open_bench, verify
from assay.trajectories import publish_folder, read_table, to_table, write_shard
from assay.verifiers import NoiseState


def sampling_key(params: Params) -> str:
    """What the answers depend on beside tasks and policy, as text."""
    own = params.model_dump(mode="json", include={"seed", "policy", "sampling"})
    return json.dumps(own | {"samples": params.presample.samples}, sort_keys=True)


def outcomes_of(verdicts: pa.Table) -> dict[str, bool | None]:
    """Whether each answer is right by the rule, None where it abstained: that is no wrong answer."""
    rule = verdicts.filter(pc.equal(verdicts["role"], "rule"))
    said = zip(rule["trajectory_id"].to_pylist(), rule["verdict"].to_pylist(), strict=True)
    return {name: None if verdict == "abstain" else verdict == "correct" for name, verdict in said}


def presample(params: Params, tasks: Path, policy: Path, out: Path, scratch: Path, execution: ExecutionParams, gates: Path) -> None:
    """Publish `out`: the answers and verdicts, `splits` and `rehearsal`; empty tables where no method asks (presample.enabled).

    Finished shards in `scratch` are not sampled again. Raises RehearsalError for a division that leaves nothing, GateError.
    """
    draft = scratch / "draft"
    if not params.presample.enabled:
        shutil.rmtree(draft, ignore_errors=True)
        for name in ("splits", "rehearsal"):
            write_shard(draft / f"{name}.parquet", name, to_table(name, []))
        publish_folder(draft, out)
        print("no method asks for answers of policy 0 (presample.enabled): nothing was sampled")
        return
    from assay.training.ragged import Streams
    from assay.training.reference import compute_logprobs
    from assay.training.rehearsal import policy_identity, rehearsal_rows, split_tasks

    plan = plan_samples(tasks, params, 0, ("presample",))
    with open_sampler(params, policy, execution, plan) as sampler:
        sample_into(sampler, plan, params, draft)
    table, rows = read_table("tasks", tasks), read_table("trajectories", draft)
    known = tasks_from_table(table)
    with open_bench(known, params, execution, appeals=False) as bench:
        verdicts = verify(known, rows, params, execution, bench, NoiseState()).verdicts
    check_answers(table, rows, verdicts, limits_of(params, policy), gates)
    right_or_wrong = outcomes_of(verdicts)
    correct = {name for name, right in right_or_wrong.items() if right}
    outcomes: dict[str, list[bool | None]] = {}
    columns = (rows[name].to_pylist() for name in ("task_id", "sample_index", "trajectory_id"))
    for task_id, _, name in sorted(zip(*columns, strict=True)):
        outcomes.setdefault(task_id, []).append(right_or_wrong[name])
    splits, notes = split_tasks({name: known[name].environment for name in outcomes}, outcomes, params.presample)
    samples = params.presample.samples
    near = splits.filter(pc.equal(splits["subset"], "near_perfect"))["task_id"].combine_chunks()
    right = pc.is_in(rows["trajectory_id"], pa.array(sorted(correct)))
    further = rows.filter(pc.and_(pc.and_(pc.equal(rows["sample_index"], samples), right), pc.is_in(rows["task_id"], near)))
    streams = Streams.from_table(further)
    logprobs = compute_logprobs(policy, streams, params) if len(further) else streams.logprobs
    kind = further.schema.field("sampled_logprobs").type
    stored = rehearsal_rows(further, correct, splits, samples, logprobs.column(kind), policy_identity(policy))
    write_shard(draft / "verdicts.parquet", "verdicts", verdicts)
    write_shard(draft / "splits.parquet", "splits", splits)
    write_shard(draft / "rehearsal.parquet", "rehearsal", stored)
    publish_folder(draft, out)
    for note in notes:
        print(note)
