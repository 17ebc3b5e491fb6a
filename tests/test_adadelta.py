"""AdaDelta in one pass against torch's own."""

import copy

import pytest
import torch

from mofaface.kernels import native, native_level
from mofaface.kernels.adadelta import Adadelta

SETTINGS = {"lr": 0.1, "rho": 0.95, "eps": 1e-6}


def network(seed: int = 0) -> torch.nn.Module:
    """Weights of several shapes and memory orders."""
    torch.manual_seed(seed)
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 600))
    return layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def stepped(optimiser_type, steps: int, start=None, state=None, **settings):
    """A network after some steps of an optimiser on fixed batches, and the optimiser."""
    net = network() if start is None else copy.deepcopy(start)
    optimiser = optimiser_type(net.parameters(), **(SETTINGS | settings))
    if state is not None:
        optimiser.load_state_dict(copy.deepcopy(state))
    for k in range(steps):
        image = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(k))
        optimiser.zero_grad()
        net(image).square().mean().backward()
        optimiser.step()
    return net, optimiser


def assert_same(net, other, tolerance=1e-6):
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.01}, {"lr": 1.0, "rho": 0.9, "eps": 1e-4}])
def test_twenty_steps_are_torchs(settings):
    ours, optimiser = stepped(Adadelta, 20, **settings)
    torchs, reference = stepped(torch.optim.Adadelta, 20, foreach=False, **settings)
    start = network()
    moved = max((p - q).abs().max() for p, q in zip(ours.parameters(), start.parameters(), strict=True))
    assert moved > 1e-4
    assert_same(ours, torchs)
    for p, q in zip(ours.parameters(), torchs.parameters(), strict=True):
        assert optimiser.state[p].keys() == reference.state[q].keys()
        for name, value in optimiser.state[p].items():
            torch.testing.assert_close(value, reference.state[q][name], rtol=1e-5, atol=1e-10)


@pytest.mark.skipif(native_level() is None, reason="no compiled kernel is installed")
def test_the_kernel_is_what_steps(monkeypatch):
    def torchs_step(self, closure=None):
        raise AssertionError("torch's step ran")

    monkeypatch.setattr(torch.optim.Adadelta, "step", torchs_step)
    stepped(Adadelta, 1)


def test_a_state_goes_from_one_to_the_other_and_back():
    net, optimiser = stepped(torch.optim.Adadelta, 5)
    ours, ours_optimiser = stepped(Adadelta, 5, net, optimiser.state_dict())
    torchs, _ = stepped(torch.optim.Adadelta, 5, net, optimiser.state_dict())
    assert_same(ours, torchs)
    assert_same(
        stepped(torch.optim.Adadelta, 3, ours, ours_optimiser.state_dict())[0],
        stepped(Adadelta, 3, ours, ours_optimiser.state_dict())[0],
    )


@pytest.mark.parametrize("case", ["off", "float64", "other order", "maximize"])
def test_what_the_kernel_cannot_do_torch_does(case, monkeypatch):
    if case == "off":
        monkeypatch.setenv(native.VARIABLE, "off")
    results = []
    for kind in (Adadelta, torch.optim.Adadelta):
        p = torch.nn.Parameter(
            torch.linspace(-1, 1, 12, dtype=torch.float64 if case == "float64" else None).reshape(3, 4)
        )
        optimiser = kind([p], maximize=case == "maximize", **SETTINGS)
        p.grad = torch.ones_like(p) * torch.arange(4)
        if case == "other order":
            p.grad = p.grad.T.contiguous().T
        optimiser.step()
        results.append(p.detach())
    assert torch.equal(*results)


def test_threads_do_not_change_the_numbers():
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            p = torch.nn.Parameter(torch.linspace(-1, 1, 400_001))
            p.grad = torch.sin(100 * p.detach())
            optimiser = Adadelta([p], **SETTINGS)
            optimiser.step()
            results.append(p.detach().clone())
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_a_closure_is_called_once_and_its_loss_returned():
    p = torch.nn.Parameter(torch.ones(3))
    optimiser, calls = Adadelta([p], **SETTINGS), []

    def closure():
        calls.append(1)
        optimiser.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    p.grad = torch.zeros(3)
    assert optimiser.step(closure).item() == 3 and len(calls) == 1
    assert (p < 1).all()
