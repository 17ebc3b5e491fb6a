"""Choosing mesh points for landmarks, on meshes whose answer is known."""

import numpy as np
import pytest

from mofaface.facemesh_markup import best_points, distance, mirror_of


@pytest.fixture(scope="module")
def meshes():
    rng = np.random.default_rng(0)
    half = rng.uniform((0.05, -1, 0), (1, 1, 1), (239, 3))
    mean = np.concatenate((half, half * [-1, 1, 1]))
    return mean + 0.01 * rng.normal(size=(40, 478, 3))


@pytest.mark.parametrize("pattern", [(0,), (0, 1), (0, 0, 2)])
def test_the_points_of_an_annotation_are_found(meshes, pattern):
    mean = meshes.mean(0)[:, :2]
    near = np.argsort(np.linalg.norm(mean - mean[5], axis=1))
    wanted = tuple(sorted(int(near[i]) for i in pattern))
    places = meshes[:, list(wanted), :2].mean(1) + 0.001 * np.random.default_rng(1).normal(size=(40, 2))
    assert best_points(meshes, places, (100,)) == wanted


def test_a_landmarks_own_points_stay_where_others_gain_little(meshes):
    places = meshes[:, 7, :2] + 0.0005
    assert best_points(meshes, places, (7,)) == (7,)
    assert distance(meshes, (7,), places) == pytest.approx(0.0005 * np.sqrt(2))


def test_each_points_mirror_image_is_found(meshes):
    assert (mirror_of(meshes) == np.roll(np.arange(478), 239)).mean() > 0.99
