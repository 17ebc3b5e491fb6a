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
from jaxtyping import Float, Float32, Float64, Int32, Int64, Integer
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
    mesh = _prepare(uv, depth, triangles)
    index = np.full((height, width), -1, dtype=np.int32)
    pixel_depth = np.zeros((height, width), dtype=np.float32)  # holds 1 / depth until the last step
    barycentric = np.zeros((height, width, 3), dtype=np.float32)
    _fill_nearest(mesh, cull_back, index, pixel_depth)
    _fill_fragments(mesh, index, barycentric, pixel_depth)
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
    if len(colours) != len(uv):
        raise ValueError(f"each of the {len(uv)} vertices has a colour; got {len(colours)} colours")
    picture = np.zeros((height, width, 4), dtype=np.float32)
    x0, y0, x1, y1 = covered_box(uv, depth, height, width)
    if x1 <= x0:
        return picture
    colours = np.ascontiguousarray(colours, np.float32)
    rows = max(1, SAMPLES_AT_ONCE // (supersample**2 * (x1 - x0)))
    for top in range(y0, y1, rows):
        bottom = min(top + rows, y1)
        mesh = _prepare((uv.astype(np.float64) - (x0, top)) * supersample, depth, triangles)
        index = np.full(((bottom - top) * supersample, (x1 - x0) * supersample), -1, dtype=np.int32)
        _fill_nearest(mesh, cull_back, index, np.zeros(index.shape, np.float32))
        _add_colours(mesh, index, colours, supersample, picture[top:bottom, x0:x1])
    colour, count = np.split(picture[y0:y1, x0:x1], [3], axis=-1)
    colour /= np.maximum(count, 1.0)
    count /= supersample**2
    return picture


def covered_box(
    uv: Float[np.ndarray, "vertices 2"], depth: Float[np.ndarray, " vertices"], height: int, width: int
) -> tuple[int, int, int, int]:
    """The pixels (x0, y0, x1, y1; ends excluded) that the vertices can touch; four zeros: none."""
    near = (np.abs(uv) <= FARTHEST_PIXEL).all(1) & (depth > NEAREST_DEPTH) & (depth < np.inf)
    usable = uv[near].astype(np.float64) if near.any() else np.zeros((1, 2))
    low = np.clip(np.floor(usable.min(0)), 0, (width, height)).astype(int).tolist()
    high = np.clip(np.ceil(usable.max(0)), 0, (width, height)).astype(int).tolist()
    return (*low, *high) if low[0] < high[0] and low[1] < high[1] else (0, 0, 0, 0)


def _prepare(uv: np.ndarray, depth: np.ndarray, triangles: np.ndarray) -> "ScreenMesh":
    if len(depth) != len(uv):
        raise ValueError(f"each of the {len(uv)} vertices has a depth; got {len(depth)} depths")
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
Points = Float64[np.ndarray, "vertices 2"]
Scalars = Float64[np.ndarray, " vertices"]
ScreenMesh = tuple[Points, Scalars, Int64[np.ndarray, "triangles 3"]]  # 1 / depth is 0 for unusable vertices
Index = Int32[np.ndarray, "height width"]
Values = Float32[np.ndarray, "height width"]
Edge = tuple[float, float, float, float, bool]
Line = tuple[float, float, float, float]


@_compiled
@no_type_check
def _snap(uv: Points, depth: Scalars, points: Points, inverse_depth: Scalars) -> None:
    for i in range(len(uv)):
        # Written so that NaN fails, too.
        near = abs(uv[i, 0]) <= FARTHEST_PIXEL and abs(uv[i, 1]) <= FARTHEST_PIXEL
        usable = near and NEAREST_DEPTH < depth[i] < np.inf
        inverse_depth[i] = 1.0 / depth[i] if usable else 0.0
        points[i, 0] = np.rint(uv[i, 0] * SNAP) / SNAP if usable else 0.0
        points[i, 1] = np.rint(uv[i, 1] * SNAP) / SNAP if usable else 0.0


@_compiled
@no_type_check
def _edge(points: Points, a: int, b: int) -> Edge:
    """The line through a and b as (x, y, dx, dy), and whether pixels on it belong to its positive side.

    It starts at the same end whichever way the edge runs, so two neighbours compute exactly opposite values.
    """
    ax, ay = points[a, 0], points[a, 1]
    bx, by = points[b, 0], points[b, 1]
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
def _fill_nearest(mesh: ScreenMesh, cull_back: bool, index: Index, nearest: Values) -> None:
    points, inverse_depth, triangles = mesh
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
    edges: tuple[Edge, Edge, Edge],
    box: tuple[int, int, int, int],
    index: Index,
    nearest: Values,
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
def _weights(points: Points, inverse_depth: Scalars, i: int, j: int, k: int) -> tuple[Line, Line, Line]:
    """Per corner (x, y, dx, dy): its weight at p, up to a common scale, is dx (p_y - y) - dy (p_x - x)."""
    ax, ay, adx, ady, _ = _edge(points, j, k)
    bx, by, bdx, bdy, _ = _edge(points, k, i)
    cx, cy, cdx, cdy, _ = _edge(points, i, j)
    a, b, c = inverse_depth[i], inverse_depth[j], inverse_depth[k]
    return (ax, ay, adx * a, ady * a), (bx, by, bdx * b, bdy * b), (cx, cy, cdx * c, cdy * c)


@_compiled
@no_type_check
def _fill_fragments(
    mesh: ScreenMesh, index: Index, barycentric: Float32[np.ndarray, "height width 3"], depth: Values
) -> None:
    # A pass of its own: surfaces which end up hidden cost nothing; neighbours mostly share their triangle.
    points, inverse_depth, triangles = mesh
    last = -1
    for y in range(index.shape[0]):
        for x in range(index.shape[1]):
            t = index[y, x]
            if t < 0:
                depth[y, x] = np.inf
                continue
            if t != last:
                last = t
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                lines = _weights(points, inverse_depth, i, j, k)
                (ax, ay, adx, ady), (bx, by, bdx, bdy), (cx, cy, cdx, cdy) = lines
                ex, ey, dx, dy, _ = _edge(points, i, j)
                area = dx * (points[k, 1] - ey) - dy * (points[k, 0] - ex)
            a = adx * (y + 0.5 - ay) - ady * (x + 0.5 - ax)
            b = bdx * (y + 0.5 - by) - bdy * (x + 0.5 - bx)
            c = cdx * (y + 0.5 - cy) - cdy * (x + 0.5 - cx)
            scale = 1.0 / (a + b + c)
            barycentric[y, x, 0] = a * scale
            barycentric[y, x, 1] = b * scale
            barycentric[y, x, 2] = c * scale
            depth[y, x] = area * scale


@_compiled
@no_type_check
def _add_colours(
    mesh: ScreenMesh,
    index: Index,
    colours: Float32[np.ndarray, "vertices 3"],
    side: int,
    picture: Float32[np.ndarray, "height width 4"],
) -> None:
    """Adds to each pixel the colours of its samples, side² at most, and to its fourth channel the number."""
    points, inverse_depth, triangles = mesh
    last = -1
    for y in range(index.shape[0]):
        for x in range(index.shape[1]):
            t = index[y, x]
            if t < 0:
                continue
            if t != last:
                last = t
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                lines = _weights(points, inverse_depth, i, j, k)
                (ax, ay, adx, ady), (bx, by, bdx, bdy), (cx, cy, cdx, cdy) = lines
            a = adx * (y + 0.5 - ay) - ady * (x + 0.5 - ax)
            b = bdx * (y + 0.5 - by) - bdy * (x + 0.5 - bx)
            c = cdx * (y + 0.5 - cy) - cdy * (x + 0.5 - cx)
            scale = 1.0 / (a + b + c)
            row, column = y // side, x // side
            for channel in range(3):
                mixed = a * colours[i, channel] + b * colours[j, channel] + c * colours[k, channel]
                picture[row, column, channel] += mixed * scale
            picture[row, column, 3] += 1.0
