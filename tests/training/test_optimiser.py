"""Optimisers: who moves how fast."""

import pytest
import torch
from little_corpus import TINY
from little_face import LITTLE

from mofaface.encoders import build_encoder
from mofaface.training.config import PAPER, OptimiserConfig
from mofaface.training.optimiser import build_optimiser, set_rates


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
