"""Photographs without their light: made shading, casts and hair come back out."""

import numpy as np
import pytest
from little_face import little_arrays

from mofaface.face_models.open_model.learned_reflectance import LearningConfig
from mofaface.face_models.open_model.unlit import balanced, fit_light, harmonic_rows, like_skin
from mofaface.face_models.surface import Surface, vertex_normals

LITTLE = little_arrays(21)
N = len(LITTLE.mean_shape)
CAMERA_NORMALS = vertex_normals(Surface(LITTLE.mean_shape.astype(float), LITTLE.triangles)) * [1, -1, -1]
CONFIG = LearningConfig()
Y = LITTLE.mean_shape[:, 1] / 60
MEAN = np.stack([0.6 + 0.05 * np.cos(3 * Y), 0.45 + 0.03 * np.cos(4 * Y), np.full(N, 0.35)], axis=1)


def test_light_is_found_up_to_its_strength_which_is_fixed():
    true = harmonic_rows(CAMERA_NORMALS) @ np.array([0.8, 0.3, -0.2, -0.3, 0, 0.05, 0, 0, 0.02])
    colour = (MEAN * true[:, None] * 1.3).astype(np.float32)
    weight = np.ones(N, np.float32)
    weight[CAMERA_NORMALS[:, 2] > -0.3] = 0
    found = fit_light(colour, CAMERA_NORMALS, weight, MEAN, CONFIG.exposure, 1e-4)
    assert np.average(found, weights=weight) == pytest.approx(CONFIG.exposure, abs=1e-3)
    seen = weight > 0
    ratio = found[seen] / true[seen]
    assert ratio.std() / ratio.mean() < 0.02


def test_hair_on_a_quarter_of_the_face_does_not_bend_the_light():
    colour, weight = (MEAN * 0.9).astype(np.float32), np.ones(N, np.float32)
    colour[LITTLE.mean_shape[:, 1] > 55] = 0.05
    found = fit_light(colour, CAMERA_NORMALS, weight, MEAN, CONFIG.exposure, CONFIG.light_ridge)
    seen = LITTLE.mean_shape[:, 1] < 40
    assert found[seen].std() / found[seen].mean() < 0.12


def test_colour_casts_go_and_skin_tones_stay():
    random = np.random.default_rng(0)
    tones = np.exp(np.outer(random.normal(0, 0.4, 40), [0.5, 0.7, 0.8]) + np.log([0.6, 0.45, 0.35]))
    casts = np.exp(random.normal(0, 0.08, (40, 1)) * [-1.0, 0, 1.0])
    colour = np.repeat((tones * casts)[:, None], 10, axis=1).astype(np.float32)
    result = balanced(colour, np.ones((40, 10), np.float32), 1.0)[:, 0]
    error = np.log(result) - np.log(tones)
    error = np.abs(error - np.median(error, axis=0))  # a cast common to all photos cannot be seen
    assert error.mean() < 0.5 * np.abs(np.log(casts)).mean()
    np.testing.assert_allclose(balanced(colour, np.ones((40, 10), np.float32), 0.0), colour)


def test_hair_loses_its_weight_and_skin_keeps_it():
    skin, hair = np.array([0.7, 0.5, 0.4]), np.array([0.15, 0.1, 0.08])
    value = np.tile(skin, (1, 30, 1)).astype(np.float32)
    value[0, 25:] = hair
    bare = np.arange(30) >= 20
    weight = like_skin(value, np.ones((1, 30), np.float32), bare)
    assert (weight[0, :5] > 0.95).all() and (weight[0, 5:] < 0.01).all()
