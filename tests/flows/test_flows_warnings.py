"""What a verifier that drifts does to a flow run: it is logged as a warning, listed first in the artifact, and fails nothing."""

import asyncio
import logging
from typing import Any

import pytest
from flows_toy import Project, wait_until

pytestmark = pytest.mark.usefixtures("prefect_server")

WRITE_ESTIMATES = """
import sys
from pathlib import Path
from assay.trajectories import schema, write_shard
k = int(sys.argv[1])
row = dict.fromkeys(schema("noise_estimates").names) | dict(
    iteration=k, round=0, environment="rational", verifier="string_match", against="judge", judge="math_verify", n=40, rule_positives=80,
    rule_negatives=160, examined_negatives=40, false_negatives=36.0, false_negative_rate=0.3, false_negative_low=0.2,
    false_negative_high=0.4, smoothed_rate=0.1, warning="away from the average of 0.100" if k else None)
others = [row | dict(environment="sums", warning=None)]
write_shard(Path(f"data/verify/{k}/noise_estimates.parquet"), "noise_estimates", [row, *others])
"""
STAGES = """
verify:
  foreach: ${iterations}
  do: {cmd: "mkdir -p data/verify && python estimates.py ${item.k}", deps: [estimates.py], outs: ["data/verify/${item.k}"]}
"""


def read(state: Any, what: str) -> list[Any]:
    """Logs or artifacts of the flow run that ended in a state, as the server has them."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, LogFilter, LogFilterFlowRunId

    run = [state.state_details.flow_run_id]

    async def answer() -> list[Any]:
        async with get_client() as client:
            if what == "logs":
                return await client.read_logs(log_filter=LogFilter(flow_run_id=LogFilterFlowRunId(any_=run)))
            return await client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=run)))

    return asyncio.run(answer())


def noise_lines(state: Any) -> list[tuple[int, str]]:
    """(level, message) of what the server's log says about verifier noise. The log is sent with a delay, in batches that need not come
    in order: waited for are its last line and the first of these."""

    def found() -> list[tuple[int, str]]:
        return [(log.level, log.message) for log in read(state, "logs") if "verifier noise" in log.message]

    wait_until(lambda: any("Finished in state" in log.message for log in read(state, "logs")) and found())
    return found()


def test_a_drifting_verifier_is_a_warning_of_the_run_which_succeeds(project: Project) -> None:
    from flows.pipeline import pipeline

    (project.root / "estimates.py").write_text(WRITE_ESTIMATES)
    project.stages(STAGES)
    state = pipeline(root=str(project.root), sync=False, wait_seconds=0, return_state=True)
    assert state.is_completed() and state.message.startswith("2 stages run")
    warned = [(logging.WARNING, "verifier noise, iteration 1, string_match on rational: away from the average of 0.100")]
    assert noise_lines(state) == warned
    (shown,) = [artifact.data for artifact in read(state, "artifacts") if artifact.key == "verifier-noise"]
    assert shown.splitlines()[:3] == ["**Warnings**", "", "* iteration 1, string_match on rational: away from the average of 0.100"]
    assert "| 0 | rational | string_match | judge math_verify | 0.300 (0.200 to 0.400) | 0.100 | – |" in shown

    # Where nothing is run again the verifier is still the one that drifts, and a later failure does not hide it.
    project.stages(STAGES + "after: {cmd: exit 2, deps: [data/verify/1]}\n")
    failed = pipeline(root=str(project.root), sync=False, wait_seconds=0, return_state=True)
    assert failed.is_failed() and noise_lines(failed) == warned
