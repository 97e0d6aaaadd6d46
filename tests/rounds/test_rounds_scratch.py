"""Scratch folders: kept for the next try, removed on success, keyed by inputs."""

import pytest

from assay.rounds.scratch import ScratchError, scratch_folder


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


OLD, NEW = {"assay/a.py": "1", "assay/b.py": "1"}, {"assay/a.py": "1", "assay/b.py": "2"}


@pytest.fixture
def killed(tmp_path):
    """Unfinished work of the old code: enter it again with `killed(code)`."""
    source = tmp_path / "input"
    source.write_text("a")

    def enter(code):
        return scratch_folder(tmp_path / "s", "train-0-fused", [source], code)

    with pytest.raises(RuntimeError), enter(OLD) as folder:
        (folder / "rounds").mkdir()
        (folder / "rounds" / "part").write_text("half")
        raise RuntimeError
    return enter


def test_work_of_other_code_is_neither_mixed_nor_removed_unasked(killed, capsys):
    said = r"train-0-fused/\w+ holds .* \(other since: assay/b\.py\), .*ASSAY_RESUME=anyway"
    for _ in range(2):
        with pytest.raises(ScratchError, match=said), killed(NEW):
            pass
    with killed(OLD) as folder:
        assert (folder / "rounds" / "part").read_text() == "half"
    assert capsys.readouterr().out == "" and list(folder.parent.iterdir()) == []


def test_work_of_other_code_is_gone_on_with_where_that_is_asked_for_and_said_each_time(killed, monkeypatch, capsys):
    monkeypatch.setenv("ASSAY_RESUME", "anyway")
    with pytest.raises(RuntimeError), killed(NEW):
        raise RuntimeError
    assert "assay/b.py" in capsys.readouterr().out
    monkeypatch.delenv("ASSAY_RESUME")
    with pytest.raises(RuntimeError), killed(NEW):
        raise RuntimeError
    assert "warning" in capsys.readouterr().out
    with pytest.raises(ScratchError), killed(OLD):
        pass
    with killed(NEW) as folder:
        assert (folder / "rounds" / "part").exists()
    assert list(folder.parent.iterdir()) == []


def test_a_run_that_stopped_before_it_had_anything_asks_nothing(tmp_path):
    for code in (OLD, NEW):
        with pytest.raises(RuntimeError), scratch_folder(tmp_path / "s", "stage", [], code) as folder:
            (folder / "draft").mkdir(exist_ok=True)
            raise RuntimeError
    with pytest.raises(ScratchError), scratch_folder(tmp_path / "s", "stage", [], NEW) as folder:
        (folder / "draft" / "part").write_text("half")
        with scratch_folder(tmp_path / "s", "stage", [], OLD):
            pass


def test_every_process_of_a_launched_stage_refuses_other_code(killed, monkeypatch):
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(ScratchError), killed(NEW):
            pass
    monkeypatch.setenv("ASSAY_RESUME", "anyway")
    for rank in ("1", "0", "1"):  # before and after the main one has recorded it
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(RuntimeError), killed(NEW):
            raise RuntimeError


def test_work_of_which_nothing_is_recorded_is_of_other_code(killed, tmp_path):
    next((tmp_path / "s/train-0-fused").glob("*.json")).unlink()
    with pytest.raises(ScratchError, match="holds unfinished work of other code, which"), killed(OLD):
        pass
