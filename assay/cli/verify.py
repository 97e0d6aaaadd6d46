"""`assay verify`: verdicts on imported rollouts, and on stored ones again, by the verifiers of the pipeline."""

import argparse
import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from assay.params.verification import VerificationParams
from assay.verifiers.columns import VERDICT_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

HELP = "judge imported rollouts, or stored ones again, by rule, reference and oracle, and compare with what was said before"
SHARD = "verdicts-verified.parquet"
"""Holds the verdicts, beside the shards of the import. Judging again replaces it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from assay.cli.sql import add_warehouse_arguments

    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("version", metavar="imported/NAME", nargs="?", help="rollouts that `assay import` has read")
    what.add_argument(
        "--replay", metavar="FOLDER|VERSION[:ITERATION,...]",
        help="judge stored trajectories again, of a folder (data/rollout/0, data/fused/train/0) or a version, and show what changes",
    )  # fmt: skip
    parser.add_argument("--rule", help="instead of verification.rule of params.yaml; verification.functions may add to the built-in ones")
    parser.add_argument("--reference", help="instead of verification.reference")
    parser.add_argument("--name", help="of a replay: keep the rule's new verdicts beside the stored ones, as version replay/NAME")
    parser.add_argument("--replace", action="store_true", help="in place of a replay of this name")
    add_warehouse_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from assay.cli.replay import ReplayFailure
    from assay.cli.sql import catch_up
    from assay.environments.task import tasks_from_table
    from assay.params import load_execution, load_params
    from assay.rounds.lines import lines
    from assay.rounds.verify import describe
    from assay.trajectories import read_table, write_shard
    from assay.verifiers import estimate_noise, verify_trajectories

    chosen = choose(load_params(arguments.root).verification, arguments.rule, arguments.reference)
    if arguments.replay is not None:
        return run_replay(arguments, chosen, load_execution(arguments.root).verifier_workers)
    if arguments.name is not None or arguments.replace:
        raise ReplayFailure("--name and --replace are for --replay; verdicts on an import replace those of an earlier call")
    folder = folder_of(arguments.version, arguments.root)
    tasks = tasks_from_table(read_table("tasks", folder))
    trajectories = read_table("trajectories", folder, columns=VERDICT_COLUMNS)
    workers = load_execution(arguments.root).verifier_workers
    verdicts = verify_trajectories(tasks, trajectories, chosen, workers, lines("verdicts that need a worker"))
    noise = estimate_noise(verdicts, tasks, trajectories)
    write_note(folder, chosen)
    write_shard(folder / SHARD, "verdicts", verdicts)
    print(f"{arguments.version}: {len(trajectories):,} trajectories judged, the verdicts are in {folder / SHARD}")
    print(summary(verdicts, own_rewards(folder)))
    print(describe(verdicts, noise))
    catch_up(arguments)
    print(f'ask with: assay sql --version {arguments.version} "SELECT role, verdict, count(*) FROM verdicts GROUP BY ALL"')
    return 0


def choose(params: VerificationParams, rule: str | None, reference: str | None) -> VerificationParams:
    """The parameters with another rule or reference. Raises ParameterError for one that is not there."""
    from pydantic import ValidationError

    from assay.params import ParameterError

    given = {key: value for key, value in (("rule", rule), ("reference", reference)) if value is not None}
    try:
        return VerificationParams.model_validate(params.model_dump() | given)
    except ValidationError as error:
        (first, *_) = error.errors()
        raise ParameterError(f"--{first['loc'][-1]} {first['input']}: {first['msg']}") from error


def run_replay(arguments: argparse.Namespace, chosen: VerificationParams, workers: int) -> int:
    """Print what a second verification says; with a name, keep it."""
    from assay.cli.replay import ReplayFailure, replay, store_replay
    from assay.cli.sql import catch_up

    what, name = arguments.replay, arguments.name
    if name is None:
        if arguments.replace:
            raise ReplayFailure("--replace needs --name, the replay to be replaced")
        if not Path(what).is_dir():
            catch_up(arguments)
        print(replay(what, arguments.root, chosen, workers))
        return 0
    if arguments.reference is not None:
        raise ReplayFailure("a replay with --name keeps what one verifier says: give --rule, and leave --reference out")
    catch_up(arguments)
    print(store_replay(what, name, arguments.root, chosen, workers, replace=arguments.replace))
    catch_up(arguments)
    print(
        f"ask with: assay sql --version replay/{name} \"SELECT o.verdict, n.verdict AS replayed, count(*) FROM verdicts AS o JOIN verdicts "
        "AS n USING (trajectory_id) WHERE o.role = 'rule' AND n.role = 'replayed' GROUP BY ALL\""
    )
    return 0


def folder_of(version: str, root: Path) -> Path:
    """Folder of an import. Raises ImportFailure where there is none of this name."""
    from assay.trajectories.contents import imported
    from assay.trajectories.importers import ImportFailure

    known = imported(root)
    if version not in known:
        names = ", ".join(known) or "none yet; `assay import` makes them"
        raise ImportFailure(
            f"{version} is no import (imports: {names}); the pipeline's own rollouts are judged by `dvc repro`, and again by --replay"
        )
    return known[version]


def write_note(folder: Path, chosen: VerificationParams) -> None:
    """The parameters, which become parameters of the version. Raises ShardError where the disk is full, say."""
    from assay.trajectories import ShardError
    from assay.trajectories.contents import VERIFICATION_NOTE

    file = folder / VERIFICATION_NOTE
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.write_text(json.dumps(chosen.model_dump(mode="json"), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(partial, file)
    except OSError as error:
        raise ShardError(f"{file}: could not be written ({error.strerror or error}); free disk space, then run again") from error


def own_rewards(folder: Path) -> dict[str, bool]:
    """Whether the file's own reward was that of a right answer, by trajectory, where it had one."""
    from assay.trajectories import read_table, shard_files
    from assay.trajectories.importers import RULE

    files = [file for file in shard_files("verdicts", folder) if file.name != SHARD]
    if not files:
        return {}
    rows = read_table("verdicts", *files, columns=("trajectory_id", "role", "verdict")).to_pylist()
    return {row["trajectory_id"]: row["verdict"] == "correct" for row in rows if row["role"] == RULE}


def summary(verdicts: "pa.Table", rewards: dict[str, bool]) -> str:
    """Counts by role, verifier, verdict and reason; and how far each role agrees with the file's own rewards."""
    names = ("role", "verifier", "verdict", "reason")
    rows = verdicts.select(["trajectory_id", *names]).to_pylist()
    roles = list(dict.fromkeys(row["role"] for row in rows))
    tally = Counter(tuple(row[name] for name in names) for row in rows)
    lines = [(*names, "rows")]
    lines += [(*key, f"{tally[key]:,}") for key in sorted(tally, key=lambda key: (roles.index(key[0]), -tally[key], key))]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join([*(cell.ljust(w) for cell, w in zip(line[:-1], widths, strict=False)), line[-1].rjust(widths[-1])])
            for line in lines]  # fmt: skip
    if not rewards:
        return "\n".join([*text, "agreement with the file's own rewards: the file has none"])
    for role in roles:
        judged = {r["trajectory_id"]: r["verdict"] for r in rows if r["role"] == role and r["trajectory_id"] in rewards}
        pairs = Counter((rewards[i], verdict == "correct") for i, verdict in judged.items() if verdict != "abstain")
        decided = pairs.total()
        same = pairs[True, True] + pairs[False, False]
        share = f" ({same / decided:.1%})" if decided else ""
        text.append(
            f"agreement with the file's own rewards: {role} {same:,} of {decided:,}{share}; "
            f"right by the file alone {pairs[True, False]:,}, by the {role} alone {pairs[False, True]:,}, "
            f"not decided by the {role} {len(judged) - decided:,}"
        )
    return "\n".join(text)
