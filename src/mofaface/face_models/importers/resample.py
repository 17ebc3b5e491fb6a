"""More or fewer vertices for a face model, such that every mode stays linear and kept vertices stay exactly where they are.

Fewer: quadric edge collapse (Garland and Heckbert 1997) onto one of the edge's ends, so the vertices that remain are
vertices of the model. More: the longest edge is halved again and again (Rivara 1984), so a new vertex is a fixed
mean of the corners of one of the model's triangles.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

# A count this near, as a share, is what was asked for.
NEAR_ENOUGH = 0.02
# Weight of squared length and area beside the squared distance to the surface: flat cheeks keep their vertices.
EVENNESS = 0.05
# Weight of the planes that stand on the rim.
RIM = 10.0
# A collapse may turn a triangle's normal by less than acos of this.
LEAST_COSINE = 0.2
# Collapses that were refused are tried again each time this share of the vertices has gone.
RETRY = 0.05


@dataclass(frozen=True)
class Remeshed:
    """Another mesh on the same surface: `operator` (new × old, rows sum to 1), its triangles, and `place`, the new
    number of each old vertex (−1: removed)."""

    operator: csr_array
    triangles: Int[np.ndarray, "faces 3"]
    place: Int[np.ndarray, "old"]


def subset(keep: Int[np.ndarray, "kept"], triangles: Int[np.ndarray, "faces 3"], vertices: int) -> Remeshed:
    """The vertices `keep` of a mesh of so many vertices, in their order; `triangles` has the old numbers."""
    place = np.full(vertices, -1, np.int64)
    place[keep] = np.arange(len(keep))
    operator = csr_array((np.ones(len(keep)), (np.arange(len(keep)), keep)), shape=(len(keep), vertices))
    return Remeshed(operator, place[triangles], place)


def resample(
    positions: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "faces 3"],
    count: int,
    fixed: Int[np.ndarray, "fixed"],
) -> Remeshed:
    """About `count` vertices; those in `fixed` (landmarks) are never removed."""
    if count < 4:
        raise ValueError(f"a mesh is resampled to at least 4 vertices, got {count}; ask for more")
    n = len(positions)
    if abs(count - n) <= NEAR_ENOUGH * n:
        return subset(np.arange(n), triangles, n)
    return refine(positions, triangles, count) if count > n else decimate(positions, triangles, count, fixed)


def refine(
    positions: Float[np.ndarray, "vertices 3"], triangles: Int[np.ndarray, "faces 3"], count: int
) -> Remeshed:
    """`count` vertices by halving the longest edge until there are so many; old vertices keep their numbers."""
    places = [np.array(p) for p in positions.astype(np.float64)]
    weights: list[dict[int, float]] = [{i: 1.0} for i in range(len(places))]
    faces: list[list[int]] = triangles.tolist()
    around = _faces_of_edges(faces)
    queue = [(-float(np.linalg.norm(places[a] - places[b])), a, b) for a, b in around]
    heapq.heapify(queue)
    while len(places) < count and queue:
        _, a, b = heapq.heappop(queue)
        if not around.get((a, b)):  # it was halved
            continue
        m = len(places)
        places.append((places[a] + places[b]) / 2)
        weights.append(_mean_weights(weights[a], weights[b]))
        for x, y in _halve(faces, around, a, b, m):
            heapq.heappush(queue, (-float(np.linalg.norm(places[x] - places[y])), x, y))
    return Remeshed(_operator(weights, len(positions)), np.array(faces), np.arange(len(positions)))


def _faces_of_edges(faces: list[list[int]]) -> dict[tuple[int, int], set[int]]:
    around: dict[tuple[int, int], set[int]] = {}
    for f, face in enumerate(faces):
        for edge in _edges(face):
            around.setdefault(edge, set()).add(f)
    return around


def _edges(face: list[int]) -> Iterator[tuple[int, int]]:
    for i in range(3):
        a, b = face[i], face[(i + 1) % 3]
        yield (a, b) if a < b else (b, a)


def _halve(
    faces: list[list[int]], around: dict[tuple[int, int], set[int]], a: int, b: int, m: int
) -> set[tuple[int, int]]:
    """The new edges after vertex `m` was put on the edge from `a` to `b`; every triangle there becomes two."""
    made: set[tuple[int, int]] = set()
    for f in around.pop((a, b)):
        old = faces[f]
        first, second = ([m if v == gone else v for v in old] for gone in (b, a))
        for edge in _edges(old):
            if edge in around:
                around[edge].discard(f)
        faces[f] = first
        faces.append(second)
        for number, face in ((f, first), (len(faces) - 1, second)):
            for edge in _edges(face):
                around.setdefault(edge, set()).add(number)
                made.update({edge} if m in edge else ())
    return made


def _mean_weights(a: dict[int, float], b: dict[int, float]) -> dict[int, float]:
    return {i: (a.get(i, 0.0) + b.get(i, 0.0)) / 2 for i in a.keys() | b.keys()}


def _operator(weights: list[dict[int, float]], columns: int) -> csr_array:
    starts = np.cumsum([0] + [len(row) for row in weights])
    indices = np.array([i for row in weights for i in sorted(row)])
    values = np.array([row[i] for row in weights for i in sorted(row)])
    return csr_array((values, indices, starts), shape=(len(weights), columns))


def decimate(
    positions: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "faces 3"],
    count: int,
    fixed: Int[np.ndarray, "fixed"],
) -> Remeshed:
    """`count` of the vertices, or a few more where no further collapse keeps the surface whole."""
    mesh = _Collapsing(positions.astype(np.float64), triangles, fixed)
    queue = mesh.all_collapses()
    heapq.heapify(queue)
    left = len(np.unique(triangles))
    waiting: list[tuple[float, int, int, int]] = []
    retry = left
    while left > count and (queue or (waiting and left < retry)):
        if not queue or retry - left > RETRY * left:
            # What would have folded the surface may be possible now that its surroundings have changed.
            for entry in waiting:
                heapq.heappush(queue, entry)
            waiting, retry = [], left
        cost, u, v, stamp = heapq.heappop(queue)
        if stamp != mesh.stamp[u] + mesh.stamp[v]:
            continue
        if not mesh.allowed(u, v):
            waiting.append((cost, u, v, stamp))
            continue
        for entry in mesh.collapse(u, v):
            heapq.heappush(queue, entry)
        left -= 1
    kept_faces = np.array([face for face in mesh.faces if face])
    return subset(np.unique(kept_faces), kept_faces, len(positions))


class _Collapsing:
    """A mesh while edges collapse: a removed vertex has an odd, huge stamp, a removed face is empty."""

    GONE = 1 << 40

    def __init__(self, positions: np.ndarray, triangles: np.ndarray, fixed: np.ndarray):
        self.positions = positions
        self.faces: list[tuple[int, ...]] = [tuple(face) for face in triangles.tolist()]
        self.around: list[set[int]] = [set() for _ in positions]
        for f, face in enumerate(self.faces):
            for v in face:
                self.around[v].add(f)
        self.rim = np.zeros(len(positions), bool)
        self.quadrics = _quadrics(positions, triangles, self.rim)
        self.fixed = np.zeros(len(positions), bool)
        self.fixed[fixed] = True
        self.stamp = [0] * len(positions)

    def all_collapses(self) -> list[tuple[float, int, int, int]]:
        """Every collapse of an edge onto either end, with its cost."""
        edges = np.array(list({edge for face in self.faces for edge in _edges(list(face))}))
        u, v = np.concatenate((edges, edges[:, ::-1])).T
        return self._entries(u, v)

    def _entries(self, u: np.ndarray, v: np.ndarray) -> list[tuple[float, int, int, int]]:
        """Costs (mm²) of moving u to v: mean squared distance to u's and v's planes, length, and area."""
        u, v = (side[~self.fixed[u]] for side in (u, v))
        quadric = self.quadrics[u] + self.quadrics[v]
        h = np.column_stack((self.positions[v], np.ones(len(v))))
        area = quadric[:, 4, 0]
        off = np.einsum("ni,nij,nj->n", h, quadric[:, :4], h) / area
        length = ((self.positions[u] - self.positions[v]) ** 2).sum(1)
        # The area that a vertex has taken over counts too, or it would swallow one neighbour after the other.
        cost = off + EVENNESS * (length + area)
        return [
            (c, a, b, self.stamp[a] + self.stamp[b])
            for c, a, b in zip(cost.tolist(), u.tolist(), v.tolist(), strict=True)
        ]

    def allowed(self, u: int, v: int) -> bool:
        """Whether the surface stays one sheet without folds when u moves to v."""
        shared = self.around[u] & self.around[v]
        if not shared or (self.rim[u] and len(shared) != 1):
            return False
        # Link condition (Dey et al. 1999): besides the triangles at the edge, u and v have no neighbour in common.
        if len((self._ring(u) & self._ring(v)) - {u, v}) != len(shared):
            return False
        moved = [self.faces[f] for f in self.around[u] - shared]
        if not moved:
            return False
        before = np.array(moved)
        after = np.where(before == u, v, before)
        n, m = (_normals(self.positions[corners]) for corners in (before, after))
        length = np.linalg.norm(n, axis=1) * np.linalg.norm(m, axis=1)
        return bool(((n * m).sum(1) > LEAST_COSINE * length).all())

    def _ring(self, v: int) -> set[int]:
        return {w for f in self.around[v] for w in self.faces[f]}

    def collapse(self, u: int, v: int) -> list[tuple[float, int, int, int]]:
        """Move u to v, and give the collapses whose cost is new."""
        for f in tuple(self.around[u]):
            if v in self.faces[f]:
                for w in self.faces[f]:
                    self.around[w].discard(f)
                self.faces[f] = ()
            else:
                self.faces[f] = tuple(v if w == u else w for w in self.faces[f])
                self.around[v].add(f)
        self.around[u] = set()
        self.quadrics[v] += self.quadrics[u]
        self.stamp[u] = self.GONE
        self.stamp[v] += 1
        ring = np.array(sorted(self._ring(v) - {v}))
        here = np.full(len(ring), v)
        return self._entries(np.concatenate((here, ring)), np.concatenate((ring, here)))


def _normals(corners: Float[np.ndarray, "faces 3 3"]) -> Float[np.ndarray, "faces 3"]:
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def _quadrics(
    positions: np.ndarray, triangles: np.ndarray, rim: Bool[np.ndarray, "vertices"]
) -> Float[np.ndarray, "vertices 5 4"]:
    """Sums of area-weighted plane products in rows 0 to 3, the summed area in row 4; marks `rim` on the way."""
    normals = _normals(positions[triangles])
    quadrics = np.zeros((len(positions), 5, 4))
    for i in range(3):
        _add_planes(quadrics, triangles[:, i], normals, positions[triangles[:, 0]], count_area=True)
    edges = np.concatenate([triangles[:, [i, (i + 1) % 3]] for i in range(3)])
    key = np.sort(edges, axis=1)
    _, inverse, times = np.unique(key, axis=0, return_inverse=True, return_counts=True)
    lone = times[inverse.ravel()] == 1
    a, b = edges[lone].T
    rim[a] = rim[b] = True
    along = positions[b] - positions[a]
    walls = np.cross(along, np.tile(normals, (3, 1))[lone])
    walls *= RIM * ((along**2).sum(1) / np.linalg.norm(walls, axis=1).clip(1e-12))[:, None]
    for end in (a, b):
        _add_planes(quadrics, end, walls, positions[a], count_area=False)
    return quadrics


def _add_planes(
    quadrics: np.ndarray, vertices: np.ndarray, normals: np.ndarray, points: np.ndarray, count_area: bool
) -> None:
    area = np.linalg.norm(normals, axis=1)
    unit = normals / area.clip(1e-12)[:, None]
    plane = np.column_stack((unit, -(unit * points).sum(1)))
    np.add.at(quadrics[:, :4], vertices, area[:, None, None] * plane[:, :, None] * plane[:, None, :])
    if count_area:
        np.add.at(quadrics[:, 4, 0], vertices, area)
