"""kill -9 of `dvc` in the middle of a stage, followed at once by another `dvc repro`.

Three stages here; benchmarks/kills.py does every stage, many times.
"""

import pytest
import yaml

from benchmarks.kills import repro_until
from benchmarks.workspace import copy_project, fingerprints

pytestmark = [pytest.mark.pipeline, pytest.mark.engine, pytest.mark.timeout(1200)]


@pytest.mark.long  # two minutes; test_pipeline_fused.py kills too, and each stage has its own test of it
def test_a_killed_pipeline_ends_with_the_tables_of_an_uninterrupted_one(finished, tmp_path):
    killed = copy_project(tmp_path / "killed", yaml.safe_load((finished.root / "params.yaml").read_text()))
    kills = [repro_until(killed, stage, after) for stage, after in (("warm_start", 3.0), ("verify@0", 0.3), ("update@0", 0.0))]
    assert all(kill is not None and kill.survivors == 0 for kill in kills), kills
    killed.repro()
    assert fingerprints(killed) == fingerprints(finished)
