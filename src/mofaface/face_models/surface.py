"""Triangle surfaces and the nearest points on them: what registration and its measures stand on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array, csr_array
from scipy.spatial import cKDTree

# The nearest triangle is sought among those about this many nearest vertices.
NEAREST_VERTICES = 6
# Points are compared with their candidate triangles so many at once: memory stays small.
CHUNK = 4096


@dataclass(frozen=True)
class Surface:
    """A mesh: vertices in mm and triangles counter-clockwise from outside."""

    positions: Float[np.ndarray, "vertices 3"]
    triangles: Int[np.ndarray, "faces 3"]


@dataclass(frozen=True)
class Correspondence:
    """For every point its place on a surface: a triangle, and weights of its corners."""

    triangle: Int[np.ndarray, "points"]
    barycentric: Float[np.ndarray, "points 3"]
    found: Bool[np.ndarray, "points"]
    """False where the surface has no counterpart, for example beyond its rim."""

    def carry(
        self, values: Float[np.ndarray, "vertices *c"], triangles: Int[np.ndarray, "faces 3"]
    ) -> Float[np.ndarray, "points *c"]:
        """Values on the surface's vertices, interpolated at the points (of those without a counterpart, at the nearest)."""
        corners = triangles[self.triangle]
        weights = self.barycentric.reshape(*self.barycentric.shape, *[1] * (values.ndim - 1))
        return (values[corners] * weights).sum(axis=1)


def closest_points(
    points: Float[np.ndarray, "points 3"], surface: Surface
) -> tuple[Correspondence, Float[np.ndarray, "points"]]:
    """The nearest point of the surface to each point, and the distance in mm; every one counts as found."""
    candidates = _candidates(points, surface)
    triangle = np.empty(len(points), np.int64)
    barycentric = np.empty((len(points), 3))
    distance = np.empty(len(points))
    for first in range(0, len(points), CHUNK):
        part = slice(first, first + CHUNK)
        triangle[part], barycentric[part], distance[part] = _nearest(points[part], candidates[part], surface)
    return Correspondence(triangle, barycentric, np.ones(len(points), bool)), distance


def _candidates(points: np.ndarray, surface: Surface) -> Int[np.ndarray, "points candidates"]:
    """Triangles around the nearest vertices of each point, repeated where there are fewer."""
    used = np.unique(surface.triangles)
    count = min(NEAREST_VERTICES, len(used))
    near = used[cKDTree(surface.positions[used]).query(points, count)[1].reshape(len(points), count)]
    around = _triangles_around(surface)
    return around[near].reshape(len(points), -1)


def _triangles_around(surface: Surface) -> Int[np.ndarray, "vertices valence"]:
    """The triangles at each vertex; rows of lesser valence repeat their first one."""
    corner = surface.triangles.ravel()
    order = np.argsort(corner, kind="stable")
    count = np.bincount(corner, minlength=len(surface.positions))
    start = np.cumsum(count) - count
    place = np.arange(count.max())
    entry = start[:, None] + np.where(place < count[:, None], place, 0)
    return (order // 3)[np.minimum(entry, len(order) - 1)]


def _nearest(
    points: Float[np.ndarray, "points 3"], candidates: Int[np.ndarray, "points candidates"], surface: Surface
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    corners = surface.positions[surface.triangles[candidates]]
    weights = closest_barycentric(points[:, None], corners)
    foot = (weights[..., None] * corners).sum(axis=-2)
    distance = np.linalg.norm(foot - points[:, None], axis=-1)
    best = distance.argmin(axis=1)
    row = np.arange(len(points))
    return candidates[row, best], weights[row, best], distance[row, best]


def closest_barycentric(
    p: Float[np.ndarray, "*n 3"], corners: Float[np.ndarray, "*m 3 3"]
) -> Float[np.ndarray, "*k 3"]:
    """Weights of the corners at the point of a triangle nearest to p: inside, on an edge, or at a corner."""
    a, b, c = corners[..., 0, :], corners[..., 1, :], corners[..., 2, :]
    inside = _plane_weights(p, a, b, c)
    best = np.where((inside >= 0).all(axis=-1, keepdims=True), inside, np.nan)
    distance = _distance(p, best, corners)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        weights = _edge_weights(p, corners, i, j)
        other = _distance(p, weights, corners)
        nearer = ~(distance <= other)  # also where there is no distance yet
        best = np.where(nearer[..., None], weights, best)
        distance = np.where(nearer, other, distance)
    return best


def _distance(p: np.ndarray, weights: np.ndarray, corners: np.ndarray) -> np.ndarray:
    return np.linalg.norm((weights[..., None] * corners).sum(axis=-2) - p, axis=-1)


def _plane_weights(p: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Barycentric weights of p's foot in the triangle's plane; -1 for a triangle without area."""
    u, v, w = b - a, c - a, p - a
    uu, uv, vv = (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)
    wu, wv = (w * u).sum(-1), (w * v).sum(-1)
    determinant = uu * vv - uv**2
    flat = determinant <= 1e-12 * np.maximum(uu * vv, 1e-300)
    safe = np.where(flat, 1.0, determinant)
    s, t = (vv * wu - uv * wv) / safe, (uu * wv - uv * wu) / safe
    return np.where(flat[..., None], -1.0, np.stack([1 - s - t, s, t], axis=-1))


def _edge_weights(p: np.ndarray, corners: np.ndarray, i: int, j: int) -> np.ndarray:
    a, b = corners[..., i, :], corners[..., j, :]
    length = ((b - a) ** 2).sum(-1)
    t = np.clip(((p - a) * (b - a)).sum(-1) / np.where(length > 0, length, 1.0), 0, 1)
    weights = np.zeros((*t.shape, 3))
    weights[..., i], weights[..., j] = 1 - t, t
    return weights


def vertex_normals(surface: Surface) -> Float[np.ndarray, "vertices 3"]:
    """Unit normals, area-weighted over the one-ring; zero where no triangle lies."""
    corners = surface.positions[surface.triangles]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(surface.positions)
    for i in range(3):
        np.add.at(normals, surface.triangles[:, i], face)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)


def rim(surface: Surface) -> Bool[np.ndarray, "vertices"]:
    """True for vertices on an edge that only one triangle has."""
    edges, count = np.unique(_edges(surface.triangles), axis=0, return_counts=True)
    mask = np.zeros(len(surface.positions), bool)
    mask[edges[count == 1]] = True
    return mask


def adjacency(surface: Surface) -> csr_array:
    """1 for every pair of vertices that an edge joins; symmetric."""
    i, j = _edges(surface.triangles).T
    n = len(surface.positions)
    matrix = coo_array((np.ones(2 * len(i)), (np.r_[i, j], np.r_[j, i])), shape=(n, n)).tocsr()
    matrix.data[:] = 1.0
    return matrix


def _edges(triangles: np.ndarray) -> Int[np.ndarray, "edges 2"]:
    return np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
