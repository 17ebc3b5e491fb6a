"""The frontal face of a model of a whole head: what "a face" is to this project, by the open model's outline.

The paper trains on the frontal part of the Basel face. The outline is the one the open model was cut with, a superellipse
in longitude and latitude, laid over another model by a similarity between their 68 landmarks.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from mofaface.face_models.importers.resample import Remeshed, subset
from mofaface.face_models.open_model.build import CropConfig, inside_curve
from mofaface.face_models.open_model.frontal import VIEWS, visible_from
from mofaface.face_models.registration import similarity

# The outline in the open model's space, whose origin is not that of the mesh it was cut from (fitted to its rim).
OUTLINE = CropConfig(centre_y=9.0, centre_z=-105.0)
# Surface within this of what the average face shows is kept, mm: lips inside, lids behind their rim.
BEHIND = 8.0
# A separate piece (an eyeball) stays when this share of it can be seen and it has this share of the area.
LEAST_SEEN, LEAST_AREA = 0.1, 0.002


def crop(
    positions: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "faces 3"],
    landmarks: Int[np.ndarray, "68"],
    open_landmarks: Float[np.ndarray, "68 3"],
) -> Remeshed:
    """The frontal face of an average head in mm; `open_landmarks` are those of the open model's average face."""
    inside = inside_outline(positions, landmarks, open_landmarks)
    seen = seen_from_the_front(positions, triangles)
    seen[landmarks] = True
    near = cKDTree(positions[seen]).query(positions, distance_upper_bound=BEHIND)[0] <= BEHIND
    faces = triangles[(inside & near)[triangles].all(axis=1)]
    faces = faces[useful_faces(positions, faces, seen, landmarks)]
    keep = np.unique(faces)
    lost = np.flatnonzero(~np.isin(landmarks, keep))
    if len(lost):
        raise ValueError(
            f"the crop must keep all 68 landmarks and loses {lost.tolist()}; check the landmarks' numbers "
            "(do they count from 0?), or use --no-crop"
        )
    return subset(keep, faces, len(positions))


def inside_outline(
    positions: Float[np.ndarray, "vertices 3"],
    landmarks: Int[np.ndarray, "68"],
    open_landmarks: Float[np.ndarray, "68 3"],
) -> Bool[np.ndarray, "vertices"]:
    """True inside the open model's outline, widened where it takes that to hold all landmarks."""
    scale, R, t = similarity(positions[landmarks].astype(np.float64), open_landmarks.astype(np.float64))
    level = inside_curve(scale * positions @ R.T + t, OUTLINE)
    # A jaw point may lie on the outline itself; a little more surface keeps its one-ring.
    return level >= min(0.0, float(level[landmarks].min()) - 0.05)


def seen_from_the_front(
    positions: Float[np.ndarray, "vertices 3"], triangles: Int[np.ndarray, "faces 3"]
) -> Bool[np.ndarray, "vertices"]:
    """True where nothing hides a vertex from straight ahead or half a turn to either side."""
    middle = 0.5 * (positions.min(0) + positions.max(0))
    return np.any([visible_from(positions - middle, triangles, yaw) for yaw in VIEWS], axis=0)


def useful_faces(
    positions: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "faces 3"],
    seen: Bool[np.ndarray, "vertices"],
    landmarks: Int[np.ndarray, "68"],
) -> Bool[np.ndarray, "faces"]:
    """True for the triangles of pieces that carry landmarks, or are large enough and can be seen."""
    piece = pieces(triangles, len(positions))
    a, b, c = (positions[triangles[:, i]] for i in range(3))
    area = np.bincount(
        piece[triangles[:, 0]], np.linalg.norm(np.cross(b - a, c - a), axis=1), piece.max() + 1
    )
    used = np.unique(triangles)
    count = np.bincount(piece[used], minlength=len(area))
    share = np.bincount(piece[used], seen[used], len(area)) / np.maximum(count, 1)
    good = (area >= LEAST_AREA * area.sum()) & (share >= LEAST_SEEN)
    good[piece[np.intersect1d(landmarks, used)]] = True
    return good[piece[triangles[:, 0]]]


def pieces(triangles: Int[np.ndarray, "faces 3"], vertices: int) -> Int[np.ndarray, "vertices"]:
    """The number of the connected piece that each vertex belongs to."""
    ends = np.concatenate((triangles[:, :2], triangles[:, 1:]))
    links = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(vertices, vertices))
    return connected_components(links, directed=False)[1]
