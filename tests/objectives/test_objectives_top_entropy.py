"""The 80/20 rule: the worked numbers of the method file (C.8 T1 to T12), ties, scopes, TRL's own mask, and the neutral setting."""

import math
from types import SimpleNamespace

import pytest
import torch

from assay.objectives.entropy import entropy, entropy_threshold, restricted, top_entropy_mask
from assay.objectives.policy import clipped, denominator, numerator
from assay.objectives.selection import SelectionError, extreme, quantile, share

torch.set_num_threads(1)

H = torch.tensor([0.05, 0.01, 1.2, 0.3, 0.02, 0.9, 0.0, 0.6, 0.1, 0.4])
ALL = torch.ones(10, dtype=torch.bool)


def chosen(mask):
    return mask.flatten().nonzero().squeeze(-1).tolist()


def test_entropies_of_the_worked_numbers():
    """T1; 0 log 0 is 0."""
    p = [[0.25] * 4, [0.97, 0.01, 0.01, 0.01], [0.6, 0.3, 0.09, 0.01], [0.5, 0.5, 0.0, 0.0]]
    found = entropy(torch.tensor(p).log())
    assert found.tolist() == pytest.approx([1.386294, 0.167701, 0.930454, 0.693147], abs=1e-6)


@pytest.mark.parametrize("mode", ["quantile", "count"])
def test_the_top_fifth_of_the_worked_numbers(mode):
    """T2."""
    assert entropy_threshold(H, ALL, 0.2) == pytest.approx(0.66)
    selected = top_entropy_mask(H, ALL, 0.2, mode=mode)
    assert chosen(selected) == [2, 5]
    assert chosen(top_entropy_mask(H, ALL, 0.8, part="bottom", mode=mode)) == [0, 1, 3, 4, 6, 7, 8, 9]


@pytest.mark.parametrize(("at_two", "by_selected", "by_all"), [(1.0, 0.0, 0.0), (3.0, -1.0, -0.2)])
def test_normalisation_over_selected_or_all_tokens(at_two, by_selected, by_all):
    """T3: the two differ by N / |selected| = 5."""
    advantages = torch.tensor([1.0] * 5 + [-1.0] * 5)
    advantages[2] = at_two
    zero = torch.zeros(10)
    selected = top_entropy_mask(H, ALL, 0.2)
    loss = clipped(zero, zero, advantages).loss
    for normalisation, expected in (("selected", by_selected), ("all", by_all)):
        values, mask = restricted(loss, ALL, selected, normalisation)
        divisor = denominator("token_mean", rows=1, tokens=int(mask.sum()), max_tokens=10)
        assert (numerator(values, mask, "token_mean") / divisor).item() == pytest.approx(expected)
    # What is masked stays out, selected or not.
    values, mask = restricted(loss, ~selected, ALL)
    assert torch.equal(mask, ~selected) and torch.equal(values, loss)


def run(selected, normalisation, aggregation="token_mean", seed=0):
    """Loss and gradient on logits of 6 rows of 8 tokens; selected: None for the baseline, or a function of (H, mask, A)."""
    torch.manual_seed(seed)
    logits = (torch.randn(6, 8, 5) * 2).requires_grad_()
    ids, mask, advantages = torch.randint(5, (6, 8, 1)), torch.rand(6, 8) < 0.8, torch.randn(6, 1)
    advantages[1] = 0
    logs = torch.log_softmax(logits, -1)
    logprobs = logs.gather(-1, ids)[..., 0]
    loss = clipped(logprobs, logprobs.detach() + 0.1 * torch.randn(6, 8), advantages).loss
    selection = None
    if selected is not None:
        selection = selected(entropy(logits), mask, advantages)
        loss, mask = restricted(loss, mask, selection, normalisation)
    divisor = denominator(aggregation, rows=6, tokens=int(mask.sum()), max_tokens=8)
    total = numerator(loss, mask, aggregation) / divisor
    total.backward()
    return total.detach(), logits.grad, selection


@pytest.mark.parametrize("normalisation", ["selected", "all"])
@pytest.mark.parametrize("mode", ["quantile", "count"])
@pytest.mark.parametrize("part", ["top", "bottom"])
def test_a_fraction_of_one_is_the_baseline_bit_for_bit(part, mode, normalisation):
    """T4, with a group without advantage, and whatever the aggregation."""
    for aggregation in ("token_mean", "sequence_mean"):
        with_it = run(lambda h, mask, a: top_entropy_mask(h, mask, 1.0, part=part, mode=mode, advantages=a), normalisation, aggregation)
        without = run(None, normalisation, aggregation)
        assert torch.equal(with_it[0], without[0]) and torch.equal(with_it[1], without[1])


@pytest.mark.parametrize("normalisation", ["selected", "all"])
def test_unselected_tokens_have_no_gradient_and_the_selection_none(normalisation):
    """T5 and T6: the gradient of a selected token is the baseline's times a constant, so none came through its entropy."""
    _, gradient, selection = run(lambda h, mask, a: top_entropy_mask(h, mask, 0.3), normalisation)
    _, baseline, _ = run(None, normalisation)
    torch.manual_seed(0)
    torch.randn(6, 8, 5), torch.randint(5, (6, 8, 1))
    tokens = (torch.rand(6, 8) < 0.8).sum().item()
    assert not selection.requires_grad and 0 < selection.sum() < tokens
    assert not gradient[~selection].any()
    factor = tokens / selection.sum().item() if normalisation == "selected" else 1.0
    assert torch.allclose(gradient[selection], baseline[selection] * factor, rtol=1e-5, atol=0)
    assert gradient[selection].abs().sum() > 0


def test_padding_does_not_move_the_threshold():
    """T7: whatever stands there, infinities and NaN too."""
    padded = torch.cat([H, torch.tensor([1e3, math.inf, math.nan])])
    mask = torch.cat([ALL, torch.zeros(3, dtype=torch.bool)])
    assert entropy_threshold(padded, mask, 0.2) == entropy_threshold(H, ALL, 0.2)
    for mode in ("quantile", "count"):
        assert chosen(top_entropy_mask(padded, mask, 0.2, mode=mode)) == [2, 5]


def test_ties_select_everything_by_quantile_and_exactly_the_share_by_count():
    """T8."""
    zeros = torch.zeros(2, 5)
    mask = torch.ones(2, 5, dtype=torch.bool)
    assert top_entropy_mask(zeros, mask, 0.2).all()
    assert chosen(top_entropy_mask(zeros, mask, 0.2, mode="count")) == [0, 1]
    assert not top_entropy_mask(zeros, mask, 0.8, part="bottom").any()
    assert chosen(top_entropy_mask(zeros, mask, 0.8, part="bottom", mode="count")) == list(range(2, 10))
    # Nine zeros and one 0.5: tau is 0.
    zeros[1, 2] = 0.5
    assert top_entropy_mask(zeros, mask, 0.2).all()
    assert chosen(top_entropy_mask(zeros, mask, 0.2, mode="count")) == [0, 7]
    mask[0, 0] = False
    assert chosen(top_entropy_mask(zeros, mask, 0.3, mode="count")) == [1, 7]


def test_scope_is_what_is_handed_in():
    """T9: one threshold for the generation batch is the same in every micro-batch; their own thresholds are not."""
    torch.manual_seed(1)
    h, mask = torch.rand(8, 20) * torch.linspace(0.1, 1, 8)[:, None], torch.rand(8, 20) < 0.9
    whole = top_entropy_mask(h, mask, 0.2)
    tau = entropy_threshold(h, mask, 0.2)
    parts = [slice(i, i + 2) for i in range(0, 8, 2)]
    batch_scope = torch.cat([top_entropy_mask(h[p], mask[p], 0.2, threshold=tau) for p in parts])
    micro_scope = torch.cat([top_entropy_mask(h[p], mask[p], 0.2) for p in parts])
    assert torch.equal(whole, batch_scope) and not torch.equal(whole, micro_scope)
    shuffled = torch.randperm(8)
    assert torch.equal(top_entropy_mask(h[shuffled], mask[shuffled], 0.2), whole[shuffled])


@pytest.mark.parametrize("mode", ["quantile", "count"])
@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
def test_top_and_bottom_divide_the_tokens(fraction, mode):
    """T10, for any number of tokens, with ties."""
    torch.manual_seed(2)
    for tokens in (1, 2, 5, 10, 11, 101):
        h, mask = (torch.rand(3, tokens) * 8).round() / 8, torch.rand(3, tokens) < 0.7
        mask[0, 0] = True
        top = top_entropy_mask(h, mask, fraction, mode=mode)
        bottom = top_entropy_mask(h, mask, 1 - fraction, part="bottom", mode=mode)
        assert not (top & bottom).any() and torch.equal(top | bottom, mask) and top.any()
        if mode == "count":
            n = int(mask.sum())
            assert top.sum() == max(1, math.floor(round(fraction * n, 6)))


@pytest.mark.parametrize("mode", ["quantile", "count"])
def test_groups_without_advantage_are_neither_ranked_nor_selected(mode):
    """T11: all-right and all-wrong groups, as the dynamic sampling of the paper would not have had them."""
    h = torch.cat([H.reshape(2, 5), torch.full((1, 5), 2.0)])
    mask = torch.ones(3, 5, dtype=torch.bool)
    advantages = torch.tensor([[1.0], [-1.0], [0.0]])
    assert chosen(top_entropy_mask(h, mask, 0.2, mode=mode, advantages=advantages)) == [2, 5]
    assert chosen(top_entropy_mask(h, mask, 0.2, mode=mode, advantages=advantages.expand(3, 5))) == [2, 5]
    assert set(chosen(top_entropy_mask(h, mask, 0.2, mode=mode))) <= set(range(10, 15))
    bottom = top_entropy_mask(h, mask, 0.8, mode=mode, part="bottom", advantages=advantages)
    assert chosen(bottom) == [0, 1, 3, 4, 6, 7, 8, 9]
    for part in ("top", "bottom"):
        assert not top_entropy_mask(h, mask, 0.2, mode=mode, part=part, advantages=torch.zeros(3, 1)).any()


@pytest.fixture(scope="module")
def trl_mask():
    from accelerate import Accelerator

    from assay.training.trl_surface import GRPOTrainer

    trainer = SimpleNamespace(accelerator=Accelerator(cpu=True))
    return lambda h, mask, threshold: GRPOTrainer.get_high_entropy_mask(trainer, h, mask, threshold)


def test_the_mask_is_that_of_trl(trl_mask):
    """T12: TRL's own cases (12 tokens of which 2 are padding, threshold .8: .9 and 1.0 are kept), then random ones."""
    rising = torch.arange(1, 13).reshape(2, 6) / 10
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    assert rising[top_entropy_mask(rising, mask, 0.2)].tolist() == pytest.approx([0.9, 1.0])
    mixed = torch.tensor([[0.1, 0.2, 0.3, 1.4, 0.5, 0.14], [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]])
    short = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0]])
    assert chosen(top_entropy_mask(mixed, short, 0.2)) == [3, 9]
    for h, m in ((rising, mask), (mixed, short), (rising, torch.zeros_like(mask))):
        for fraction in (0.2, 0.5, 1.0):
            assert torch.equal(top_entropy_mask(h, m, fraction), trl_mask(h, m, 1 - fraction))
    torch.manual_seed(3)
    differing = 0
    for trial in range(200):
        h, m = torch.rand(4, 1 + trial % 37), torch.rand(4, 1 + trial % 37) < 0.8
        h = (h * 16).round() / 16 if trial % 2 else h
        fraction = 0.03 + (trial % 19) * 0.05
        ours, theirs = top_entropy_mask(h, m, fraction), trl_mask(h, m, 1 - fraction)
        assert torch.equal(ours, theirs), (trial, fraction)
        differing += 0 < ours.sum() < m.sum()
    assert differing > 150


def test_nothing_unmasked_selects_nothing():
    none = torch.zeros(10, dtype=torch.bool)
    assert entropy_threshold(H, none, 0.2) == math.inf
    for part in ("top", "bottom"):
        for mode in ("quantile", "count"):
            assert not top_entropy_mask(H, none, 0.2, part=part, mode=mode).any()
    empty, nothing = torch.zeros(0, 4), torch.zeros(0, 4, dtype=torch.bool)
    assert top_entropy_mask(empty, nothing, 0.2).shape == (0, 4)


def test_quantiles_are_those_of_torch():
    torch.manual_seed(4)
    for size in (1, 2, 3, 10, 11, 1000):
        values = torch.rand(size, dtype=torch.float64)
        for level in (0, 0.01, 0.2, 0.5, 0.7, 0.9, 0.99, 1):
            assert quantile(values, level) == pytest.approx(torch.quantile(values, level).item(), abs=1e-12)
    # 0.07 x 100 is 7.000000000000001 in binary: a threshold above 7 would lose the value 7.
    assert 0.07 * 100 > 7 and quantile(torch.arange(101.0), 0.07) == 7
    assert quantile(torch.rand(2**24 + 2), 0.5) == pytest.approx(0.5, abs=1e-3)


def test_shares_do_not_suffer_from_rounding():
    assert int(0.29 * 100) == 28 and share(0.29, 100) == 29
    assert [share(0.2, n) for n in (0, 1, 9, 10, 14, 15)] == [0, 1, 1, 2, 2, 3]


def test_extreme_breaks_ties_by_place():
    values = torch.tensor([[1.0, 2.0, 2.0], [2.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert chosen(extreme(values, mask, 1, largest=True)) == [1]
    assert chosen(extreme(values, mask, 3, largest=True)) == [0, 1, 3]
    assert chosen(extreme(values, mask, 1, largest=False)) == [4]
    assert chosen(extreme(values, mask, 0, largest=False)) == []


def test_bad_input_is_refused():
    for fraction in (0, -0.2, 1.01, math.nan, math.inf):
        for call in (entropy_threshold, top_entropy_mask):
            with pytest.raises(ValueError, match=r"fraction of tokens by entropy is .* expected above 0 and at most 1"):
                call(H, ALL, fraction)
    with pytest.raises(SelectionError, match="part 'middle', mode 'count'"):
        top_entropy_mask(H, ALL, 0.2, part="middle", mode="count")
    with pytest.raises(SelectionError, match="threshold is given, which count mode does not use"):
        top_entropy_mask(H, ALL, 0.2, mode="count", threshold=0.5)
    with pytest.raises(SelectionError, match=r"entropy has shape \(10,\) and mask \(9,\)"):
        top_entropy_mask(H, ALL[:9], 0.2)
    with pytest.raises(SelectionError, match="entropy: an unmasked value is not finite"):
        top_entropy_mask(torch.tensor([0.1, math.nan]), torch.tensor([True, True]), 0.5)
    with pytest.raises(SelectionError, match="unknown normalisation 'token'"):
        restricted(H, ALL, ALL, "token")
