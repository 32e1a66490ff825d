import pytest
import torch

from forethought.distill.samples.corpus import TopEntries
from forethought.distill.training.loss import match, mean_loss

R, K, N, H = 11, 4, 6, 8


def example() -> tuple[torch.Tensor, torch.Tensor, TopEntries]:
    """Logits of no particular size; one listed token has no row."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(N, H, generator=generator).requires_grad_()
    head = torch.randn(R, H, generator=generator)
    rows = torch.stack([torch.randperm(R, generator=generator)[:K] for _ in range(N)])
    rows[2, 1] = R
    probs = torch.rand(N, K, generator=generator).softmax(dim=-1) * 0.8
    return hidden, head, TopEntries(rows, probs.sort(dim=-1, descending=True).values)


def listed(top: TopEntries, index: int) -> list[tuple[int, float]]:
    """The row and probability of each listed token that the draft can say."""
    pairs = zip(top.rows[index], top.probs[index], strict=True)
    return [(int(row), float(p)) for row, p in pairs if row < R]


def plain_loss(
    hidden: torch.Tensor, head: torch.Tensor, top: TopEntries, acceptance_weight: float
) -> torch.Tensor:
    entropy, acceptance = torch.zeros(()), torch.zeros(())
    for index in range(len(hidden)):
        q = (head @ hidden[index]).softmax(dim=-1)
        own = listed(top, index)
        for row, p in own:
            entropy = entropy - p * q[row].log()
        rest = 1 - sum(q[row] for row, _ in own)
        entropy = entropy - (1 - top.probs[index].sum()) * rest.log()
        overlap = torch.stack([q[row].clamp(max=p) for row, p in own]).sum()
        acceptance = acceptance - overlap.log()
    loss = (1 - acceptance_weight) * entropy + acceptance_weight * acceptance
    return loss / len(hidden)


@pytest.mark.parametrize("acceptance_weight", [0.0, 0.7, 1.0])
def test_the_loss_and_its_gradient_are_those_of_the_formula(acceptance_weight):
    hidden, head, top = example()
    loss = mean_loss(hidden, head, top, acceptance_weight)
    (gradient,) = torch.autograd.grad(loss, hidden)
    expected = plain_loss(hidden, head, top, acceptance_weight)
    (wanted,) = torch.autograd.grad(expected, hidden)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(gradient, wanted, atol=1e-5, rtol=1e-4)


def test_where_q_cannot_be_p_the_acceptance_loss_has_more_accepted_than_the_cross_entropy():
    def accepted(acceptance_weight: float) -> float:
        _, head, top = example()
        # Of eleven logits three may be chosen.
        few = torch.zeros(N, 3, requires_grad=True)
        optimiser = torch.optim.Adam([few], lr=0.05)
        for _ in range(300):
            optimiser.zero_grad()
            mean_loss(few, head[:, :3], top, acceptance_weight).backward()
            optimiser.step()
        return float(match(few.detach(), head[:, :3], top).overlap.mean())

    assert accepted(1.0) > accepted(0.0) + 0.01


def test_overlap_and_agreement_leave_out_what_the_draft_cannot_say():
    hidden, head, top = example()
    fit = match(hidden.detach(), head, top)
    for index in range(N):
        q = (head @ hidden[index].detach()).softmax(dim=-1)
        overlap = sum(min(p, float(q[row])) for row, p in listed(top, index))
        assert abs(float(fit.overlap[index]) - overlap) < 1e-5
        assert bool(fit.agreement[index]) == (int(q.argmax()) == int(top.rows[index, 0]))
