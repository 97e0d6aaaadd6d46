"""The journal of a fused iteration keeps what a later round, of this process or of one that goes on, reads; and no more."""

import pytest

from assay.rounds.journal import Journal


def read_by(journal, number):
    """States that a process reads which plays round `number`: what it starts from, and the policy that samples."""
    return {state for state in (number - 1, journal.sampler_round(number) - 1) if state >= 0}


def kept(journal):
    return {number for number in range(journal.completed()) if journal.state(number).is_dir()}


@pytest.mark.parametrize("staleness", range(4))
def test_every_round_finds_what_it_reads_also_after_a_kill(tmp_path, staleness):
    journal = Journal(tmp_path, staleness)
    for number in range(12):
        # A killed process opens what round `number` reads; one that goes on opens it too, for filter.max_mismatch.
        assert read_by(journal, number) <= kept(journal), number
        draft = journal.draft()
        (draft / "state").mkdir()
        journal.commit(number, draft)
        assert len(kept(journal)) <= min(2 + staleness, 4)
    assert journal.completed() == 12 and journal.state(11).is_dir()


@pytest.mark.parametrize("staleness", range(3))
@pytest.mark.parametrize("every", [2, 3, 5])
def test_a_killed_run_goes_back_to_the_last_state_and_finds_what_those_rounds_read(tmp_path, staleness, every):
    journal = Journal(tmp_path, staleness, every)

    def readable(number):
        return all(journal.policy(policy).is_dir() for policy in read_by(journal, number))

    for number in range(12):
        assert readable(number), number
        draft = journal.draft()
        (draft / ("state" if journal.has_state(number, 12) else "sampled") / "policy").mkdir(parents=True)
        journal.commit(number, draft)
        back = journal.completed()
        assert back == (12 if number == 11 else (number + 1) // every * every)
        assert back == 0 or (readable(back) and journal.state(back - 1).is_dir())  # a round before the first state starts from models/K
        assert len(kept(journal)) <= 3
    journal.forget_from(7)
    assert len(list((tmp_path / "rounds").iterdir())) == 7


def test_the_state_that_a_process_started_from_stays_until_another_process_goes_on(tmp_path):
    journal = Journal(tmp_path)
    for number in range(6):
        draft = journal.draft()
        (draft / "state").mkdir()
        journal.commit(number, draft, keep=journal.state(1) if number < 5 else None)
        assert journal.state(1).is_dir() == (1 <= number < 5)
