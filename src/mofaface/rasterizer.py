"""Triangles to pixels on the CPU: a z-buffer compiled with numba, for pictures and synthetic photographs.

Pixel (i, j) has its centre at (u, v) = (j + 0.5, i + 0.5); u goes right, v goes down. A pixel belongs to a triangle
when its centre lies inside; on an edge, the top-left rule decides, so triangles which share an edge cover each pixel
exactly once. The nearest triangle wins, of equally near ones the first. Barycentric coordinates are
perspective-correct. Triangles are counter-clockwise seen from outside, so front faces have negative area here, where
v goes down. Triangles with a vertex behind the camera, not finite or absurdly far outside (1e9 px) are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Float32, Float64, Int32, Integer
from numba import njit

SNAP = 2.0**14  # vertices snap to 1/SNAP px: edge functions of triangles below 4096 px are then exact in float64
FARTHEST_PIXEL = 1e9
SAMPLES_AT_ONCE = 2**20  # supersampled pictures are made in bands of about this many samples, to bound the memory


@dataclass(frozen=True)
class Fragments:
    """What each pixel sees: triangle (-1 for none), barycentric coordinates (0 for none), depth (inf for none)."""

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
    nearest = np.zeros((height, width))
    barycentric = np.zeros((height, width, 3), dtype=np.float32)
    _fill_nearest(points, inverse_depth, corners, cull_back, index, nearest)
    _fill_barycentric(points, inverse_depth, corners, index, barycentric)
    pixel_depth = np.divide(1.0, nearest, where=index >= 0, out=np.full((height, width), np.inf))
    return Fragments(index, barycentric, pixel_depth.astype(np.float32))


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
        raise ValueError(f"supersample is the number of samples along a pixel's side, at least 1; got {supersample}")
    picture = np.zeros((height, width, 4), dtype=np.float32)
    x0, y0, x1, y1 = covered_box(uv, depth, height, width)
    if x1 <= x0:
        return picture
    colours = np.ascontiguousarray(colours, dtype=np.float32)
    rows = max(1, SAMPLES_AT_ONCE // (supersample**2 * (x1 - x0)))
    for top in range(y0, y1, rows):
        bottom = min(top + rows, y1)
        samples_uv = (uv.astype(np.float64) - (x0, top)) * supersample
        size = ((bottom - top) * supersample, (x1 - x0) * supersample)
        band = rasterize(samples_uv, depth, triangles, *size, cull_back)
        corners = np.ascontiguousarray(triangles, dtype=np.int64)
        _average_colours(band.triangle_index, band.barycentric, corners, colours, picture[top:bottom, x0:x1])
    return picture


def covered_box(
    uv: Float[np.ndarray, "vertices 2"], depth: Float[np.ndarray, " vertices"], height: int, width: int
) -> tuple[int, int, int, int]:
    """The pixels (x0, y0, x1, y1; ends excluded) that the vertices can touch; four zeros where there are none."""
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
    return inside & np.isfinite(depth) & (depth > 1e-30)


def _prepare(uv: np.ndarray, depth: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Snapped points, 1 / depth (0 marks a vertex that cannot be used), int64 corners: one set of types to compile."""
    if triangles.size and (triangles.min() < 0 or triangles.max() >= len(uv)):
        raise ValueError(
            f"triangles index the vertices 0 to {len(uv) - 1}; got {triangles.min()} to {triangles.max()}: "
            "check whether the list counts from 1 or belongs to another mesh"
        )
    usable = _is_usable(uv, depth)
    points = np.where(usable[:, None], uv, 0.0).astype(np.float64)
    inverse_depth = np.zeros(len(uv))
    inverse_depth[usable] = 1.0 / depth[usable].astype(np.float64)
    return np.round(points * SNAP) / SNAP, inverse_depth, np.ascontiguousarray(triangles, dtype=np.int64)


def _compiled(function: Callable, **options: bool) -> Callable:
    """The function, compiled at its first call and kept on disk, or only in memory where no folder can be written."""
    try:
        return njit(function, cache=True, **options)
    except RuntimeError:
        return njit(function, **options)


# The kernels below skip the runtime type check: numba compiles the bare function.


@_compiled
@no_type_check
def _edge(ax: float, ay: float, bx: float, by: float, px: float, py: float) -> float:
    """Twice the area of (a, b, p), the exact negative of the one of (b, a, p): always computed from the same end."""
    if ax < bx or (ax == bx and ay < by):
        return (bx - ax) * (py - ay) - (by - ay) * (px - ax)
    return -((ax - bx) * (py - by) - (ay - by) * (px - bx))


@_compiled
@no_type_check
def _is_inside(edge: float, ax: float, ay: float, bx: float, by: float) -> bool:
    """Top-left rule for a triangle of positive area: on the border, only its top and left edges belong to it."""
    return edge > 0.0 or (edge == 0.0 and (by < ay or (by == ay and bx > ax)))


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
    nearest: Float64[np.ndarray, "height width"],
) -> None:
    height, width = index.shape
    for t in range(triangles.shape[0]):
        i, j, k = triangles[t]
        if inverse_depth[i] == 0.0 or inverse_depth[j] == 0.0 or inverse_depth[k] == 0.0:
            continue
        x_first, x_last = _pixel_range(points[i, 0], points[j, 0], points[k, 0], width)
        y_first, y_last = _pixel_range(points[i, 1], points[j, 1], points[k, 1], height)
        if x_first > x_last or y_first > y_last:
            continue
        area = _edge(points[i, 0], points[i, 1], points[j, 0], points[j, 1], points[k, 0], points[k, 1])
        if area == 0.0 or (cull_back and area > 0.0):
            continue
        if area < 0.0:  # turned, so that inside is where all edges are positive
            j, k, area = k, j, -area
        ax, ay = points[i]
        bx, by = points[j]
        cx, cy = points[k]
        wa, wb, wc = inverse_depth[i] / area, inverse_depth[j] / area, inverse_depth[k] / area
        for y in range(y_first, y_last + 1):
            for x in range(x_first, x_last + 1):
                px, py = x + 0.5, y + 0.5
                ea = _edge(bx, by, cx, cy, px, py)
                eb = _edge(cx, cy, ax, ay, px, py)
                ec = _edge(ax, ay, bx, by, px, py)
                if (
                    _is_inside(ea, bx, by, cx, cy)
                    and _is_inside(eb, cx, cy, ax, ay)
                    and _is_inside(ec, ax, ay, bx, by)
                ):
                    closeness = ea * wa + eb * wb + ec * wc
                    if closeness > nearest[y, x]:
                        nearest[y, x] = closeness
                        index[y, x] = t


@_compiled
@no_type_check
def _fill_barycentric(
    points: Float64[np.ndarray, "vertices 2"],
    inverse_depth: Float64[np.ndarray, " vertices"],
    triangles: Integer[np.ndarray, "triangles 3"],
    index: Int32[np.ndarray, "height width"],
    barycentric: Float32[np.ndarray, "height width 3"],
) -> None:
    # A pass of its own, so that surfaces which end up hidden cost nothing.
    height, width = index.shape
    for y in range(height):
        for x in range(width):
            if index[y, x] < 0:
                continue
            i, j, k = triangles[index[y, x]]
            ax, ay = points[i]
            bx, by = points[j]
            cx, cy = points[k]
            px, py = x + 0.5, y + 0.5
            a = _edge(bx, by, cx, cy, px, py) * inverse_depth[i]
            b = _edge(cx, cy, ax, ay, px, py) * inverse_depth[j]
            c = _edge(ax, ay, bx, by, px, py) * inverse_depth[k]
            total = a + b + c
            barycentric[y, x, 0] = a / total
            barycentric[y, x, 1] = b / total
            barycentric[y, x, 2] = c / total


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
