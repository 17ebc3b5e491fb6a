"""More and fewer vertices on the same surface."""

import numpy as np
import pytest
from little_face import grid_triangles, little_arrays
from scipy.spatial import cKDTree

from mofaface.face_models.importers.resample import decimate, refine, resample, subset
from mofaface.face_models.surface import Surface, closest_points, rim

NONE = np.zeros(0, np.int64)


def shell(side=25):
    arrays = little_arrays(side=side)
    return arrays.mean_shape.astype(float), arrays.triangles, arrays.landmarks_68


def edges_of(triangles):
    pairs = np.concatenate([triangles[:, [i, (i + 1) % 3]] for i in range(3)])
    return np.unique(np.sort(pairs, axis=1), axis=0, return_counts=True)


def area(positions, triangles):
    a, b, c = (positions[triangles[:, i]] for i in range(3))
    return np.cross(b - a, c - a) / 2


def test_fewer_vertices_are_vertices_of_the_mesh_and_landmarks_stay():
    positions, triangles, landmarks = shell()
    small = decimate(positions, triangles, 300, landmarks)
    new = small.operator @ positions
    assert len(new) == 300 and (small.place[landmarks] >= 0).all()
    np.testing.assert_array_equal(new[small.place[landmarks]], positions[landmarks])
    assert cKDTree(positions).query(new)[0].max() == 0


def test_fewer_vertices_keep_one_sheet_its_sides_and_its_rim():
    positions, triangles, landmarks = shell()
    small = decimate(positions, triangles, 300, landmarks)
    new = small.operator @ positions
    edges, times = edges_of(small.triangles)
    assert times.max() == 2 and 300 - len(edges) + len(small.triangles) == 1  # a disc's Euler characteristic
    assert (area(new, small.triangles)[:, 2] > 0).mean() > 0.95
    corners = [0, 24, 24 * 25, 25 * 25 - 1]
    assert (small.place[corners] >= 0).all()


def test_fewer_vertices_lie_near_the_surface_everywhere():
    positions, triangles, landmarks = shell()
    small = decimate(positions, triangles, 300, landmarks)
    off = closest_points(positions, Surface(small.operator @ positions, small.triangles))[1]
    assert off.mean() < 0.3 and off.max() < 4.0
    # The same number of vertices at random, joined to the nearest, is far worse: the test can fail.
    random = positions[np.random.default_rng(0).permutation(len(positions))[:300]]
    assert cKDTree(random).query(positions)[0].mean() > 3 * off.mean()


def test_flat_grid_loses_vertices_evenly():
    x, y = (a.ravel() for a in np.meshgrid(np.arange(21.0), np.arange(21.0)))
    positions = np.stack((x, y, 0 * x), -1)
    small = decimate(positions, grid_triangles(21), 150, NONE)
    gap = cKDTree(small.operator @ positions).query(positions)[0]
    assert gap.max() < 3.0


def test_more_vertices_keep_the_old_ones_and_lie_in_their_triangles():
    positions, triangles, _ = shell(9)
    large = refine(positions, triangles, 500)
    new = large.operator @ positions
    assert len(new) == 500
    np.testing.assert_array_equal(new[:81], positions)
    np.testing.assert_allclose(large.operator.sum(axis=1), 1, atol=1e-12)
    assert np.diff(large.operator.indptr).max() <= 3
    assert closest_points(new, Surface(positions, triangles))[1].max() < 1e-9


def test_more_vertices_cover_the_same_area_with_shorter_edges():
    positions, triangles, _ = shell(9)
    large = refine(positions, triangles, 500)
    new = large.operator @ positions
    before, after = area(positions, triangles), area(new, large.triangles)
    assert np.linalg.norm(after, axis=1).sum() == pytest.approx(np.linalg.norm(before, axis=1).sum())
    np.testing.assert_allclose(after.sum(axis=0), before.sum(axis=0), atol=1e-6)  # sides are kept
    edges, times = edges_of(large.triangles)
    assert times.max() == 2 and 500 - len(edges) + len(large.triangles) == 1
    length = np.linalg.norm(new[edges[:, 0]] - new[edges[:, 1]], axis=1)
    assert length.max() < 3.0 * length.mean()
    assert rim(Surface(new, large.triangles)).sum() > rim(Surface(positions, triangles)).sum()


def test_resample_goes_either_way_or_not_at_all():
    positions, triangles, landmarks = shell(17)
    for count, want in ((150, 150), (600, 600), (290, 289)):
        assert len(resample(positions, triangles, count, landmarks).operator @ positions) == want
    with pytest.raises(ValueError, match="at least 4 vertices, got 3"):
        resample(positions, triangles, 3, landmarks)


def test_subset_numbers_vertices_anew():
    part = subset(np.array([2, 0, 3]), np.array([[0, 2, 3]]), 4)
    assert part.triangles.tolist() == [[1, 0, 2]] and part.place.tolist() == [1, -1, 0, 2]
    np.testing.assert_array_equal(part.operator @ np.arange(4.0), [2.0, 0.0, 3.0])
