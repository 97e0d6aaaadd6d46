"""Scratch folders: kept for the next try, removed on success, keyed by inputs."""

import pytest

from assay.rounds.scratch import scratch_folder


def test_unfinished_work_is_found_again_and_finished_work_is_gone(tmp_path):
    source = tmp_path / "input"
    source.write_text("a")
    with pytest.raises(RuntimeError), scratch_folder(tmp_path / "s", "stage", [source]) as folder:
        (folder / "part").write_text("half")
        raise RuntimeError
    with scratch_folder(tmp_path / "s", "stage", [source]) as folder:
        assert (folder / "part").read_text() == "half"
    assert list((tmp_path / "s" / "stage").iterdir()) == []


def test_other_inputs_have_another_folder_and_drop_the_old_one(tmp_path):
    source = tmp_path / "input"
    source.write_text("a")
    with pytest.raises(RuntimeError), scratch_folder(tmp_path / "s", "stage", [source]) as old:
        raise RuntimeError
    source.write_text("b")
    with scratch_folder(tmp_path / "s", "stage", [source]) as new:
        assert new != old and not old.exists()


def test_stages_do_not_touch_each_other(tmp_path):
    source = tmp_path / "input"
    source.write_text("a")
    with pytest.raises(RuntimeError), scratch_folder(tmp_path / "s", "rollout-0", [source]) as first:
        raise RuntimeError
    with scratch_folder(tmp_path / "s", "rollout-1", [source]):
        assert first.is_dir()


def test_of_several_processes_the_main_one_alone_cleans_up(tmp_path, monkeypatch):
    """As under `accelerate launch`: each enters with the same inputs, in any order, and all leave."""
    source = tmp_path / "input"
    source.write_text("a")
    with scratch_folder(tmp_path / "s", "update-0", [source]) as first:
        monkeypatch.setenv("RANK", "1")
        with scratch_folder(tmp_path / "s", "update-0", [source]) as second:
            assert second == first
        assert first.is_dir()
        monkeypatch.setenv("RANK", "0")
    assert list((tmp_path / "s" / "update-0").iterdir()) == []
