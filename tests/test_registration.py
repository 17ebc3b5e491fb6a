"""Registration: a known similarity is found, a known smooth deformation is undone."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from test_surface import grid

from mofaface.face_models.registration import RegistrationConfig, register, similarity
from mofaface.face_models.surface import Surface, closest_points

SIDE = 25
MARKS = np.array([0, SIDE - 1, SIDE * SIDE - 1, SIDE * (SIDE - 1), SIDE * SIDE // 2])


@pytest.fixture(scope="module")
def template():
    """A hill of 100 mm."""
    flat = grid(SIDE)
    x, y = (flat.positions[:, :2].T - (SIDE - 1) / 2) * 100 / (SIDE - 1)
    z = 30 * np.exp(-((x - 5) ** 2 + y**2) / 600) + 8 * np.sin(x / 12) * np.cos(y / 15)
    return Surface(np.stack([x, y, z], 1), flat.triangles)


def test_a_similarity_is_found_to_the_last_digit():
    random = np.random.default_rng(0)
    points, R = random.normal(size=(9, 3)), Rotation.from_rotvec([0.3, -0.5, 0.9]).as_matrix()
    scale, found, t = similarity(points, 1.7 * points @ R.T + [1, 2, 3])
    assert scale == pytest.approx(1.7)
    np.testing.assert_allclose(found, R, atol=1e-12)
    np.testing.assert_allclose(t, [1, 2, 3], atol=1e-12)


def test_a_mirrored_cloud_gets_a_rotation_not_a_mirror():
    points = np.random.default_rng(0).normal(size=(9, 3))
    _, R, _ = similarity(points, points * [-1, 1, 1])
    assert np.linalg.det(R) == pytest.approx(1)


def test_a_turned_scaled_and_bent_copy_is_matched_closely(template):
    x, y, z = template.positions.T
    bent = np.stack([1.1 * x, y, z + 3 * np.sin(x / 20) + 2 * np.cos(y / 25)], 1)
    R = Rotation.from_rotvec([0.2, 0.1, -0.3]).as_matrix()
    truth = 1.05 * bent @ R.T + [10, -20, 30]
    # The target is a mesh of its own: half of its vertices lie elsewhere on the same surface.
    target = Surface(truth, template.triangles[:, [1, 2, 0]])
    result = register(template, target, MARKS, MARKS)
    inside = np.abs(template.positions[:, :2]).max(axis=1) < 44
    _, distance = closest_points(result.fitted, target)
    assert distance[inside].mean() < 0.1
    assert result.correspondence.found[inside].mean() > 0.95
    # Vertices go to themselves up to sliding along the surface, which landmarks and smoothness keep small.
    before = np.linalg.norm(
        result.scale * template.positions @ result.rotation.T + result.translation - truth, axis=1
    )
    after = np.linalg.norm(result.fitted - truth, axis=1)
    assert after[inside].mean() < 0.5 * before[inside].mean()


def test_what_lies_beyond_the_target_has_no_counterpart(template):
    half = template.triangles[(template.positions[template.triangles, 0] < 10).all(axis=1)]
    marks = MARKS[[0, 3, 4]]
    config = RegistrationConfig(stiffness=(40.0, 20.0), rounds=2)
    result = register(template, Surface(template.positions, half), marks, marks, config)
    x = template.positions[:, 0]
    assert not result.correspondence.found[x > 20].any()
    assert result.correspondence.found[(x < 0) & (x > -45)].mean() > 0.9


def test_unknown_landmarks_are_left_out_and_too_few_are_refused(template):
    unknown = np.array([-1, 5, 7, -1, -1])
    with pytest.raises(ValueError, match="at least three landmarks on both meshes, got 2"):
        register(template, template, unknown, MARKS)
