"""Catmull-Clark subdivision as one sparse matrix, and a smooth cut of the finest level.

Rules of Catmull and Clark 1978, with the cubic B-spline rule on boundaries. The operator is linear, so it
commutes with the face model: subdividing the bases is the same as subdividing the faces.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array, csr_array, vstack

# A cut vertex keeps at least this share of its edge's length from the vertex inside, so none degenerates.
SHORTEST_CUT_EDGE = 0.35


@dataclass(frozen=True)
class Level:
    """A quad mesh whose vertices are `operator` times the cage's vertices."""

    operator: csr_array
    quads: Int[np.ndarray, "quads 4"]
    mirror: Int[np.ndarray, "vertices"]


@dataclass(frozen=True)
class CutMesh:
    """The cropped mesh, refined twice where the cage is wide and once where it is dense.

    The first `coarse_count` vertices descend from the first level.
    """

    operator: csr_array
    triangles: Int[np.ndarray, "triangles 3"]
    mirror: Int[np.ndarray, "vertices"]
    coarse_count: int
    coarse_triangles: Int[np.ndarray, "coarse_triangles 3"]
    kept: Int[np.ndarray, "vertices"]  # number of each vertex in the uncropped level

    def cage_rows(self, cage_vertices: int) -> Int[np.ndarray, "cage"]:
        """For each cage vertex the vertex of this mesh that descends from it, -1 where it was cut off."""
        rows = np.full(cage_vertices, -1)
        own = np.flatnonzero(self.kept < cage_vertices)
        rows[self.kept[own]] = own
        return rows


def cage_level(quads: Int[np.ndarray, "quads 4"], mirror: Int[np.ndarray, "cage"]) -> Level:
    """The cage itself as level zero."""
    identity = coo_array((np.ones(len(mirror)), (np.arange(len(mirror)),) * 2)).tocsr()
    return Level(identity, quads, mirror)


def _rows(weights: np.ndarray, row: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> csr_array:
    return coo_array((weights, (row, column)), shape=shape).tocsr()


def _scale_rows(matrix: csr_array, factor: np.ndarray) -> csr_array:
    return (coo_array((factor, (np.arange(len(factor)),) * 2)).tocsr() @ matrix).tocsr()


def quad_edges(
    quads: Int[np.ndarray, "quads 4"],
) -> tuple[Int[np.ndarray, "edges 2"], Int[np.ndarray, "quads 4"]]:
    """Unique edges (sorted pairs), and for each quad the edge that starts at each corner."""
    pairs = np.sort(np.stack([quads, np.roll(quads, -1, axis=1)], axis=-1).reshape(-1, 2), axis=1)
    edges, index = np.unique(pairs, axis=0, return_inverse=True)
    return edges, index.reshape(-1, 4)


def level_matrix(quads: Int[np.ndarray, "quads 4"], vertices: int) -> csr_array:
    """Weights of one Catmull-Clark step; rows are vertex points, then edge points, then face points."""
    edges, quad_edge = quad_edges(quads)
    faces, count = len(quads), len(edges)
    face_points = _rows(
        np.full(faces * 4, 0.25), np.repeat(np.arange(faces), 4), quads.ravel(), (faces, vertices)
    )
    edge_faces = _rows(np.ones(faces * 4), quad_edge.ravel(), np.repeat(np.arange(faces), 4), (count, faces))
    ends = _rows(np.ones(count * 2), np.repeat(np.arange(count), 2), edges.ravel(), (count, vertices))
    boundary = np.asarray(edge_faces.sum(axis=1)).ravel() < 2
    edge_points = _scale_rows(ends, np.where(boundary, 0.5, 0.25)) + _scale_rows(
        edge_faces @ face_points, np.where(boundary, 0.0, 0.25)
    )
    return vstack([_vertex_points(quads, ends, boundary, face_points), edge_points, face_points]).tocsr()


def _vertex_points(
    quads: np.ndarray, ends: csr_array, boundary: np.ndarray, face_points: csr_array
) -> csr_array:
    """Inside (Q + 2R + (n-3)v)/n of mean face point Q and edge middle R; on a boundary (b1 + 6v + b2)/8."""
    vertices = ends.shape[1]
    corner = _rows(
        np.ones(quads.size), quads.ravel(), np.repeat(np.arange(len(quads)), 4), (vertices, len(quads))
    )
    valence = np.asarray(corner.sum(axis=1)).ravel()
    rim_neighbours = ends.T.tocsr() @ _scale_rows(ends, boundary.astype(float))  # v + each rim edge's end
    on_rim = np.asarray(rim_neighbours.sum(axis=1)).ravel() > 0
    rim_sum = np.where(on_rim, np.asarray(rim_neighbours.sum(axis=1)).ravel(), 1.0)
    identity = coo_array((np.ones(vertices), (np.arange(vertices),) * 2)).tocsr()
    inner = (
        _scale_rows(corner @ face_points, 1.0 / valence**2)
        + _scale_rows(ends.T.tocsr() @ ends, 1.0 / valence**2)  # sum over edges of (v + w), twice the middles
        + _scale_rows(identity, (valence - 3.0) / valence)
    )
    outer = _scale_rows(rim_neighbours, 0.5 / rim_sum) + 0.5 * identity
    return _scale_rows(inner, (~on_rim).astype(float)) + _scale_rows(outer, on_rim.astype(float))


def subdivide(level: Level) -> Level:
    """One Catmull-Clark step further; the first vertices keep the numbers they descend from."""
    vertices, (edges, quad_edge) = level.operator.shape[0], quad_edges(level.quads)
    operator = (level_matrix(level.quads, vertices) @ level.operator).tocsr()
    edge_point = vertices + quad_edge
    face_point = np.repeat(vertices + len(edges) + np.arange(len(level.quads)), 4).reshape(-1, 4)
    quads = np.stack([level.quads, edge_point, face_point, np.roll(edge_point, 1, axis=1)], axis=-1).reshape(
        -1, 4
    )
    return Level(operator, quads, _mirror_points(level, edges))


def _mirror_points(level: Level, edges: np.ndarray) -> np.ndarray:
    vertices = len(level.mirror)
    edge_index = {tuple(edge): vertices + i for i, edge in enumerate(edges.tolist())}
    start = vertices + len(edges)
    quad_index = {tuple(sorted(quad)): start + i for i, quad in enumerate(level.quads.tolist())}
    mirrored_edges = [edge_index[tuple(edge)] for edge in np.sort(level.mirror[edges], axis=1).tolist()]
    mirrored_quads = [quad_index[tuple(sorted(quad))] for quad in level.mirror[level.quads].tolist()]
    return np.concatenate([level.mirror, mirrored_edges, mirrored_quads])


def triangulate(quads: Int[np.ndarray, "quads 4"], mirror: Int[np.ndarray, "vertices"]) -> np.ndarray:
    """Two triangles per quad, the diagonal chosen so that mirror images get mirrored diagonals."""
    flip = np.minimum(quads[:, [0, 2]], mirror[quads[:, [0, 2]]]).min(axis=1) > np.minimum(
        quads[:, [1, 3]], mirror[quads[:, [1, 3]]]
    ).min(axis=1)
    turned = np.where(flip[:, None], np.roll(quads, -1, axis=1), quads)
    return np.concatenate([turned[:, [0, 1, 2]], turned[:, [0, 2, 3]]])


def quads_to_refine(
    above: Level, positions: Float[np.ndarray, "vertices 3"], longest: float
) -> Bool[np.ndarray, "quads"]:
    """True for quads of the level above whose mean edge exceeds `longest` (mm).

    The base mesh is dense at the mouth and the eyes: one level already resolves more than photographs.
    """
    length = np.linalg.norm(
        positions[above.quads] - positions[np.roll(above.quads, -1, axis=1)], axis=2
    ).mean(axis=1)
    index = {tuple(sorted(quad)): i for i, quad in enumerate(above.quads.tolist())}
    opposite = [index[tuple(sorted(quad))] for quad in above.mirror[above.quads].tolist()]
    return length + length[opposite] > 2 * longest


def mixed_triangles(
    above: Level, fine: Level, refined: Bool[np.ndarray, "quads"]
) -> Int[np.ndarray, "triangles 3"]:
    """Triangles over vertices of `fine`: refined quads in full, the others as they were, without cracks.

    A quad with a split edge that is not refined itself becomes a fan about its face point.
    """
    edges, quad_edge = quad_edges(above.quads)
    split = np.zeros(len(edges), dtype=bool)
    split[quad_edge[refined]] = True
    fan = ~refined & split[quad_edge].any(axis=1)
    face_point = len(above.mirror) + len(edges) + np.arange(len(above.quads))
    pieces = [
        triangulate(fine.quads[np.repeat(refined, 4)], fine.mirror),
        triangulate(above.quads[~refined & ~fan], above.mirror),
    ]
    for i in range(4):
        centre, start, end = face_point[fan], above.quads[fan, i], above.quads[fan, (i + 1) % 4]
        middle, halved = len(above.mirror) + quad_edge[fan, i], split[quad_edge[fan, i]]
        pieces.append(np.stack([centre, start, end], axis=1)[~halved])
        pieces.append(np.stack([centre, start, middle], axis=1)[halved])
        pieces.append(np.stack([centre, middle, end], axis=1)[halved])
    return np.concatenate(pieces)


def cut(above: Level, fine: Level, refined: np.ndarray, inside: Float[np.ndarray, "vertices"]) -> CutMesh:
    """The part where `inside` > 0, its rim pulled along the mesh's edges onto the curve `inside` = 0."""
    triangles = mixed_triangles(above, fine, refined)
    triangles = triangles[(inside[triangles] > 0).any(axis=1)]
    operator = _pull_rim(fine.operator, triangles, inside)
    kept = np.unique(triangles)
    number = np.full(len(inside), -1)
    number[kept] = np.arange(len(kept))
    coarse = number[triangulate(above.quads, above.mirror)]
    return CutMesh(
        operator[kept].tocsr(),
        number[triangles],
        number[fine.mirror[kept]],
        int((kept < above.operator.shape[0]).sum()),
        coarse[(coarse >= 0).all(axis=1)],
        kept,
    )


def _pull_rim(operator: csr_array, triangles: np.ndarray, inside: np.ndarray) -> csr_array:
    """Each outside vertex becomes the mean of the curve's crossings with its edges to vertices inside."""
    pairs = np.unique(
        np.concatenate([triangles[:, [i, j]] for i in range(3) for j in range(3) if i != j]), axis=0
    )
    out, into = pairs[(inside[pairs[:, 0]] <= 0) & (inside[pairs[:, 1]] > 0)].T
    share = np.clip(inside[into] / (inside[into] - inside[out]), SHORTEST_CUT_EDGE, 1.0)
    count = np.bincount(out, minlength=len(inside)).astype(float)
    weight = 1.0 / count[out]
    stay = (count == 0).astype(float)
    stay += np.bincount(out, share * weight, minlength=len(inside))
    diagonal = np.arange(len(inside))
    shape = (len(inside), len(inside))
    pull = _rows(np.r_[stay, (1 - share) * weight], np.r_[diagonal, out], np.r_[diagonal, into], shape)
    return (pull @ operator).tocsr()
