"""A skin for models that have none."""

from dataclasses import replace

import numpy as np
import pytest

from importers.foreign_head import open_model
from mofaface.face_models.importers import prior_reflectance as module
from mofaface.face_models.importers.prior_reflectance import (
    continued,
    even_skin,
    eyeball_pieces,
    prior_reflectance,
)
from mofaface.face_models.surface import Surface


def few_modes(count=3):
    model = open_model()
    return replace(model, reflectance_basis=model.reflectance_basis[..., :count])


def small_copy():
    """The coarse mesh of the open model, 1.1 times as large and elsewhere, as if it were another model."""
    model = open_model()
    number = np.full(len(model.mean_shape), -1)
    number[model.coarse_vertices] = np.arange(len(model.coarse_vertices))
    positions = 1.1 * model.mean_shape[model.coarse_vertices].astype(float) + [3.0, -40.0, 12.0]
    return Surface(positions, model.coarse_triangles.astype(np.int64)), number[model.landmarks_68]


@pytest.fixture(scope="module")
def copied():
    surface, landmarks = small_copy()
    fast = module.RegistrationConfig(stiffness=(40.0, 10.0), rounds=1)
    old, module.REGISTRATION = module.REGISTRATION, fast
    yield surface, landmarks, prior_reflectance(surface, landmarks, few_modes())
    module.REGISTRATION = old


def test_a_copy_of_the_open_model_gets_its_reflectance(copied):
    _, _, prior = copied
    model, rows = few_modes(), open_model().coarse_vertices
    assert prior.basis.shape == (len(rows), 3, 3) and "registration" in prior.note
    error = np.abs(prior.mean - model.mean_reflectance[rows]).max(axis=1)
    assert np.median(error) < 1e-3 and np.quantile(error, 0.95) < 0.05
    np.testing.assert_allclose(
        np.quantile(np.abs(prior.basis - model.reflectance_basis[rows]), 0.95), 0, atol=0.02
    )


def test_eyeballs_get_eyes(copied):
    surface, landmarks, prior = copied
    piece = module.pieces(surface.triangles, len(surface.positions))
    sides = eyeball_pieces(surface, piece, int(piece[landmarks[0]]), landmarks)
    assert sorted(sides.values()) == [0, 1]
    for number, side in sides.items():
        rows = piece == number
        assert (surface.positions[rows, 0].mean() > 3.0) == bool(side)
        want = open_model().mean_reflectance[open_model().coarse_vertices][rows]
        assert np.abs(prior.mean[rows] - want).mean() < 0.02


def test_values_continue_harmonically_and_linearly_on_a_plane():
    x, y = (a.ravel() for a in np.meshgrid(np.arange(9.0), np.arange(9.0)))
    corner = np.arange(81).reshape(9, 9)[:-1, :-1].ravel()
    triangles = np.concatenate(
        [np.stack((corner, corner + 1, corner + 10), -1), np.stack((corner, corner + 10, corner + 9), -1)]
    )
    truth = np.stack((2 * x - y + 1, 0.5 * y), -1)  # a linear function is harmonic
    rim = (x == 0) | (x == 8) | (y == 0) | (y == 8)
    start = np.where(rim[:, None], truth, 99.0)
    result = continued(Surface(np.stack((x, y, 0 * x), -1), triangles), start, rim)
    np.testing.assert_allclose(result, truth, atol=1e-6)


def test_a_piece_without_counterpart_takes_the_nearest_values():
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    positions = np.concatenate((square, square + [3, 0, 0]))
    triangles = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    values = np.arange(8.0)
    result = continued(Surface(positions, triangles), values, np.arange(8) < 4)
    assert result.tolist() == [0, 1, 2, 3, 1, 1, 2, 2]


def test_even_skin_has_the_open_models_colour_and_its_spread():
    surface, _ = small_copy()
    model = few_modes(10)
    prior = even_skin(surface, model, "of a test")
    skin = model.regions["skin"]
    np.testing.assert_allclose(
        prior.mean, np.broadcast_to(model.mean_reflectance[skin].mean(0), prior.mean.shape), atol=1e-6
    )
    want = np.einsum("vck,vck->", model.reflectance_basis[skin], model.reflectance_basis[skin]) / len(skin)
    got = np.einsum("vck,vck->", prior.basis, prior.basis) / len(prior.mean)
    assert got == pytest.approx(want, rel=0.15) and "of a test" in prior.note


def test_a_failed_registration_falls_back_to_even_skin(monkeypatch):
    surface, landmarks = small_copy()

    def fails(*_):
        raise ValueError("no way")

    monkeypatch.setattr(module, "registered", fails)
    prior = prior_reflectance(surface, landmarks, few_modes())
    assert "even skin" in prior.note and "no way" in prior.note and np.ptp(prior.mean, axis=0).max() == 0
