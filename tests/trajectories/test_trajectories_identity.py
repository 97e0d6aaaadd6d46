"""Hashes and seeds: the same on every machine, different for different content."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.trajectories import content_hash, file_digest, seed_from, token_hash, tree_digest

PARTS = st.lists(st.one_of(st.none(), st.text(), st.integers(), st.floats(allow_nan=False)), max_size=4)


@given(PARTS, PARTS)
def test_different_parts_have_different_hashes(left, right):
    same = [repr(x) for x in left] == [repr(x) for x in right]
    assert (content_hash(*left) == content_hash(*right)) == same


@pytest.mark.parametrize(
    ("left", "right"), [(("ab", "c"), ("a", "bc")), (("1",), (1,)), ((None,), ("None",)), (("",), ()), ((1,), (1.0,))]
)
def test_parts_are_kept_apart(left, right):
    assert content_hash(*left) != content_hash(*right)


def test_hashes_are_those_of_every_machine():
    # Stored ids depend on these: a change here makes every stored trajectory a stranger.
    assert content_hash("rational", "1 + 1", "2") == "f56e767d7d68074318f4"
    assert seed_from(0, "policy", "task", 3) == 385119424
    assert token_hash([1, 2, 500]) == "2573670b7d2ed26a7f68"
    assert len(content_hash("a", length=12)) == 12


def test_hashes_do_not_depend_on_the_process():
    program = (
        "from assay.trajectories import *;"
        "print(content_hash('a', 1, None), seed_from(0, 'policy', 'task', 3), token_hash([1, 2, 500]))"
    )
    own = f"{content_hash('a', 1, None)} {seed_from(0, 'policy', 'task', 3)} {token_hash([1, 2, 500])}"
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == own


@given(PARTS)
def test_seeds_fit_every_library(parts):
    assert 0 <= seed_from(*parts) < 2**31


def test_seeds_of_neighbours_are_spread():
    seeds = [seed_from(0, "policy", "task", index) for index in range(2000)]
    assert len(set(seeds)) == 2000
    assert 0.45 < sum(seed < 2**30 for seed in seeds) / 2000 < 0.55


@given(st.lists(st.integers(0, 2**31 - 1)), st.lists(st.integers(0, 2**31 - 1)))
def test_token_hash_tells_sequences_apart(left, right):
    assert (token_hash(left) == token_hash(right)) == (left == right)


def test_tree_digest_depends_on_names_and_content_alone(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place / "sub").mkdir(parents=True)
        (tmp_path / place / "sub" / "one").write_text("1")
        (tmp_path / place / "two").write_text("2")
    assert tree_digest([tmp_path / "a"]) == tree_digest([tmp_path / "b"])
    assert tree_digest([tmp_path / "a" / "two"]) == tree_digest([tmp_path / "b" / "two"])
    before = tree_digest([tmp_path / "b"])
    (tmp_path / "b" / "sub" / "one").rename(tmp_path / "b" / "sub" / "uno")
    assert tree_digest([tmp_path / "b"]) != before
    (tmp_path / "b" / "sub" / "uno").rename(tmp_path / "b" / "sub" / "one")
    assert tree_digest([tmp_path / "b"]) == before
    (tmp_path / "b" / "two").write_text("3")
    assert tree_digest([tmp_path / "b"]) != before
    assert file_digest(tmp_path / "a" / "two") != file_digest(tmp_path / "b" / "two")
