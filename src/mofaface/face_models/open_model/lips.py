"""Closing the lips of the mean face, which the mix of macro targets leaves about a millimetre apart."""

from itertools import pairwise

import numpy as np
from jaxtyping import Float
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import dijkstra

from mofaface.face_models.open_model.cage import Cage
from mofaface.face_models.open_model.landmarks import LOWER_INNER_LIP, MOUTH_INNER, UPPER_INNER_LIP
from mofaface.face_models.open_model.subdivision import CutMesh

REACH_MM = 9.0  # the correction fades out over this distance along the skin
OVERLAP_MM = 0.15  # lips press a little into each other, so that no slit of background shows
CORNER_MM = 3.0  # near the mouth's corners, where both rims meet, the correction vanishes
ROUNDS = 4


def close_lips(cage: Cage, mean: Float[np.ndarray, "cage 3"], mesh: CutMesh) -> Float[np.ndarray, "cage 3"]:
    """The mean cage with both lips moved towards each other until the subdivided surface touches."""
    pull = lip_pull(cage, mean)
    number = dict(zip(cage.base_vertices.tolist(), mesh.cage_rows(len(mean)).tolist(), strict=True))
    upper, lower = ([number[v] for v in lip] for lip in (UPPER_INNER_LIP, LOWER_INNER_LIP))
    closed = mean.copy()
    for _ in range(ROUNDS):
        surface = mesh.operator @ closed
        gap = (surface[upper, 1] - surface[lower, 1]).mean() + OVERLAP_MM
        closed[:, 1] -= 0.5 * gap * pull
    return closed


def close_lip_offsets(
    cage: Cage, mean: Float[np.ndarray, "cage 3"], mesh: CutMesh, offsets: Float[np.ndarray, "fields cage 3"]
) -> Float[np.ndarray, "fields cage 3"]:
    """Displacement fields that neither open the lips nor press them into each other; linear in the fields."""
    pull = lip_pull(cage, mean)
    number = dict(zip(cage.base_vertices.tolist(), mesh.cage_rows(len(mean)).tolist(), strict=True))
    rows = [[number[v] for v in lip] for lip in (UPPER_INNER_LIP, LOWER_INNER_LIP)]
    upper, lower = ((mesh.operator[lip] @ offsets[..., 1].T).mean(axis=0) for lip in rows)
    reach = (mesh.operator[rows[0]] @ pull).mean() - (mesh.operator[rows[1]] @ pull).mean()
    closed = offsets.copy()
    closed[..., 1] -= ((upper - lower) / reach)[:, None] * pull
    return closed


def lip_pull(cage: Cage, mean: Float[np.ndarray, "cage 3"]) -> Float[np.ndarray, "cage"]:
    """1 on the upper lip's inner rim, -1 on the lower one's, fading along the skin, 0 at the corners."""
    upper, lower = lip_distances(cage, mean)
    fade = np.exp(-((np.minimum(upper, lower) / REACH_MM) ** 2))
    pull = np.tanh((lower - upper) / CORNER_MM) * fade
    return np.where(cage.part == 0, 0.5 * (pull + pull[cage.mirror]), 0.0)


def lip_distances(
    cage: Cage, mean: Float[np.ndarray, "cage 3"]
) -> tuple[Float[np.ndarray, "cage"], Float[np.ndarray, "cage"]]:
    """Distances along the mesh's edges, in mm, to the inner rim of the upper and of the lower lip."""
    graph = _edge_graph(cage, mean)
    right, left = MOUTH_INNER[0], MOUTH_INNER[4]
    number = {int(base): row for row, base in enumerate(cage.base_vertices)}
    distances = []
    for lip in (UPPER_INNER_LIP, LOWER_INNER_LIP):
        stops = [number[v] for v in (right, *lip, left)]
        rim = np.unique(np.concatenate([_path(graph, a, b) for a, b in pairwise(stops)]))
        distance = dijkstra(graph, indices=np.setdiff1d(rim, [stops[0], stops[-1]])).min(axis=0)
        distances.append(np.where(np.isfinite(distance), distance, 1e6))
    return distances[0], distances[1]


def _edge_graph(cage: Cage, mean: np.ndarray) -> csr_array:
    edges = np.stack([cage.quads, np.roll(cage.quads, -1, axis=1)], axis=-1).reshape(-1, 2)
    length = np.linalg.norm(mean[edges[:, 0]] - mean[edges[:, 1]], axis=1)
    edges, first = np.unique(np.sort(edges, axis=1), axis=0, return_index=True)
    graph = coo_array((length[first], edges.T), shape=(len(mean),) * 2).tocsr()
    return (graph + graph.T).tocsr()


def _path(graph: csr_array, start: int, end: int) -> np.ndarray:
    before = dijkstra(graph, indices=start, return_predecessors=True)[1]
    path = [end]
    while path[-1] != start:
        path.append(before[path[-1]])
    return np.array(path)
