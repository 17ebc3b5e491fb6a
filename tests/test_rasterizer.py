"""The rasteriser against linear systems solved by NumPy, exact counting, and its plain twin."""

import inspect
import time

import jaxtyping
import numpy as np
import pytest
import torch

from mofaface.rasterizer import covered_box, rasterize, render
from mofaface.rasterizer_plain import rasterize_plain

TOP_LEFT_CORNER = np.array([[0, 2, 1]])  # of (0,0) (1,0) (0,1): counter-clockwise as seen, v goes down


def dome(side: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A face-like height field of side² vertices seen by a pinhole: uv, depth, triangles."""
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side)), -1).reshape(-1, 2)
    turned = np.cos(4.0 * grid[:, :1]) * 25.0 + 60.0 * (1.0 - (grid**2).sum(1, keepdims=True) / 2.0)
    x_camera = np.concatenate([grid * [80.0, -110.0], 1000.0 - turned], axis=1)
    i = np.arange(side * side).reshape(side, side)
    a, b, c, d = (corner.ravel() for corner in (i[:-1, :-1], i[:-1, 1:], i[1:, 1:], i[1:, :-1]))
    uv = (x_camera[:, :2] / x_camera[:, 2:] * 1000.0 + 120.0) * size / 240.0
    return uv, x_camera[:, 2], np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def soup(count: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random overlapping triangles, partly outside the picture."""
    random = np.random.default_rng(seed)
    centres = random.uniform(-0.1 * size, 1.1 * size, (count, 1, 2))
    uv = (centres + random.normal(0.0, 0.1 * size, (count, 3, 2))).reshape(-1, 2)
    return uv, random.uniform(300.0, 2000.0, 3 * count), np.arange(3 * count).reshape(-1, 3)


def count_cover(uv: np.ndarray, triangles: np.ndarray, height: int, width: int) -> np.ndarray:
    """How often each pixel is covered when the triangles are drawn one by one."""
    depth = np.ones(len(uv))
    seen = [rasterize(uv, depth, t[None], height, width, cull_back=False) for t in triangles]
    return np.sum([alone.triangle_index >= 0 for alone in seen], axis=0)


def test_pixel_centres_are_at_one_half() -> None:
    uv = np.array([[0.4, 0.4], [0.6, 0.4], [0.4, 0.7]])
    covered = rasterize(uv, np.ones(3), TOP_LEFT_CORNER, 2, 2).triangle_index
    assert covered.tolist() == [[0, -1], [-1, -1]]


def test_an_edge_through_pixel_centres_belongs_to_the_top_and_left_triangle_borders() -> None:
    uv = np.array([[0.5, 0.5], [3.5, 0.5], [3.5, 3.5], [0.5, 3.5]])
    cover = count_cover(uv, np.array([[0, 1, 2], [0, 2, 3]]), 5, 5)
    expected = np.zeros((5, 5), dtype=int)
    expected[0:3, 0:3] = 1
    assert (cover == expected).all()


@pytest.mark.parametrize("centre", [(10.5, 10.5), (10.0, 10.5), (9.77, 11.31)])
def test_a_fan_of_triangles_covers_each_pixel_exactly_once(centre: tuple[float, float]) -> None:
    angle = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    rim = np.round(10.5 + 9.0 * np.stack([np.cos(angle), np.sin(angle)], 1))  # corners, edges through centres
    uv = np.concatenate([[centre], rim + (0.5, 0.5)])
    fan = np.array([[0, 1 + i, 1 + (i + 1) % 24] for i in range(24)])
    cover = count_cover(uv, fan, 22, 22)
    assert set(np.unique(cover)) == {0, 1}
    assert (cover[8:14, 8:14] == 1).all()


def test_random_meshes_cover_each_pixel_exactly_once() -> None:
    random = np.random.default_rng(1)
    grid = np.stack(np.meshgrid(np.arange(6), np.arange(6)), -1).reshape(-1, 2) * 4.0
    inner = ((grid > 0) & (grid < 20)).all(1, keepdims=True)
    i = np.arange(36).reshape(6, 6)
    a, b, c, d = (corner.ravel() for corner in (i[:-1, :-1], i[:-1, 1:], i[1:, 1:], i[1:, :-1]))
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    for step in (0.5, 0.25, 1e-3):
        jitter = np.round(random.uniform(-1.0, 1.0, grid.shape) / step) * step
        assert (count_cover(grid + jitter * inner, triangles, 20, 20) == 1).all()


def test_barycentric_coordinates_solve_the_perspective_equations() -> None:
    uv, depth, triangles = soup(40, 64)
    seen = rasterize(uv, depth, triangles, 64, 64, cull_back=False)
    rows, columns = np.nonzero(seen.triangle_index >= 0)
    picked = np.random.default_rng(2).choice(len(rows), 200, replace=False)
    for v, u in zip(rows[picked], columns[picked], strict=True):
        corners = triangles[seen.triangle_index[v, u]]
        # The point in space lies on the pixel's ray and is a combination of the corners (u, v, 1) * depth.
        rays = np.concatenate([uv[corners], np.ones((3, 1))], axis=1) * depth[corners, None]
        weights = np.linalg.solve(rays.T, np.array([u + 0.5, v + 0.5, 1.0]))
        np.testing.assert_allclose(seen.barycentric[v, u], weights / weights.sum(), atol=2e-4)
        np.testing.assert_allclose(seen.depth[v, u], 1.0 / weights.sum(), rtol=2e-4)


def test_the_nearest_triangle_wins_whatever_the_order() -> None:
    uv, depth, triangles = soup(60, 48, seed=3)
    a = rasterize(uv, depth, triangles, 48, 48, cull_back=False)
    b = rasterize(uv, depth, triangles[::-1].copy(), 48, 48, cull_back=False)
    assert (a.depth == b.depth).all()
    seen = a.triangle_index >= 0
    assert (a.triangle_index[seen] == len(triangles) - 1 - b.triangle_index[seen]).all()
    alone = [rasterize(uv, depth, t[None], 48, 48, cull_back=False).depth for t in triangles]
    assert (a.depth == np.min(alone, axis=0)).all()


@pytest.mark.parametrize("cull_back", [True, False])
@pytest.mark.parametrize("mesh", [dome(60, 150), soup(200, 150)], ids=["dome", "soup"])
def test_the_plain_twin_agrees(mesh: tuple[np.ndarray, np.ndarray, np.ndarray], cull_back: bool) -> None:
    fast = rasterize(*mesh, 150, 140, cull_back)
    plain = rasterize_plain(*(torch.from_numpy(part) for part in mesh), 150, 140, cull_back)
    same = fast.triangle_index == plain.triangle_index.numpy()
    assert same.mean() > 0.999
    assert (fast.triangle_index >= 0).mean() > 0.3
    np.testing.assert_allclose(fast.depth[same], plain.depth.numpy()[same], rtol=1e-6)
    np.testing.assert_allclose(fast.barycentric[same], plain.barycentric.numpy()[same], atol=1e-6)


def test_back_faces_are_left_out_unless_asked_for() -> None:
    uv = np.array([[1.0, 1.0], [9.0, 1.0], [1.0, 9.0]])
    back = TOP_LEFT_CORNER[:, ::-1].copy()
    assert (rasterize(uv, np.ones(3), back, 10, 10).triangle_index == -1).all()
    seen = rasterize(uv, np.ones(3), back, 10, 10, cull_back=False)
    front = rasterize(uv, np.ones(3), TOP_LEFT_CORNER, 10, 10)
    assert (seen.triangle_index == front.triangle_index).all()
    np.testing.assert_allclose(seen.barycentric, front.barycentric[..., ::-1], atol=1e-7)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_a_triangle_with_an_unusable_vertex_is_left_out_and_the_others_stay(bad: float) -> None:
    uv, depth, triangles = dome(8, 32)
    for spoil_depth in (True, False):
        broken_uv, broken_depth = uv.copy(), depth.copy()
        if spoil_depth:
            broken_depth[20] = bad if not np.isfinite(bad) or bad < 0 else -5.0
        else:
            broken_uv[20, 1] = bad
        seen = rasterize(broken_uv, broken_depth, triangles, 32, 32)
        kept = triangles[~(triangles == 20).any(1)]
        expected = rasterize(uv, depth, kept, 32, 32)
        assert (seen.depth == expected.depth).all()


def test_huge_triangles_are_clipped_to_the_picture() -> None:
    uv = np.array([[-1e8, -1e8], [3e8, -1e8], [-1e8, 3e8]])
    seen = rasterize(uv, np.full(3, 7.0), TOP_LEFT_CORNER, 12, 9)
    assert (seen.triangle_index == 0).all()
    np.testing.assert_allclose(seen.depth, 7.0, rtol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(0, 0), (1, 1), (5, 3)])
def test_an_empty_mesh_gives_an_empty_picture_of_any_size(height: int, width: int) -> None:
    empty = (np.zeros((0, 2)), np.zeros(0), np.zeros((0, 3), dtype=np.int64))
    assert (rasterize(*empty, height, width).triangle_index == -1).all()
    assert np.isinf(rasterize(*empty, height, width).depth).all()
    assert (render(*empty, np.zeros((0, 3)), height, width, 2) == 0.0).all()
    plain = rasterize_plain(*(torch.from_numpy(part) for part in empty), height, width)
    assert (plain.triangle_index == -1).all()


def test_triangles_that_name_no_vertex_are_refused() -> None:
    with pytest.raises(ValueError, match="counts from 1"):
        rasterize(np.zeros((3, 2)), np.ones(3), np.array([[1, 2, 3]]), 4, 4)


@pytest.mark.parametrize(("depths", "colours"), [(2, 3), (3, 2)])
def test_arrays_of_different_lengths_are_refused(depths: int, colours: int) -> None:
    # The compiled kernels would read beyond the end; users run without the type checks of these tests.
    unchecked = inspect.unwrap(render)
    with pytest.raises((ValueError, jaxtyping.TypeCheckError)):
        unchecked(np.zeros((3, 2)), np.ones(depths), TOP_LEFT_CORNER, np.ones((colours, 3)), 4, 4)


def test_alpha_is_the_covered_part_of_a_pixel() -> None:
    uv = np.array([[1.0, 1.0], [3.25, 1.0], [3.25, 3.5], [1.0, 3.5]])
    quad = np.array([[0, 2, 1], [0, 3, 2]])
    picture = render(uv, np.ones(4), quad, np.full((4, 3), 0.5), 5, 5, supersample=4)
    expected = np.outer([0.0, 1.0, 1.0, 0.5, 0.0], [0.0, 1.0, 1.0, 0.25, 0.0])
    np.testing.assert_allclose(picture[..., 3], expected)
    np.testing.assert_allclose(picture[..., :3][expected > 0], 0.5, atol=1e-6)


def test_rendered_colours_are_interpolated_in_space_not_on_the_screen() -> None:
    uv, depth = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]]), np.array([1.0, 3.0, 1.0])
    picture = render(uv, depth, TOP_LEFT_CORNER, np.eye(3), 8, 8)
    screen = np.array([1 - 4.5 / 8 - 1.5 / 8, 4.5 / 8, 1.5 / 8])
    np.testing.assert_allclose(picture[1, 4, :3], screen / depth / (screen / depth).sum(), atol=1e-5)


def test_bands_of_a_large_picture_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    uv, depth, triangles = dome(12, 40)
    colours = np.random.default_rng(4).uniform(size=(len(uv), 3))
    whole = render(uv, depth, triangles, colours, 40, 40, supersample=2)
    monkeypatch.setattr("mofaface.rasterizer.SAMPLES_AT_ONCE", 300)
    np.testing.assert_allclose(render(uv, depth, triangles, colours, 40, 40, supersample=2), whole, atol=1e-5)


def test_covered_box_holds_every_covered_pixel() -> None:
    uv, depth, triangles = dome(12, 40)
    uv = uv + (15.3, -4.2)
    x0, y0, x1, y1 = covered_box(uv, depth, 40, 40)
    rows, columns = np.nonzero(rasterize(uv, depth, triangles, 40, 40).triangle_index >= 0)
    assert y0 <= rows.min() and rows.max() < y1 and x0 <= columns.min() and columns.max() < x1
    assert (x1 - x0) * (y1 - y0) < 40 * 40
    assert covered_box(uv - 1000.0, depth, 40, 40) == (0, 0, 0, 0)


def test_a_face_sized_mesh_takes_milliseconds() -> None:
    mesh = dome(155, 240)
    rasterize(*mesh, 240, 240)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        rasterize(*mesh, 240, 240)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.05  # 2 ms on a quiet core; this only catches a kernel that is not compiled
