"""Similarities against their definition."""

import numpy as np

from mofaface.similarity import Similarity

SIMILARITY = Similarity(2.5, 0.7, -30.0, 12.5)
POINTS = np.random.default_rng(0).normal(size=(5, 3, 2)) * 100


def test_apply_is_scale_times_rotation_plus_shift():
    rotation = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    expected = np.einsum("ij,...j->...i", 2.5 * rotation, POINTS) + [-30.0, 12.5]
    np.testing.assert_allclose(SIMILARITY.apply(POINTS), expected, rtol=1e-13)


def test_matrix_maps_like_apply():
    homogeneous = np.concatenate([POINTS, np.ones((5, 3, 1))], axis=-1)
    np.testing.assert_allclose(homogeneous @ SIMILARITY.matrix().T, SIMILARITY.apply(POINTS), rtol=1e-13)


def test_inverse_undoes_to_the_last_digits():
    np.testing.assert_allclose(SIMILARITY.inverse().apply(SIMILARITY.apply(POINTS)), POINTS, atol=1e-12)


def test_compose_applies_the_first_first():
    first = Similarity(0.3, -1.9, 4.0, 5.0)
    expected = SIMILARITY.apply(first.apply(POINTS))
    np.testing.assert_allclose(SIMILARITY.compose(first).apply(POINTS), expected, rtol=1e-12)
