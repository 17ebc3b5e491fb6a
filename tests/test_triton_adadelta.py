"""AdaDelta in Triton against torch's own."""

import pytest
import torch

from mofaface.kernels import choose

if not choose.has_triton():
    pytest.skip("no triton is installed, or one that is too old", allow_module_level=True)

from mofaface.kernels.triton_adadelta import adadelta_step
from mofaface.kernels.triton_terms import INTERPRETED

DEVICE = "cpu" if INTERPRETED else "cuda"


def parameters() -> list[torch.Tensor]:
    """Weights of several shapes and memory orders, more and fewer than a program takes."""
    random = torch.Generator().manual_seed(0)
    shapes = ((1500,), (7, 5), (4, 3, 5, 5), ())
    weights = [torch.randn(shape, generator=random).to(DEVICE) for shape in shapes]
    return [w.to(memory_format=torch.channels_last) if w.dim() == 4 else w for w in weights]


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_steps_are_those_of_torch(decay):
    rates = (0.1, 0.1, 0.02)
    ours, theirs = parameters(), [p.clone().requires_grad_(True) for p in parameters()]
    state = [(torch.zeros_like(p), torch.zeros_like(p)) for p in ours]
    optimiser = torch.optim.Adadelta(theirs, lr=0.1, rho=0.95, eps=1e-6, weight_decay=decay)
    rate, moves = torch.zeros(1, device=DEVICE), torch.ones(1, device=DEVICE)
    for k, number in enumerate(rates):
        random = torch.Generator().manual_seed(k)
        optimiser.param_groups[0]["lr"] = number
        rate.fill_(number)
        for p, q, own in zip(ours, theirs, state, strict=True):
            q.grad = torch.empty_like(q).copy_(torch.randn(q.shape, generator=random))
            adadelta_step(p, q.grad, *own, rate, moves, 0.95, 1e-6, decay)
        optimiser.step()
    for p, q, (square, change) in zip(ours, theirs, state, strict=True):
        torch.testing.assert_close(p, q.detach(), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(square, optimiser.state[q]["square_avg"], rtol=1e-5, atol=0)
        torch.testing.assert_close(change, optimiser.state[q]["acc_delta"], rtol=1e-5, atol=0)


def test_a_step_that_does_not_move_leaves_everything_even_with_a_gradient_of_nan():
    p, square, change = torch.ones(5, device=DEVICE), *torch.full((2, 5), 0.5, device=DEVICE)
    gradient = torch.full((5,), float("nan"), device=DEVICE)
    rate, moves = torch.ones(1, device=DEVICE), torch.zeros(1, device=DEVICE)
    adadelta_step(p, gradient, square, change, rate, moves, 0.95, 1e-6)
    assert p.tolist() == [1] * 5 and square.tolist() == change.tolist() == [0.5] * 5


def test_tensors_of_another_kind_are_told():
    p, rate = torch.ones(4, 6), torch.ones(1)
    with pytest.raises(ValueError, match="laid out alike, got float32 .6, 1., float32 .1, 4."):
        adadelta_step(p, torch.ones(6, 4).mT, p.clone(), p.clone(), rate, rate, 0.95, 1e-6)
    with pytest.raises(ValueError, match="float64"):
        adadelta_step(p, p.double(), p, p, rate, rate, 0.95, 1e-6)
    gaps = [torch.ones(4, 12)[:, ::2] for _ in range(4)]
    with pytest.raises(ValueError, match="usual order"):
        adadelta_step(*gaps, rate, rate, 0.95, 1e-6)
