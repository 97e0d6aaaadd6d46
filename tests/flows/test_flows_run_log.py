"""A stage's output in a file and, bounded, in the flow's log."""

from pathlib import Path

import pytest

from flows import run_log
from flows.run_log import stage_log


def test_everything_is_in_the_file_and_a_bounded_part_in_the_log(tmp_path: Path) -> None:
    said: list[str] = []
    with stage_log(tmp_path, "rollout@3", said.append) as take:
        for i in range(5000):
            take(f"line {i}")
    assert (tmp_path / ".assay/logs/rollout@3.log").read_text().splitlines() == [f"line {i}" for i in range(5000)]
    assert said[:3] == ["line 0", "line 1", "line 2"]
    assert run_log.WHOLE < len(said) < 200
    assert said[-1].endswith("more lines are in .assay/logs/rollout@3.log")


def test_long_lines_are_cut_in_the_log_only(tmp_path: Path) -> None:
    said: list[str] = []
    with stage_log(tmp_path, "fused/dvc.yaml:train", said.append) as take:
        take("x" * 5000)
    assert len(said[0]) < 500 and "(5000 characters)" in said[0]
    assert len((tmp_path / ".assay/logs/fused_dvc.yaml_train.log").read_text()) == 5001


def test_another_attempt_keeps_the_first_ones_words(tmp_path: Path) -> None:
    for again, word in ((False, "old"), (False, "first"), (True, "second")):
        with stage_log(tmp_path, "a", lambda _: None, again=again) as take:
            take(word)
    assert (tmp_path / ".assay/logs/a.log").read_text() == "first\nsecond\n"


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "FILE_LIMIT", 1000)
    with stage_log(tmp_path, "a", lambda _: None) as take:
        for _ in range(1000):
            take("0123456789")
    assert 1000 <= (tmp_path / ".assay/logs/a.log").stat().st_size < 1020
