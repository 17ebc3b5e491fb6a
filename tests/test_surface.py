"""Nearest points on meshes, against brute force and known solids."""

import numpy as np
import pytest

from mofaface.face_models.surface import (
    Surface,
    adjacency,
    closest_barycentric,
    closest_points,
    rim,
    vertex_normals,
)


def grid(side: int = 8, seed: int = 0) -> Surface:
    """A bumpy square of side² vertices, triangles counter-clockwise from +z."""
    x, y = (a.ravel().astype(float) for a in np.meshgrid(*[np.arange(side)] * 2))
    z = np.random.default_rng(seed).normal(0, 0.3, len(x))
    corner = np.arange(side**2).reshape(side, side)[:-1, :-1].ravel()
    lower = np.stack([corner, corner + 1, corner + side + 1], 1)
    upper = np.stack([corner, corner + side + 1, corner + side], 1)
    return Surface(np.stack([x, y, z], 1), np.concatenate([lower, upper]))


@pytest.fixture(scope="module")
def points():
    random = np.random.default_rng(1)
    return np.concatenate([random.uniform(0, 7, (200, 2)), random.normal(0, 1, (200, 1))], axis=1)


def test_the_nearest_point_is_nearer_than_any_of_a_dense_sample(points):
    surface = grid()
    found, distance = closest_points(points, surface)
    weights = np.random.default_rng(2).dirichlet((1, 1, 1), 400)
    dense = np.einsum("sc,fcx->fsx", weights, surface.positions[surface.triangles]).reshape(-1, 3)
    sampled = np.linalg.norm(points[:, None] - dense[None], axis=-1).min(axis=1)
    assert (distance <= sampled + 1e-9).all()
    assert (sampled - distance).mean() < 0.05
    foot = found.carry(surface.positions, surface.triangles)
    np.testing.assert_allclose(np.linalg.norm(foot - points, axis=1), distance, atol=1e-9)
    assert found.found.all()


def test_weights_are_a_share_of_the_corners(points):
    found, _ = closest_points(points, grid())
    assert (found.barycentric >= -1e-12).all()
    np.testing.assert_allclose(found.barycentric.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("p", "weights"),
    [
        ((0.25, 0.25, 5.0), (0.5, 0.25, 0.25)),  # over the inside
        ((0.5, -2.0, 0.0), (0.5, 0.5, 0.0)),  # beyond an edge
        ((-1.0, -1.0, 1.0), (1.0, 0.0, 0.0)),  # beyond a corner
    ],
)
def test_known_places_on_a_triangle(p, weights):
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_allclose(closest_barycentric(np.array([p]), corners[None])[0], weights, atol=1e-12)


def test_a_triangle_without_area_still_has_a_nearest_point():
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    weights = closest_barycentric(np.array([[1.5, 1.0, 0.0]]), corners[None])[0]
    np.testing.assert_allclose(weights @ corners, [1.5, 0, 0], atol=1e-12)


def test_normals_of_a_plane_point_up_and_its_outline_is_its_rim():
    surface = Surface(grid().positions * [1, 1, 0], grid().triangles)
    np.testing.assert_allclose(vertex_normals(surface), np.tile([0, 0, 1.0], (64, 1)))
    x, y = surface.positions[:, 0], surface.positions[:, 1]
    np.testing.assert_array_equal(rim(surface), (x % 7 == 0) | (y % 7 == 0))


def test_neighbours_are_joined_both_ways():
    neighbours = adjacency(grid())
    assert (neighbours != neighbours.T).nnz == 0
    # Of the first corner: right, up and diagonal.
    assert neighbours[0].toarray().nonzero()[-1].tolist() == [1, 8, 9]
