"""A network carried over to another face model of the same mesh shows the same faces."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from little_corpus import TINY
from little_face import little_arrays

from mofaface.autoencoder import Autoencoder
from mofaface.camera import Camera
from mofaface.decoder import Decoder
from mofaface.encoders import build_encoder
from mofaface.face_model import FaceModel
from mofaface.training.start import carried, carry_encoder

SHIFT = np.array([0.0, 12.0, -4.0], np.float32)


@pytest.fixture(scope="module")
def old():
    return FaceModel(little_arrays(), "old")


@pytest.fixture(scope="module")
def new():
    """The same faces told otherwise: modes mixed, and the origin elsewhere."""
    a, random = little_arrays(), np.random.default_rng(1)

    def mixed(basis):
        turn = np.linalg.qr(random.normal(size=(basis.shape[-1],) * 2))[0].astype(np.float32)
        return basis @ turn

    changed = replace(
        a,
        mean_shape=a.mean_shape + SHIFT,
        shape_basis=mixed(a.shape_basis),
        expression_basis=mixed(a.expression_basis),
        mean_reflectance=a.mean_reflectance + 0.3 * a.reflectance_basis[..., 0],
        reflectance_basis=mixed(a.reflectance_basis),
    )
    return FaceModel(changed, "new")


def trained(model):
    """A network with a last layer that is not zero, frontal as photographs mostly are."""
    torch.manual_seed(0)
    encoder = build_encoder(TINY, model.layout)
    spread = model.layout.pack(model.layout.zero(1))[0] + 0.3
    spread[model.layout.slices()["rotation"]] = 0
    with torch.no_grad():
        encoder.head.every.bias.copy_(spread * torch.randn(model.layout.size))
        encoder.head.every.weight.normal_(0, 0.02).mul_((spread != 0)[:, None])
        encoder.head.z.weight.normal_(0, 0.02)
    return Autoencoder(encoder, Decoder(model)).eval()


def test_the_carried_network_shows_the_same_faces(old, new):
    before = trained(old)
    encoder = build_encoder(TINY, new.layout)
    carry_encoder(before.encoder, old, Camera(), encoder, new)
    images = torch.rand(3, 3, 240, 240, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, was = before(images)
        _, now = Autoencoder(encoder, Decoder(new)).eval()(images)
        zero = Decoder(new)(new.layout.zero(3))
    assert (was.uv_crop - zero.uv_crop).norm(dim=-1).mean() > 2
    assert (was.uv_crop - now.uv_crop).norm(dim=-1).mean() < 0.1
    assert (was.reflectance - now.reflectance).abs().mean() < 2e-3
    torch.testing.assert_close(was.shading, now.shading, rtol=0, atol=0.02)


def test_what_the_new_model_shows_is_carried_as_ridge_regression_says(old, new):
    change = carried(old, new, Camera())
    rows, columns = new.layout.slices()["beta"], old.layout.slices()["beta"]
    E = new.reflectance_basis.flatten(0, 1).numpy()
    old_E = old.reflectance_basis.flatten(0, 1).numpy()
    # Rows that stand for the prior, so that plain least squares is the ridge regression.
    ridge = np.concatenate([E, 0.03 * np.eye(E.shape[1])])
    target = np.concatenate([old_E, np.zeros((E.shape[1], old_E.shape[1]))])
    wanted = np.linalg.lstsq(ridge, target, rcond=None)[0]
    np.testing.assert_allclose(change.matrix[rows, columns].numpy(), wanted, atol=1e-4)


def test_weights_of_the_same_model_are_kept_to_the_last_bit(old):
    before, encoder = trained(old), build_encoder(TINY, old.layout)
    carry_encoder(before.encoder, old, Camera(), encoder, old)
    for name, tensor in before.encoder.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], tensor)


def test_another_mesh_is_refused(old):
    other = FaceModel(little_arrays(side=10), "other")
    with pytest.raises(ValueError, match="of one mesh; 'little' version 0 has 81"):
        carry_encoder(trained(old).encoder, old, Camera(), build_encoder(TINY, other.layout), other)


def test_another_network_is_refused(old, new):
    encoder = build_encoder(replace(TINY, readout="average"), new.layout)
    with pytest.raises(ValueError, match="same network"):
        carry_encoder(trained(old).encoder, old, Camera(), encoder, new)
