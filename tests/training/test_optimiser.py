"""Optimisers: who moves how fast."""

import pytest
import torch
from little_corpus import TINY
from little_face import LITTLE

from mofaface.encoders import build_encoder
from mofaface.training.checkpoint import read_checkpoint, write_checkpoint
from mofaface.training.config import PAPER, OptimiserConfig
from mofaface.training.optimiser import DeviceAdadelta, build_optimiser, set_rates, step_where


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(TINY, LITTLE)


def test_paper_trains_with_adadelta_and_a_slow_z(encoder):
    optimiser = build_optimiser(encoder, PAPER.optimiser)
    assert isinstance(optimiser, torch.optim.Adadelta)
    for iteration in (0, 1000, 199_999):
        set_rates(optimiser, PAPER.optimiser, iteration, PAPER.iterations)
        z, *others = optimiser.param_groups
        assert z["lr"] == 0.0005 and {group["lr"] for group in others} == {0.1}
    assert {id(p) for p in z["params"]} == {id(p) for p in encoder.head.z.parameters()}
    assert sum(len(g["params"]) for g in optimiser.param_groups) == len(list(encoder.parameters()))


def test_pretrained_layers_may_have_a_rate_of_their_own(encoder):
    config = OptimiserConfig(rate=1.0, rate_z=1.0, backbone=0.25, warmup=0, cosine=False)
    optimiser = build_optimiser(encoder, config)
    set_rates(optimiser, config, 0, 10)
    rate_of = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    for name, parameter in encoder.named_parameters():
        assert rate_of[id(parameter)] == (0.25 if name.startswith("backbone.features") else 1.0)


def test_default_is_adamw(encoder):
    optimiser = build_optimiser(encoder, OptimiserConfig(weight_decay=0.25))
    assert isinstance(optimiser, torch.optim.AdamW)
    assert all(group["weight_decay"] == 0.25 for group in optimiser.param_groups)


def test_rates_rise_over_the_warmup_and_fall_along_the_cosine(encoder):
    config = OptimiserConfig(rate=2.0, rate_z=1.0, warmup=10, cosine=True)
    optimiser = build_optimiser(encoder, config)

    def rates(iteration):
        set_rates(optimiser, config, iteration, 100)
        return sorted({group["lr"] for group in optimiser.param_groups})

    assert rates(0) == pytest.approx([0.1, 0.2], rel=1e-3)
    assert rates(50) == pytest.approx([0.5, 1.0])
    assert rates(99)[1] < 0.01
    assert [rates(i)[1] for i in range(10)] == sorted(rates(i)[1] for i in range(10))


def little_weights():
    return [torch.nn.Parameter(torch.linspace(-1, 1, 24).reshape(shape)) for shape in ((2, 3, 4), (24,))]


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.01}, {"lr": 1.0, "rho": 0.9, "eps": 1e-4}])
def test_adadelta_of_a_gpu_is_torchs(settings):
    settings = {"lr": 0.1, "rho": 0.95, "eps": 1e-6} | settings
    ours, theirs = little_weights(), little_weights()
    rate = torch.tensor(settings["lr"])
    optimisers = DeviceAdadelta(ours, **(settings | {"lr": rate})), torch.optim.Adadelta(theirs, **settings)
    for k in range(20):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.sin(3 * p.detach() + k)
            q.grad = p.grad.clone()
        for optimiser in optimisers:
            optimiser.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
        states = [optimiser.state[w] for optimiser, w in zip(optimisers, (p, q), strict=True)]
        assert states[0].keys() == states[1].keys()
        for name, value in states[0].items():
            torch.testing.assert_close(value, states[1][name], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["adadelta", "adamw"])
@pytest.mark.parametrize("on_device", [True, False])
def test_step_that_should_not_happen_does_not(encoder, name, on_device):
    optimiser = build_optimiser(encoder, OptimiserConfig(name), on_device)
    before = {key: t.clone() for key, t in encoder.state_dict().items()}
    for p in encoder.parameters():
        p.grad = torch.full_like(p, float("nan"))
    step_where(optimiser, torch.tensor(False))
    assert all(torch.equal(t, before[key]) for key, t in encoder.state_dict().items())
    for values in optimiser.state.values():
        assert all((t == 0).all() for t in values.values())


@pytest.mark.parametrize("name", ["adadelta", "adamw"])
def test_rates_of_a_recorded_step_change_in_place(encoder, name):
    config = OptimiserConfig(name, rate=2.0, rate_z=1.0, warmup=10)
    optimiser = build_optimiser(encoder, config, on_device=True)
    rates = [group["lr"] for group in optimiser.param_groups]
    set_rates(optimiser, config, 50, 100)
    assert all(group["lr"] is rate for group, rate in zip(optimiser.param_groups, rates, strict=True))
    assert sorted({rate.item() for rate in rates}) == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize("name", ["adadelta", "adamw"])
@pytest.mark.parametrize("began_on_device", [True, False])
def test_a_run_goes_on_with_the_other_devices_optimiser(tmp_path, name, began_on_device):
    config = OptimiserConfig(name, rate=0.01, rate_z=0.01)
    results = []
    for other in (began_on_device, not began_on_device):
        torch.manual_seed(0)
        old, new = build_encoder(TINY, LITTLE), build_encoder(TINY, LITTLE)
        learn(old, optimiser := build_optimiser(old, config, began_on_device), range(3))
        write_checkpoint(tmp_path / "c.safetensors", {"net": old}, optimiser, {})
        optimiser = build_optimiser(new, config, other)
        read_checkpoint(tmp_path / "c.safetensors", {"net": new}, optimiser)
        learn(new, optimiser, range(3, 5))
        results.append(new)
    for p, q in zip(*(net.parameters() for net in results), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


def learn(network, optimiser, seeds):
    """Steps with gradients of these seeds."""
    for seed in seeds:
        random = torch.Generator().manual_seed(seed)
        for p in network.parameters():
            p.grad = torch.empty_like(p).copy_(torch.randn(p.shape, generator=random))
        step_where(optimiser, torch.tensor(True))


def test_adadelta_of_a_gpu_refuses_a_closure():
    with pytest.raises(ValueError, match="takes no closure"):
        DeviceAdadelta(little_weights()).step(lambda: 0.0)
