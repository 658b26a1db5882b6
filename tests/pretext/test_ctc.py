"""The CTC loss, and what whoever does not listen reaches."""

import itertools

import pytest
import torch

from speechssl.pretext.ctc import ctc_chance, ctc_loss, disagreement


def test_ctc_loss_is_the_brute_force_sum_over_paths():
    torch.manual_seed(0)
    log_probs = torch.randn(1, 4, 3).log_softmax(2)
    target, total = [1, 2], 0.0
    for path in itertools.product(range(3), repeat=4):
        collapsed = [s for s, _ in itertools.groupby(path) if s != 0]
        if collapsed == target:
            total += float(log_probs[0, range(4), list(path)].sum().exp())
    loss = ctc_loss(log_probs, torch.tensor([4]), [target])
    assert float(loss) == pytest.approx(-torch.log(torch.tensor(total)).item(), rel=1e-5)


def test_disagreement_is_the_mean_of_both_divergences_over_valid_frames():
    torch.manual_seed(0)
    log_probs = torch.randn(4, 5, 3).log_softmax(2).requires_grad_()  # two utterances, two views
    lengths = torch.tensor([5, 2, 5, 2])
    total = 0.0
    for row, length in ((0, 5), (1, 2)):
        for frame in range(length):
            p, q = log_probs[row, frame].detach().exp(), log_probs[row + 2, frame].detach().exp()
            total += float(0.5 * ((p * (p / q).log()).sum() + (q * (q / p).log()).sum()))
    loss = disagreement(log_probs, lengths)
    assert loss.item() == pytest.approx(total, rel=1e-5)
    loss.backward()
    assert log_probs.grad[1, 2:].abs().max() == 0  # padding
    same = log_probs.detach()[:2].repeat(2, 1, 1)
    assert disagreement(same, lengths).item() == pytest.approx(0, abs=1e-6)


def test_chance_is_what_one_reaches_who_knows_when_but_not_what():
    """Rows that say certainly whether there is a symbol, and of which only how frequent it is."""
    target = [5, 2, 2, 7, 5, 2, 5, 5]
    row = torch.zeros(9, dtype=torch.double)
    row[[2, 5, 7]] = torch.tensor([3, 4, 1], dtype=torch.double) / 8
    blank = torch.nn.functional.one_hot(torch.tensor(0), 9)
    rows = torch.stack([row, blank] * len(target)).log().clamp_min(-1e3)[None]  # (1, 16, 9)
    loss = ctc_loss(rows, torch.tensor([16]), [target])
    assert ctc_chance([target[:3], target[3:]]) == pytest.approx(float(loss) / 8, rel=1e-5)


def test_chance_without_a_symbol():
    assert ctc_chance([[], []]) == 0
    assert ctc_chance([]) == 0
