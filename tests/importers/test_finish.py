"""From a raw model to a face model, every code's face kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from importers.foreign_head import CENTRE, foreign_head, open_model
from mofaface.face_model import FaceModel
from mofaface.face_models.container import read_face_model, write_face_model
from mofaface.face_models.importers.finish import (
    FinishConfig,
    centred,
    finish,
    is_principal,
    regions,
    remeshed,
    strongest,
    with_landmarks,
)
from mofaface.face_models.importers.prior_reflectance import Prior
from mofaface.face_models.importers.resample import resample

WITH_COLOUR = (6, 4, 3)
COARSE = "mofaface.face_models.importers.finish.COARSE"


@pytest.fixture(autouse=True)
def nearly_full_coarse_mesh(monkeypatch):
    """The coarse mesh takes most of the time; only the test of it makes a small one."""
    monkeypatch.setattr(COARSE, 0.98)


def principal_head(modes=WITH_COLOUR):
    """The foreign head with orthogonal modes that fall in size, as a file of principal components has."""
    raw = foreign_head(modes)
    parts = {}
    for name in ("shape_basis", "expression_basis", "reflectance_basis"):
        basis = getattr(raw, name)
        parts[name] = strongest(np.concatenate((basis, 0 * basis[..., :1]), -1), basis.shape[-1])[0]
    return replace(raw, **parts)


def face_of(raw, alpha, delta):
    return raw.mean_shape + raw.shape_basis @ alpha + raw.expression_basis @ delta


def test_without_crop_and_resampling_every_face_is_the_files_but_for_the_origin():
    raw = foreign_head(WITH_COLOUR)
    a = finish(raw, open_model(), FinishConfig(crop=False))
    alpha, delta = np.random.default_rng(0).standard_normal((2, 6))[:, :6]
    want = face_of(raw, alpha, delta[:4])
    got = a.mean_shape + a.shape_basis @ alpha + a.expression_basis @ delta[:4]
    shift = (want - got).mean(axis=0)
    np.testing.assert_allclose(got + shift, want, atol=1e-3)
    np.testing.assert_array_equal(a.triangles, raw.triangles)
    assert (
        a.shape_basis.shape[-1],
        a.expression_basis.shape[-1],
        a.reflectance_basis.shape[-1],
    ) == WITH_COLOUR
    assert (a.name, a.licence, a.unit_names) == ("foreign", "ask its owner", ("one", "two"))


def test_crop_and_resampling_keep_the_landmarks_of_every_face_exactly():
    raw = foreign_head(WITH_COLOUR)
    a = finish(raw, open_model(), FinishConfig(vertices=1500))
    assert abs(len(a.mean_shape) - 1500) < 40
    alpha, delta = np.random.default_rng(1).standard_normal(6), np.random.default_rng(2).standard_normal(4)
    want = face_of(raw, alpha, delta)[raw.landmarks_68]
    got = (a.mean_shape + a.shape_basis @ alpha + a.expression_basis @ delta)[a.landmarks_68]
    np.testing.assert_allclose(got - got[0], want - want[0], atol=2e-3)


def test_result_is_a_model_that_is_written_read_and_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr(COARSE, 0.35)
    a = finish(
        foreign_head((100, 53, 2)), open_model(), FinishConfig(vertices=1500, name="mine", licence="paid")
    )
    write_face_model(tmp_path / "m.safetensors", a)
    model = read_face_model(tmp_path / "m.safetensors")
    assert (model.name, model.licence, model.layout.size) == ("mine", "paid", 100 + 53 + 2 + 33)
    coarse = model.coarse()
    assert 0.3 < coarse.vertices / model.vertices < 0.4
    torch.testing.assert_close(coarse.mean_shape[coarse.landmarks_68], model.mean_shape[model.landmarks_68])
    assert model.frontal.float().mean() > 0.3 and isinstance(coarse, FaceModel)


def test_zero_code_lies_in_the_middle_of_the_crop():
    a = finish(foreign_head(WITH_COLOUR), open_model())
    marks = a.mean_shape[a.landmarks_68]
    middle = 0.5 * (marks.min(axis=0) + marks.max(axis=0))
    assert np.abs(middle[:2]).max() < 1e-3 and abs(a.mean_shape[:, 2].mean()) < 1e-3
    assert np.abs(foreign_head().mean_shape).max() > 1000 > np.abs(a.mean_shape).max()


def test_principal_modes_are_cut_and_others_are_computed_anew():
    raw = principal_head()
    assert is_principal(raw.shape_basis) and not is_principal(foreign_head().shape_basis)
    a = finish(raw, open_model(), FinishConfig(crop=False, shape_modes=3))
    np.testing.assert_allclose(a.shape_basis, raw.shape_basis[..., :3], atol=1e-5)
    b = finish(foreign_head(WITH_COLOUR), open_model(), FinishConfig(crop=False, shape_modes=3))
    flat = b.shape_basis.reshape(-1, 3).astype(float)
    gram = flat.T @ flat
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-3 * gram.max())


def test_strongest_modes_hold_the_most_variance_and_turn_coefficients_rightly():
    basis = np.random.default_rng(3).normal(size=(40, 3, 6)) * [1, 5, 2, 3, 1, 4]
    kept, turn = strongest(basis, 4)
    singular = np.linalg.svd(basis.reshape(120, 6), compute_uv=False)
    assert (kept**2).sum() == pytest.approx((singular[:4] ** 2).sum())
    np.testing.assert_allclose(turn.T @ turn, np.eye(4), atol=1e-12)
    c = turn @ np.random.default_rng(4).normal(size=4)  # coefficients that need no lost mode
    np.testing.assert_allclose(kept @ (turn.T @ c), basis @ c, atol=1e-9)
    assert strongest(basis, 6) == (basis, None) or strongest(basis, 6)[1] is None


def test_named_units_follow_their_modes():
    raw = foreign_head(WITH_COLOUR)
    a = finish(raw, open_model(), FinishConfig(crop=False, expression_modes=3))
    assert a.units_expression.shape == (2, 3)
    truth = np.moveaxis(raw.expression_basis[..., :2], -1, 0)
    error = np.einsum("vck,uk->uvc", a.expression_basis, a.units_expression) - truth
    assert np.sqrt((error**2).mean() / (truth**2).mean()) < 0.6  # three of four modes
    whole = finish(raw, open_model(), FinishConfig(crop=False))
    np.testing.assert_allclose(
        np.einsum("vck,uk->uvc", whole.expression_basis, whole.units_expression), truth, atol=1e-5
    )


def test_means_bases_and_uv_go_through_one_matrix():
    raw = foreign_head(WITH_COLOUR)
    new = remeshed(raw, resample(raw.mean_shape, raw.triangles, 9000, raw.landmarks_68))
    alpha, delta = np.ones(6), np.full(4, 0.5)
    want = resample(raw.mean_shape, raw.triangles, 9000, raw.landmarks_68).operator @ face_of(
        raw, alpha, delta
    )
    np.testing.assert_allclose(face_of(new, alpha, delta), want, atol=1e-9)
    assert new.uv.shape == (9000, 2) and new.mean_reflectance.shape == (9000, 3)


def test_given_landmarks_win_over_the_files():
    raw = foreign_head()
    other = np.roll(raw.landmarks_68, 1)
    assert (with_landmarks(raw, other, open_model()).landmarks_68 == other).all()
    assert with_landmarks(raw, None, open_model()) is raw


def test_a_model_without_reflectance_gets_the_prior(monkeypatch):
    def prior(surface, landmarks, model):
        n = len(surface.positions)
        return Prior(np.full((n, 3), 0.4), np.ones((n, 3, 5)), "Reflectance: a test's.")

    monkeypatch.setattr("mofaface.face_models.importers.finish.prior_reflectance", prior)
    a = finish(foreign_head(), open_model(), FinishConfig(reflectance_modes=4))
    assert a.reflectance_basis.shape[-1] == 4 and (a.mean_reflectance == np.float32(0.4)).all()
    assert "a test's" in a.notes


def test_origin_moves_and_nothing_else():
    raw = foreign_head()
    moved = centred(raw)
    shift = raw.mean_shape - moved.mean_shape
    np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=1e-9)
    assert abs(shift[0, 0] - CENTRE[0]) < 5


def test_regions_are_what_photographs_show_and_the_skin():
    a = finish(foreign_head(WITH_COLOUR), open_model(), FinishConfig(vertices=1500))
    named = regions(a.mean_shape.astype(float), a.triangles, a.landmarks_68)
    assert set(named) == {"frontal", "skin"} and len(named["skin"]) < len(a.mean_shape)
    assert np.isin(a.landmarks_68, named["skin"]).all()
