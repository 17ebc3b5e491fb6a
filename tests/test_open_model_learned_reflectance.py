"""Learning reflectance: known components come back from faces with holes, light is divided out, tones count alike."""

from dataclasses import replace

import numpy as np
import pytest
from little_face import little_arrays

from mofaface.face_models.open_model.learned_reflectance import (
    LearningConfig,
    Observations,
    Statistics,
    expectation_maximisation,
    extend,
    learn_reflectance,
    outlier_weights,
    posterior,
    tone_weights,
    without_span,
)
from mofaface.face_models.open_model.modes import COLOUR_MIRROR, principal_modes
from mofaface.face_models.open_model.portraits import Sighting
from mofaface.face_models.open_model.unlit import harmonic_rows
from mofaface.face_models.surface import Surface, vertex_normals

LITTLE = little_arrays(21)
N = len(LITTLE.mean_shape)
NORMALS = vertex_normals(Surface(LITTLE.mean_shape.astype(float), LITTLE.triangles))
CAMERA_NORMALS = NORMALS * [1, -1, -1]
CONFIG = LearningConfig(modes=6, components=3, iterations=12)


@pytest.fixture(scope="module")
def truth():
    """Mean and three symmetric components of smooth colour."""
    x, y, z = (LITTLE.mean_shape / 60).T.astype(float)
    mean = np.stack([0.6 + 0.05 * np.cos(3 * y), 0.45 + 0.03 * np.cos(4 * y), 0.35 + 0 * y], 1)
    tone = np.stack([np.ones(N), np.ones(N), np.ones(N)], 1) * 0.08
    lips = 0.05 * np.exp(-((x**2 + (y + 0.5) ** 2) / 0.1))[:, None] * [1, -0.5, 0]
    brows = -0.06 * np.exp(-((np.abs(x) - 0.5) ** 2 + (y - 0.6) ** 2) / 0.1)[:, None] * [1, 1, 1]
    return mean, np.stack([tone, lips, brows], -1)


def people(truth, count=60, seed=0, noise=0.004):
    mean, W = truth
    random = np.random.default_rng(seed)
    z = random.standard_normal((count, 3))
    values = mean + np.einsum("vck,pk->pvc", W, z) + noise * random.standard_normal((count, N, 3))
    return values.astype(np.float32), (random.random((count, N)) < 0.7).astype(np.float32), z


def test_components_come_back_from_faces_with_holes(truth):
    values, weights, _ = people(truth, 80)
    mean, W = truth
    random = np.random.default_rng(5)
    start = Statistics(
        np.full((N, 3), 0.5, np.float32), (0.05 * random.standard_normal((N, 3, 3))).astype(np.float32), 0.01
    )
    found = expectation_maximisation(
        Observations(values, weights), np.ones(80), LITTLE.mirror, start, replace(CONFIG, iterations=40)
    )
    # The mean is right but for the components themselves, whose own mean over eighty people is not zero.
    gap = (found.mean - mean).ravel()
    gap = gap - W.reshape(-1, 3) @ np.linalg.lstsq(W.reshape(-1, 3), gap, rcond=None)[0]
    assert np.abs(gap).mean() < 0.003
    # The spans agree: what is left of each true component outside the found ones is small.
    A, B = found.W.reshape(-1, 3).astype(float), W.reshape(-1, 3)
    left = B - A @ np.linalg.lstsq(A, B, rcond=None)[0]
    assert (np.linalg.norm(left, axis=0) / np.linalg.norm(B, axis=0)).max() < 0.15
    assert 0.003 < found.variance**0.5 < 0.007


def test_posterior_is_that_of_gaussian_conditioning(truth):
    mean, W = truth
    small = Statistics(mean[::5].astype(np.float32), W[::5].astype(np.float32), 0.01)
    values, _, _ = people(truth, 1)
    n = len(small.mean)
    z, covariance = posterior(values[0, ::5], np.ones(n, np.float32), small)
    rows = np.arange(0, n, 3)
    A = W[::5][rows].reshape(-1, 3)
    joint = A @ A.T + 0.01 * np.eye(len(A))
    gain = A.T @ np.linalg.inv(joint)
    np.testing.assert_allclose(z, gain @ (values[0, ::5] - mean[::5])[rows].ravel(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(covariance, np.eye(3) - gain @ A, rtol=1e-3, atol=1e-4)


def test_rare_skin_tones_count_as_much_as_common_ones():
    light, dark = np.array([0.93, 0.78, 0.7]), np.array([0.3, 0.2, 0.15])
    value = np.stack([np.tile(light, (20, 1))] * 6 + [np.tile(dark, (20, 1))] * 2).astype(np.float32)
    weights = tone_weights(value, np.ones((8, 20), np.float32), CONFIG)
    assert weights[:6].sum() == pytest.approx(weights[6:].sum())
    assert weights.mean() == pytest.approx(1)


def test_extension_keeps_what_is_seen_and_goes_on_smoothly():
    seen = (LITTLE.mean_shape[:, 1] < 30).astype(float)
    field = np.tile([[0.3, -0.1]], (N, 1))
    out = extend(field * seen[:, None], seen, LITTLE.mean_shape.astype(float), LITTLE.triangles)
    np.testing.assert_allclose(out, field, atol=0.02)


def test_what_a_span_shows_is_taken_out():
    random = np.random.default_rng(0)
    span = random.normal(size=(3, N, 3))
    inside = np.tensordot(random.normal(size=(2, 3)), span, axes=1)
    np.testing.assert_allclose(without_span(inside, span, np.ones(N)), 0, atol=1e-4)


def test_the_whole_way_gives_modes_with_parity_and_says_what_is_data(truth):
    values, weights, _ = people(truth, 40)
    light = np.array([0.9, 0.1, 0, 0, 0, 0, 0, 0, 0])
    shading = harmonic_rows(CAMERA_NORMALS) @ light
    seen = [
        Sighting(str(i), np.clip(v * shading[:, None], 0, 1), CAMERA_NORMALS, w)
        for i, (v, w) in enumerate(zip(values, weights, strict=True))
    ]
    mean = truth[0]
    random = np.random.default_rng(3).normal(size=(30, N, 3)) * 0.02
    painted = principal_modes(random, None, LITTLE.mirror, COLOUR_MIRROR, 5)
    bare = np.zeros(N, bool)
    learned = learn_reflectance(
        seen, mean, painted, LITTLE.mean_shape.astype(float), LITTLE.triangles, LITTLE.mirror, bare, CONFIG
    )
    basis = learned.modes.basis
    assert basis.shape == (N, 3, 6)
    mirrored = basis[LITTLE.mirror]
    np.testing.assert_allclose(mirrored, basis * learned.modes.parity, atol=1e-6)
    flat = basis.reshape(-1, 6)
    np.testing.assert_allclose(flat.T @ flat, np.diag(learned.modes.sigma**2), atol=1e-5)
    assert ((learned.data_share > -1e-9) & (learned.data_share < 1 + 1e-9)).all()
    assert learned.data_share[0] > 0.8
    assert np.abs(learned.mean - mean).mean() < 0.06


def test_odd_vertices_lose_their_weight_and_skin_keeps_it():
    skin = np.tile([0.7, 0.5, 0.4], (1, 30, 1)).astype(np.float32)
    value = skin.copy()
    value[0, 25:] = [0.15, 0.1, 0.08]
    robust = outlier_weights(value, skin, np.ones((1, 30), np.float32), 0.04)
    assert (robust[0, :25] > 0.95).all() and (robust[0, 25:] < 0.05).all()
