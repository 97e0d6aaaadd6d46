"""Tokens of trained rows: which are at high entropies, where these are, and what Lp-Reg protected; in numbers and in the report."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from exploring import KEPT_ABOVE, LOW, explored, lists, put
from hand_made import sample_tables
from synthetic_run import ByteRenderer

from assay.evaluation import evaluate
from assay.evaluation.figures_exploration import position_figures, split_figures, step_figures
from assay.evaluation.metrics import Lookup
from assay.evaluation.report import report_html
from assay.evaluation.samples import gather
from assay.evaluation.section_exploration import exploration_section
from assay.evaluation.token_grids import Support, forking_grid, split_grid, token_text
from assay.evaluation.tokens import Tokens, TrainedTokens, top_entropy


@pytest.fixture(scope="module")
def rich(record):
    return explored(record)


def own_tokens(**columns) -> TrainedTokens:
    """Two rows of three tokens, 5 6 0, of iterations 0 and 1; the second token of each was inserted by a tool."""
    trajectories, _ = sample_tables([(0, "a", {"rule": "+"}), (1, "a", {"rule": "+"})], loss_mask=[True, False, True])
    numbers = {"logprobs": [[-1.0, -9.0, -0.5], [-2.0, -9.0, -0.1]], "entropies": [[1.0, 9.0, 0.2], [0.5, 9.0, 0.0]]}
    fixed = {"trajectory_id": ["t0", "t1"], "iteration": [0, 1], "round": [0, 0]}
    return TrainedTokens(pa.table(fixed | numbers | columns), trajectories)


def test_inserted_tokens_are_left_out_and_positions_are_those_of_the_completion():
    trained = own_tokens()
    (tokens,) = trained.blocks()
    assert tokens.token.tolist() == [5, 0, 5, 0] and tokens.position.tolist() == [0, 2, 0, 2]
    assert tokens.moment.tolist() == [0, 0, 1, 1] and tokens.entropy.tolist() == pytest.approx([1.0, 0.2, 0.5, 0.0])
    assert [(name, len(window.token)) for name, window in trained.windows()] == [("policy 0", 2), ("policy 1", 2)]
    assert tokens.flags == {} and trained.vocabulary == 7


def test_a_row_without_flags_counts_as_unprotected_and_kept():
    trained = own_tokens(protected=[[True, False, False], None], kept=[None, [False, True, True]])
    (tokens,) = trained.blocks()
    assert tokens.flags["protected"].tolist() == [True, False, False, False]
    assert tokens.flags["kept"].tolist() == [True, True, False, True]
    assert own_tokens(protected=pa.array([None, None], pa.list_(pa.bool_()))).flags == []


def test_the_top_fifth_is_taken_within_each_moment_and_never_of_certain_places():
    entropy = np.array([0.05, 0.01, 1.2, 0.3, 0.02, 0.9, 0, 0.6, 0.1, 0.4])  # C.8: threshold 0.66
    nothing = np.array([0.0] * 9 + [0.5])
    both = Tokens(np.repeat([0, 1], 10), np.zeros(20, int), np.zeros(20, int), np.concatenate([entropy, nothing]), np.zeros(20), {})
    assert np.flatnonzero(top_entropy(both, 0.2)).tolist() == [2, 5, 19]


def test_the_grid_counts_top_places_by_token_and_window():
    trained = own_tokens()
    grid = forking_grid(trained.windows(), trained.vocabulary, None)
    assert grid is not None and grid.rows == (("token 5", "100.0%", "100.0%", "1", "100.0%", "0.500", "0.0"),)
    certain = own_tokens(entropies=[[0.0] * 3] * 2)
    assert forking_grid(certain.windows(), 7, None) is None


def test_many_rounds_are_compared_by_their_first_and_last_tenth():
    trajectories, _ = sample_tables([(0, "a", {"rule": "+"})] * 40)
    rows = {"trajectory_id": [f"t{i}" for i in range(40)], "iteration": [0] * 40, "round": [i // 2 for i in range(40)]}
    lengths = np.full(40, 3)
    table = pa.table(rows | {"logprobs": lists(np.zeros(120), lengths), "entropies": lists(np.repeat(np.arange(20.0), 6), lengths)})
    windows = TrainedTokens(table, trajectories).windows()
    assert [name for name, _ in windows] == ["first 2 rounds", "last 2 rounds"]
    assert [window.entropy.mean() for _, window in windows] == [0.5, 18.5]


def test_protected_tokens_are_counted_with_their_probabilities(rich):
    support = Support(TrainedTokens(rich.token_statistics, rich.trajectories))
    flags, kept, ids, logprobs = [], [], [], []
    completions = {row["trajectory_id"]: row["completion_ids"] for row in rich.trajectories.to_pylist()}
    for row in rich.token_statistics.to_pylist():
        flags += row["protected"]
        kept += row["kept"]
        ids += completions[row["trajectory_id"]]
        logprobs += row["logprobs"]
    flags, kept, ids, logprobs = (np.array(column) for column in (flags, kept, ids, logprobs))
    share = f"{flags.mean():.1%}"
    assert support.sentences()[0] == f"Protected: {flags.sum():,} of {len(flags):,} trained tokens ({share})."
    assert support.outside.sum() == (~kept).sum() > 0
    grid = support.grid("protected", ByteRenderer())
    token = max(set(ids[flags].tolist()), key=lambda t: (flags & (ids == t)).sum())
    mine = flags & (ids == token)
    shares = (f"{mine.sum() / flags.sum():.1%}", f"{mine.sum() / (ids == token).sum():.1%}")
    assert grid is not None and grid.rows[0][:4] == (token_text(token, ByteRenderer()), f"{mine.sum():,}", *shares)
    assert float(grid.rows[0][4]) == pytest.approx(np.exp(logprobs[mine].mean()), rel=0.05)
    assert all(KEPT_ABOVE < float(row[4]) < LOW for row in grid.rows)
    counts = [int(row[1].replace(",", "")) for row in grid.rows]
    assert counts == sorted(counts, reverse=True) and len(counts) <= 15


def test_entropy_by_position_falls_as_the_fixture_made_it(rich):
    entropy, top = position_figures(TrainedTokens(rich.token_statistics, rich.trajectories).windows())
    means = [float(row[-1]) for row in entropy.table[1:6]]
    assert means == pytest.approx([1 / (1 + position) for position in range(5)], rel=0.15)
    assert [name for name, *_ in entropy.legend] == ["policy 0", "policy 2"]
    shares = [float(row[-1]) for row in top.table[1:6]]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0.5


def test_pictures_over_steps_are_ratios_of_sums_and_counts(rich, record):
    figures = {figure.title: figure for figure in step_figures(rich.updates)}
    assert list(figures) == [
        "Entropy in training", "Low-probability threshold", "Protected tokens", "Protected share of the candidates",
        "Penalty of protected tokens", "Entropy threshold", "Entropy of selected tokens", "Tokens with policy loss",
        "Divergence on rehearsed answers",
    ]  # fmt: skip
    shares = figures["Protected share of the candidates"].table
    assert (shares[1][1], shares[-1][1]) == ("0.3", "0.1")
    assert figures["Penalty of protected tokens"].table[1][1] == "0.05"
    assert figures["Divergence on rehearsed answers"].table[-1][1] == "0.01"
    assert figures["Protected tokens"].table[1] == ("0", "0.02813", "0.09375")
    assert [figure.title for figure in step_figures(record.updates)] == ["Entropy in training"]
    none = put(rich.updates, "protected_count", pa.array([0.0] * len(rich.updates)))
    assert "Penalty of protected tokens" not in [figure.title for figure in step_figures(none)]


def test_presampled_tasks_by_part(rich):
    grid, (figure,) = split_grid(rich.splits), split_figures(rich.splits)
    rows = rich.splits.to_pylist()
    assert grid is not None and [row[0] for row in grid.rows] == ["chain_sum", "rational"]
    assert sum(int(row[2]) for row in grid.rows) == sum(row["subset"] == "near_perfect" for row in rows) > 5
    assert sum(int(row[5]) for row in grid.rows) == sum(row["recheck"] is False for row in rows)
    assert sum(int(cell) for row in figure.table[1:] for cell in row[1:]) == len(rows)
    assert split_grid(None) is None and split_figures(rich.splits.slice(0, 0)) == []


def test_the_section_shows_what_there_is(rich, record, params):
    tables = (record.tasks, record.trajectories, record.verdicts)
    table = Lookup(evaluate(*tables, params.evaluation))
    plain, full = (
        exploration_section(each, gather(*tables), table, "eval", params, ByteRenderer())
        for each in (replace(record, updates=None, token_statistics=None), rich)
    )
    assert [figure.title for figure in plain.figures] == [
        "pass@k by k", "Gain over policy 0 by k", "Kept and newly solved tasks", "Kept and newly solved by k", "Entropy",
    ]  # fmt: skip
    assert plain.grids == () and plain.statement.startswith("Policy 3 minus policy 0")
    assert [title for title, _, _ in full.grids] == [
        "Tokens where the policy chooses", "Protected tokens", "Tokens that the proxy leaves out", "Presampled tasks",
    ]  # fmt: skip
    assert len(full.figures) == len(plain.figures) + 12


def test_the_page_has_the_section_and_tokens_are_only_text(rich, evaluations, params):
    class Hostile(ByteRenderer):
        def text(self, ids) -> str:
            return "<img src=x>\n " if len(ids) == 1 else super().text(ids)

    page = report_html(rich, evaluations, params, Hostile())
    assert '<section id="exploration">' in page and "&lt;img␣src=x&gt;⏎␣" in page and "<img" not in page
    assert page == report_html(rich, evaluations, params, Hostile())
    assert len(page) < 600_000


def test_tokens_as_a_person_sees_them():
    assert token_text(ord("7"), ByteRenderer()) == "7" and token_text(0x20, ByteRenderer()) == "␣"
    assert token_text(0, ByteRenderer()) == "special token 0" and token_text(0xC3, ByteRenderer()) == "token 195"
    assert token_text(7, None) == "token 7"
