import torch

from forethought.distill.loss import TopEntries, match, mean_loss

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


def plain_loss(hidden: torch.Tensor, head: torch.Tensor, top: TopEntries) -> torch.Tensor:
    total = torch.zeros((), dtype=hidden.dtype)
    for index in range(len(hidden)):
        q = (head @ hidden[index]).softmax(dim=-1)
        own = [
            (int(row), p)
            for row, p in zip(top.rows[index], top.probs[index], strict=True)
            if row < R
        ]
        for row, p in own:
            total = total - p * q[row].log()
        rest = 1 - sum(q[row] for row, _ in own)
        total = total - (1 - top.probs[index].sum()) * rest.log()
    return total / len(hidden)


def test_the_loss_and_its_gradient_are_those_of_the_formula():
    hidden, head, top = example()
    loss = mean_loss(hidden, head, top)
    (gradient,) = torch.autograd.grad(loss, hidden)
    expected = plain_loss(hidden, head, top)
    (wanted,) = torch.autograd.grad(expected, hidden)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(gradient, wanted, atol=1e-5, rtol=1e-4)


def test_overlap_and_agreement_leave_out_what_the_draft_cannot_say():
    hidden, head, top = example()
    fit = match(hidden.detach(), head, top)
    for index in range(N):
        q = (head @ hidden[index].detach()).softmax(dim=-1)
        own = [
            (int(row), p)
            for row, p in zip(top.rows[index], top.probs[index], strict=True)
            if row < R
        ]
        overlap = sum(min(float(p), float(q[row])) for row, p in own)
        assert abs(float(fit.overlap[index]) - overlap) < 1e-5
        assert bool(fit.agreement[index]) == (int(q.argmax()) == int(top.rows[index, 0]))
