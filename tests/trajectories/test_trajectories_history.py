"""What git says, however a person has set it up and whatever names and messages hold."""

import subprocess

import pytest

from assay.trajectories.history import read_history

ODD = "one\u2028two\x85three\x1ffour\x1c\x1d five"
"""A subject with characters at which Python's `splitlines`, or a reader of our own separators, would split."""


@pytest.fixture
def repository(tmp_path):
    """Three commits of a lock file, on a branch and with a tag of odd names."""

    def git(*arguments: str, stdin: str | None = None) -> str:
        who = ("-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
        done = subprocess.run(["git", *who, *arguments], cwd=tmp_path, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    git("init", "-q")
    for number, subject in enumerate(("first", ODD, "third")):
        (tmp_path / "dvc.lock").write_text(f"state {number}")
        git("add", "dvc.lock")
        git("commit", "-q", "-F", "-", stdin=f"{subject}\n\nbody\n")
    git("tag", "v\u20281")
    git("branch", "b\x85ranch", "HEAD~1")
    return tmp_path, git


def test_subjects_and_names_may_hold_any_character(repository):
    root, git = repository
    history = read_history(root)
    commits = git("rev-list", "--reverse", "HEAD").split()
    assert [version.commit_id for version in history.versions] == commits
    assert [version.subject for version in history.versions] == ["first", ODD, "third"]
    assert [version.parents for version in history.versions] == [(), (commits[0][:7],), (commits[1][:7],)]
    assert history.names["v\u20281"] == (commits[2][:7], "tag")
    assert history.names["b\x85ranch"] == (commits[1][:7], "branch")
    assert history.current == {"staged": commits[2][:7]}


def test_signatures_and_encodings_that_a_person_wants_to_see_change_nothing(repository):
    root, git = repository
    plain = read_history(root).versions
    program = root / "gpg"
    program.write_text('#!/bin/sh\ncat > /dev/null\necho "gpg: Good signature" >&2\necho "[GNUPG:] GOODSIG 1234 Somebody"\nexit 0\n')
    program.chmod(0o755)
    signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n -----END PGP SIGNATURE-----"
    signed = git("cat-file", "commit", "HEAD").replace("\n\n", f"\n{signature}\n\n", 1)
    commit = git("hash-object", "-t", "commit", "-w", "--stdin", stdin=signed).strip()
    git("update-ref", "HEAD", commit)
    for key, value in (("log.showSignature", "true"), ("gpg.program", str(program)), ("i18n.logOutputEncoding", "latin1")):
        git("config", key, value)
    assert "Good signature" in git("log", "-1", "--format=%H")
    found = read_history(root).versions
    assert [version.subject for version in found] == [version.subject for version in plain]
    assert commit in read_history(root).names
