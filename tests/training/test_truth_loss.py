"""The distance from true codes, against errors that are measured otherwise."""

from dataclasses import replace

import pytest
import torch
from little_face import little_model, random_code

from mofaface.decoder import Decoder
from mofaface.evaluation.truth import posed
from mofaface.training.truth_loss import COLOUR, EVERY, PLACE, SHADING, TruthLoss
from training.little_step import Watch


@pytest.fixture
def parts():
    """A decoder, its loss and two codes of three pictures."""
    decoder = Decoder(little_model())
    layout = decoder.model.layout
    both = layout.pack(random_code(layout, batch=6))
    return decoder, TruthLoss(decoder), layout.unpack(both[:3]), layout.unpack(both[3:])


def test_the_true_code_costs_nothing(parts):
    decoder, loss, code, _ = parts
    assert loss(code, decoder.model.layout.pack(code)).abs().max() == 0


def test_only_the_place_of_the_whole_face_is_free(parts):
    decoder, loss, code, _ = parts
    pack = decoder.model.layout.pack
    assert loss(replace(code, translation=code.translation + 20), pack(code)).abs().max() < 1e-12
    for name in ("alpha", "delta", "beta", "rotation", "gamma"):
        moved = replace(code, **{name: getattr(code, name) + 0.1})
        assert loss(moved, pack(code)).min() > 1e-6, name


def test_each_part_is_the_mean_square_of_what_the_decoder_shows(parts):
    decoder, loss, code, other = parts
    model = decoder.model
    rows = model.frontal.nonzero()[::EVERY, 0]
    x, y = (posed(decoder, c)[:, rows] for c in (code, other))
    x, y = (p - p.mean(1, keepdim=True) for p in (x, y))
    place = ((x - y) ** 2).sum(-1).mean(-1)
    colour = ((model.reflectance(code.beta) - model.reflectance(other.beta))[:, rows] ** 2).mean((1, 2))
    light = ((code.gamma - other.gamma) ** 2).sum(1).mean(-1)
    expected = place / PLACE**2 + colour / COLOUR**2 + light / SHADING**2
    torch.testing.assert_close(loss(code, model.layout.pack(other)), expected)


def test_the_gradient_is_the_slope(parts):
    decoder, loss, code, other = parts
    truth, layout = decoder.model.layout.pack(other), decoder.model.layout
    x = layout.pack(code).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: loss(layout.unpack(x), truth), x)


def test_a_graph_can_hold_it(parts):
    decoder, loss, code, other = parts
    truth = decoder.model.layout.pack(other)
    with Watch():
        loss(code, truth)
