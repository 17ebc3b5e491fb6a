"""Triangles to pixels on the CPU: a z-buffer compiled with numba, for pictures and synthetic photographs.

Pixel (i, j) has its centre at (u, v) = (j + 0.5, i + 0.5); u goes right, v goes down. A pixel belongs to a
triangle when its centre lies inside; on an edge, the top-left rule decides, so triangles which share an edge
cover each pixel exactly once. The nearest triangle wins, of equally near ones the first. Barycentric
coordinates are perspective-correct. Triangles are counter-clockwise seen from outside, so front faces have
negative area here, where v goes down. Triangles with a vertex behind the camera, not finite or absurdly far
outside (1e9 px) are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Float32, Float64, Int32, Integer
from numba import njit

# Vertices snap to 1/SNAP px: the edge functions of triangles below 4096 px are then exact in float64.
SNAP = 2.0**14
FARTHEST_PIXEL = 1e9
NEAREST_DEPTH = 1e-30
# Supersampled pictures are made in bands of about this many samples, to bound the memory.
SAMPLES_AT_ONCE = 2**20


@dataclass(frozen=True)
class Fragments:
    """What each pixel sees: triangle (-1: none), barycentric coordinates (0: none), depth (inf: none)."""

    triangle_index: Int32[np.ndarray, "height width"]
    barycentric: Float32[np.ndarray, "height width 3"]
    depth: Float32[np.ndarray, "height width"]


def rasterize(
    uv: Float[np.ndarray, "vertices 2"],
    depth: Float[np.ndarray, " vertices"],
    triangles: Integer[np.ndarray, "triangles 3"],
    height: int,
    width: int,
    cull_back: bool = True,
) -> Fragments:
    """The nearest triangle, barycentric coordinates and depth (unit of `depth`, mm) at each pixel centre."""
    points, inverse_depth, corners = _prepare(uv, depth, triangles)
    index = np.full((height, width), -1, dtype=np.int32)
    pixel_depth = np.zeros((height, width), dtype=np.float32)  # holds 1 / depth until the last step
    barycentric = np.zeros((height, width, 3), dtype=np.float32)
    _fill_nearest(points, inverse_depth, corners, cull_back, index, pixel_depth)
    _fill_fragments(points, inverse_depth, corners, index, barycentric, pixel_depth)
    return Fragments(index, barycentric, pixel_depth)


def render(
    uv: Float[np.ndarray, "vertices 2"],
    depth: Float[np.ndarray, " vertices"],
    triangles: Integer[np.ndarray, "triangles 3"],
    colours: Float[np.ndarray, "vertices 3"],
    height: int,
    width: int,
    supersample: int = 1,
    cull_back: bool = True,
) -> Float32[np.ndarray, "height width 4"]:
    """Picture in [0, 1], colour not multiplied by alpha; alpha is the part of `supersample`² points covered.

    Samples are averaged as they come: sRGB in, sRGB out, as photo editors blend.
    """
    if supersample < 1:
        raise ValueError(f"supersample is samples along a pixel's side, at least 1; got {supersample}")
    picture = np.zeros((height, width, 4), dtype=np.float32)
    x0, y0, x1, y1 = covered_box(uv, depth, height, width)
    if x1 <= x0:
        return picture
    colours, triangles = np.ascontiguousarray(colours, np.float32), np.ascontiguousarray(triangles, np.int64)
    rows = max(1, SAMPLES_AT_ONCE // (supersample**2 * (x1 - x0)))
    for top in range(y0, y1, rows):
        bottom = min(top + rows, y1)
        samples_uv = (uv.astype(np.float64) - (x0, top)) * supersample
        size = ((bottom - top) * supersample, (x1 - x0) * supersample)
        band = rasterize(samples_uv, depth, triangles, *size, cull_back)
        window = picture[top:bottom, x0:x1]
        _average_colours(band.triangle_index, band.barycentric, triangles, colours, window)
    return picture


def covered_box(
    uv: Float[np.ndarray, "vertices 2"], depth: Float[np.ndarray, " vertices"], height: int, width: int
) -> tuple[int, int, int, int]:
    """The pixels (x0, y0, x1, y1; ends excluded) that the vertices can touch; four zeros: none."""
    usable = uv[_is_usable(uv, depth)].astype(np.float64)
    if len(usable) == 0:
        return 0, 0, 0, 0
    low = np.clip(np.floor(usable.min(0)), 0, (width, height)).astype(int)
    high = np.clip(np.ceil(usable.max(0)), 0, (width, height)).astype(int)
    if (high <= low).any():
        return 0, 0, 0, 0
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _is_usable(uv: np.ndarray, depth: np.ndarray) -> np.ndarray:
    inside = (np.abs(uv) <= FARTHEST_PIXEL).all(1)  # False for NaN, too
    return inside & np.isfinite(depth) & (depth > NEAREST_DEPTH)


def _prepare(
    uv: np.ndarray, depth: np.ndarray, triangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Snapped points, 1 / depth (0 marks an unusable vertex), int64 corners: one set of types to compile."""
    if triangles.size and (triangles.min() < 0 or triangles.max() >= len(uv)):
        raise ValueError(
            f"triangles index the vertices 0 to {len(uv) - 1}; got {triangles.min()} to {triangles.max()}: "
            "check whether the list counts from 1 or belongs to another mesh"
        )
    uv, depth = np.ascontiguousarray(uv, np.float64), np.ascontiguousarray(depth, np.float64)
    points, inverse_depth = np.empty((len(uv), 2)), np.empty(len(uv))
    _snap(uv, depth, points, inverse_depth)
    return points, inverse_depth, np.ascontiguousarray(triangles, np.int64)


def _compiled(function: Callable) -> Callable:
    """The function, compiled at its first call and kept on disk, or in memory where no folder is writable."""
    try:
        return njit(function, cache=True, error_model="numpy")
    except RuntimeError:
        return njit(function, error_model="numpy")


# The kernels below skip the runtime type check: numba compiles the bare function.


@_compiled
@no_type_check
def _snap(
    uv: Float64[np.ndarray, "vertices 2"],
    depth: Float64[np.ndarray, " vertices"],
    points: Float64[np.ndarray, "vertices 2"],
    inverse_depth: Float64[np.ndarray, " vertices"],
) -> None:
    for i in range(len(uv)):
        # Written so that NaN fails, too.
        near = abs(uv[i, 0]) <= FARTHEST_PIXEL and abs(uv[i, 1]) <= FARTHEST_PIXEL
        usable = near and NEAREST_DEPTH < depth[i] < np.inf
        inverse_depth[i] = 1.0 / depth[i] if usable else 0.0
        points[i, 0] = np.rint(uv[i, 0] * SNAP) / SNAP if usable else 0.0
        points[i, 1] = np.rint(uv[i, 1] * SNAP) / SNAP if usable else 0.0


@_compiled
@no_type_check
def _edge(
    points: Float64[np.ndarray, "vertices 2"], a: int, b: int
) -> tuple[float, float, float, float, bool]:
    """The line through a and b as (x, y, dx, dy), and whether pixels on it belong to its positive side.

    It starts at the same end whichever way the edge runs, so two neighbours compute exactly opposite values.
    """
    ax, ay = points[a]
    bx, by = points[b]
    dx, dy = bx - ax, by - ay
    is_top_or_left = dy < 0.0 or (dy == 0.0 and dx > 0.0)
    if ax < bx or (ax == bx and ay < by):
        return ax, ay, dx, dy, is_top_or_left
    return bx, by, dx, dy, is_top_or_left


@_compiled
@no_type_check
def _pixel_range(a: float, b: float, c: float, size: int) -> tuple[int, int]:
    """First and last pixel whose centre lies between the smallest and largest of three coordinates."""
    first = np.ceil(max(min(a, b, c), 0.0) - 0.5)
    last = np.floor(min(max(a, b, c), float(size)) - 0.5)
    return int(first), int(last)


@_compiled
@no_type_check
def _fill_nearest(
    points: Float64[np.ndarray, "vertices 2"],
    inverse_depth: Float64[np.ndarray, " vertices"],
    triangles: Integer[np.ndarray, "triangles 3"],
    cull_back: bool,
    index: Int32[np.ndarray, "height width"],
    nearest: Float32[np.ndarray, "height width"],
) -> None:
    height, width = index.shape
    for t in range(triangles.shape[0]):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        if inverse_depth[i] == 0.0 or inverse_depth[j] == 0.0 or inverse_depth[k] == 0.0:
            continue
        x_first, x_last = _pixel_range(points[i, 0], points[j, 0], points[k, 0], width)
        y_first, y_last = _pixel_range(points[i, 1], points[j, 1], points[k, 1], height)
        if x_first > x_last or y_first > y_last:
            continue
        x, y, dx, dy, _ = _edge(points, i, j)
        area = dx * (points[k, 1] - y) - dy * (points[k, 0] - x)
        if area == 0.0 or (cull_back and area > 0.0):
            continue
        if area < 0.0:  # turned, so that inside is where all sides are positive
            j, k, area = k, j, -area
        triangle = (t, inverse_depth[i] / area, inverse_depth[j] / area, inverse_depth[k] / area)
        edges = (_edge(points, j, k), _edge(points, k, i), _edge(points, i, j))
        _fill_triangle(triangle, edges, (x_first, x_last, y_first, y_last), index, nearest)


@_compiled
@no_type_check
def _fill_triangle(
    triangle: tuple[int, float, float, float],
    edges: tuple[tuple[float, float, float, float, bool], ...],
    box: tuple[int, int, int, int],
    index: Int32[np.ndarray, "height width"],
    nearest: Float32[np.ndarray, "height width"],
) -> None:
    t, a_weight, b_weight, c_weight = triangle
    (ax, ay, adx, ady, a_owns), (bx, by, bdx, bdy, b_owns), (cx, cy, cdx, cdy, c_owns) = edges
    for y in range(box[2], box[3] + 1):
        a_row, b_row, c_row = adx * (y + 0.5 - ay), bdx * (y + 0.5 - by), cdx * (y + 0.5 - cy)
        for x in range(box[0], box[1] + 1):
            a = a_row - ady * (x + 0.5 - ax)
            b = b_row - bdy * (x + 0.5 - bx)
            c = c_row - cdy * (x + 0.5 - cx)
            if (a < 0.0) | (b < 0.0) | (c < 0.0):  # one branch is faster than three
                continue
            if (a == 0.0 and not a_owns) or (b == 0.0 and not b_owns) or (c == 0.0 and not c_owns):
                continue
            closeness = np.float32(a * a_weight + b * b_weight + c * c_weight)
            if closeness > nearest[y, x]:
                nearest[y, x] = closeness
                index[y, x] = t


@_compiled
@no_type_check
def _fill_fragments(
    points: Float64[np.ndarray, "vertices 2"],
    inverse_depth: Float64[np.ndarray, " vertices"],
    triangles: Integer[np.ndarray, "triangles 3"],
    index: Int32[np.ndarray, "height width"],
    barycentric: Float32[np.ndarray, "height width 3"],
    depth: Float32[np.ndarray, "height width"],
) -> None:
    # A pass of its own: surfaces which end up hidden cost nothing; neighbours mostly share their triangle.
    height, width = index.shape
    last = -1
    for y in range(height):
        for x in range(width):
            t = index[y, x]
            if t < 0:
                depth[y, x] = np.inf
                continue
            if t != last:
                last = t
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                ax, ay, adx, ady, _ = _edge(points, j, k)
                bx, by, bdx, bdy, _ = _edge(points, k, i)
                cx, cy, cdx, cdy, _ = _edge(points, i, j)
                a_weight, b_weight, c_weight = inverse_depth[i], inverse_depth[j], inverse_depth[k]
            a = adx * (y + 0.5 - ay) - ady * (x + 0.5 - ax)
            b = bdx * (y + 0.5 - by) - bdy * (x + 0.5 - bx)
            c = cdx * (y + 0.5 - cy) - cdy * (x + 0.5 - cx)
            area = a + b + c
            a, b, c = a * a_weight, b * b_weight, c * c_weight
            scale = 1.0 / (a + b + c)
            barycentric[y, x, 0] = a * scale
            barycentric[y, x, 1] = b * scale
            barycentric[y, x, 2] = c * scale
            depth[y, x] = area * scale


@_compiled
@no_type_check
def _average_colours(
    index: Int32[np.ndarray, "sample_rows sample_columns"],
    barycentric: Float32[np.ndarray, "sample_rows sample_columns 3"],
    triangles: Integer[np.ndarray, "triangles 3"],
    colours: Float32[np.ndarray, "vertices 3"],
    picture: Float32[np.ndarray, "height width 4"],
) -> None:
    height, width = picture.shape[:2]
    side = index.shape[0] // height
    for y in range(height):
        for x in range(width):
            covered = 0
            red = green = blue = 0.0
            for sy in range(y * side, (y + 1) * side):
                for sx in range(x * side, (x + 1) * side):
                    if index[sy, sx] < 0:
                        continue
                    covered += 1
                    for corner in range(3):
                        vertex = triangles[index[sy, sx], corner]
                        weight = barycentric[sy, sx, corner]
                        red += weight * colours[vertex, 0]
                        green += weight * colours[vertex, 1]
                        blue += weight * colours[vertex, 2]
            if covered > 0:
                picture[y, x, 0] = red / covered
                picture[y, x, 1] = green / covered
                picture[y, x, 2] = blue / covered
                picture[y, x, 3] = covered / (side * side)
