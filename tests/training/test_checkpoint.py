"""Checkpoints: everything comes back, and another run's checkpoint is refused."""

import pytest
import torch
from torch import nn

from mofaface.encoders import WeightsError
from mofaface.kernels.adadelta import Adadelta
from mofaface.training.checkpoint import read_checkpoint, write_checkpoint


def network(width=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


def learn(module, optimiser, steps=3):
    for step in range(steps):
        torch.manual_seed(step)
        optimiser.zero_grad()
        module(torch.rand(5, 3)).square().sum().backward()
        optimiser.step()


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adadelta])
def test_state_of_network_and_optimiser_comes_back_exactly(tmp_path, kind):
    path = tmp_path / "c.safetensors"
    old = network()
    optimiser = kind(old.parameters(), lr=0.1)
    learn(old, optimiser)
    write_checkpoint(path, {"net": old}, optimiser, {"iteration": 3, "config": {"a": [1, None]}})
    new = network()
    other = kind(new.parameters(), lr=0.1)
    assert read_checkpoint(path, {"net": new}, other) == {"iteration": 3, "config": {"a": [1, None]}}
    for module, stepper in ((old, optimiser), (new, other)):
        learn(module, stepper)
    assert all(
        torch.equal(a, b) for a, b in zip(old.state_dict().values(), new.state_dict().values(), strict=True)
    )


def test_modules_that_share_tensors_can_be_written(tmp_path):
    module = network()
    optimiser = torch.optim.AdamW(module.parameters())
    write_checkpoint(tmp_path / "c.safetensors", {"a": module, "b": module}, optimiser, {})
    assert read_checkpoint(tmp_path / "c.safetensors", {"a": network(), "b": network()}, optimiser) == {}


def test_checkpoint_of_another_configuration_is_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    old = network()
    optimiser = torch.optim.AdamW(old.parameters())
    learn(old, optimiser)
    write_checkpoint(path, {"net": old}, optimiser, {})
    wide = network(5)
    with pytest.raises(WeightsError, match="belongs to a run with another configuration"):
        read_checkpoint(path, {"net": wide}, torch.optim.AdamW(wide.parameters()))


def test_missing_and_damaged_checkpoint_are_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    module = network()
    optimiser = torch.optim.AdamW(module.parameters())
    with pytest.raises(WeightsError, match="there is no file"):
        read_checkpoint(path, {"net": module}, optimiser)
    write_checkpoint(path, {"net": module}, optimiser, {})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsError, match="damaged"):
        read_checkpoint(path, {"net": module}, optimiser)


def test_adadelta_goes_on_exactly_where_channels_are_last(tmp_path):
    def convolution():
        torch.manual_seed(0)
        return nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)

    def learn_on_pictures(module, optimiser, first, last):
        for step in range(first, last):
            torch.manual_seed(step)
            optimiser.zero_grad()
            module(torch.rand(2, 3, 8, 8)).square().mean().backward()
            optimiser.step()

    whole, old, new = convolution(), convolution(), convolution()
    learn_on_pictures(whole, Adadelta(whole.parameters(), lr=0.1), 0, 6)
    optimiser = Adadelta(old.parameters(), lr=0.1)
    learn_on_pictures(old, optimiser, 0, 4)
    write_checkpoint(tmp_path / "c.safetensors", {"net": old}, optimiser, {})
    other = Adadelta(new.parameters(), lr=0.1)
    read_checkpoint(tmp_path / "c.safetensors", {"net": new}, other)
    assert other.state[new.weight]["square_avg"].stride() == new.weight.stride()
    learn_on_pictures(new, other, 4, 6)
    assert torch.equal(new.weight, whole.weight) and torch.equal(new.bias, whole.bias)
