"""The 68 facial landmarks on the base mesh, chosen on renders from the front and from the side."""

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from mofaface.face_model import FaceModelArrays
from mofaface.face_models.open_model.sources import SourceError
from mofaface.face_models.open_model.subdivision import CutMesh
from mofaface.facemesh import MESH_OF_68
from mofaface.landmarks import MIRROR_68

# Numbers of vertices in base.obj; of two, the skin vertex nearest to their middle is taken.
# fmt: off
JAW = (
    870, 269, 270, 5242, 5240, 892, 922, 918, 732,
    7620, 7624, 7594, 11849, 11851, 7039, 7038, 7575,
)
# fmt: on
BROWS = (262, 231, 229, 223, 233, 7006, 6997, 7002, 7004, 7031)
NOSE = (132, 131, 291, 297, 286, 314, 343, 7077, 7055)
EYES = (24, 0, 54, 66, 47, 41, 6850, 6838, 6784, 6808, 6825, 6831)
MOUTH_OUTER = (3736, 410, 456, 455, 7215, 7170, 10404, 7166, (7235, 7241), 492, (480, 486), 406)
MOUTH_INNER = (429, 470, 474, 7226, 7189, 7236, 493, 481)
BASE_LANDMARKS = (*JAW, *BROWS, *NOSE, *EYES, *MOUTH_OUTER, *MOUTH_INNER)
UPPER_INNER_LIP = (470, 474, 7226)
LOWER_INNER_LIP = (481, 493, 7236)

# Where a landmark detector sees each landmark on 60 rendered random neutral faces, relative to the vertices above: mm
# on the mean face, subject's right half and middle; the rest is mirrored (docs/open_face_model.md). Points on a rim
# (lids, lips) were moved along it, corners were kept, and of the jaw what the detector places steadily was moved.
SEEN_OFFSETS: dict[int, tuple[float, float, float]] = {
    1: (0.0, 3.8, 0.0), 4: (0.0, 3.2, 0.0), 5: (-2.4, 5.0, 0.0), 6: (-10.7, 8.0, -4.0), 7: (-8.0, 2.8, -4.5),
    17: (-3.8, -0.1, -7.7), 18: (-9.8, -2.0, -10.8), 19: (-8.4, -1.2, -5.0), 20: (-4.6, 2.3, -1.7), 21: (1.1, 0.0, 0.0),
    27: (0.0, -1.2, 0.0), 28: (0.0, -2.0, 1.1), 29: (0.0, 4.1, -3.1), 30: (0.0, 3.5, -0.2), 31: (2.9, 1.3, 2.4),
    32: (-0.7, 1.6, -0.3), 33: (0.0, 2.9, 4.0), 37: (-2.7, -1.3, -2.1), 40: (1.1, 0.3, -0.2), 41: (-1.5, 0.7, -1.0),
    49: (3.2, 1.3, 1.6), 50: (1.0, 0.0, 0.2), 58: (2.2, -0.2, 0.3), 59: (3.7, -1.5, 1.5), 61: (4.8, -0.1, 0.7),
    67: (5.1, -0.2, 1.4),
}  # fmt: skip

# Brows, nose and outer lips are curves, and where along them a point lies is the annotators' convention. Portraits are
# fitted with the detector's own points there, which the offsets above are of; the model that is written has the usual
# markup, to which MESH_OF_68 was fitted afterwards (docs/open_face_model.md). mm, from the places of SEEN_OFFSETS.
SEEN_POINTS: tuple[tuple[int, ...], ...] = tuple(
    {18: (63,), 19: (105,), 21: (107,), 22: (336,), 24: (334,), 25: (293,), 29: (5,), 31: (75,), 32: (97,), 33: (2,),
     34: (326,), 35: (305,), 49: (39,), 50: (37,), 52: (267,), 53: (269,), 55: (405,), 59: (181,)}.get(point, ids)
    for point, ids in enumerate(MESH_OF_68)
)  # fmt: skip
MARKUP_OFFSETS: dict[int, tuple[float, float, float]] = {
    18: (4.4, 2.3, 5.3), 19: (4.4, 0.2, 3.0), 21: (-4.4, 0.1, -0.7), 29: (0.0, -1.4, 1.0), 31: (-0.2, -2.7, -0.5),
    32: (0.0, -1.3, -0.3), 33: (0.0, -2.9, -3.5), 49: (-2.0, -3.1, -1.7), 50: (1.6, -0.3, 0.3), 55: (0.9, 1.5, -0.2),
}  # fmt: skip


def settle_landmarks(
    landmarks: Int[np.ndarray, "68"],
    positions: Float[np.ndarray, "vertices 3"],
    mirror: Int[np.ndarray, "vertices"],
    skin: Int[np.ndarray, "skin"],
    lips: tuple[Int[np.ndarray, "upper"], Int[np.ndarray, "lower"]],
) -> Int[np.ndarray, "68"]:
    """The landmarks moved to where a detector sees them, as vertices among `skin`; inner lips stay on their own lip."""
    allowed = {61: np.intersect1d(lips[0], skin), 67: np.intersect1d(lips[1], skin)}
    return _moved(landmarks, SEEN_OFFSETS, positions, mirror, skin, allowed)


def mark_up(arrays: FaceModelArrays) -> Int[np.ndarray, "68"]:
    """The settled landmarks moved along brows, nose and lips to where the usual markup has them."""
    assert arrays.mirror is not None and arrays.regions is not None and arrays.coarse_vertices is not None
    skin = np.intersect1d(arrays.regions["skin"], arrays.coarse_vertices)
    positions = arrays.subdivided().mean_shape
    return _moved(arrays.landmarks_68, MARKUP_OFFSETS, positions, arrays.mirror, skin, {})


def _moved(
    landmarks: Int[np.ndarray, "68"],
    offsets: dict[int, tuple[float, float, float]],
    positions: Float[np.ndarray, "vertices 3"],
    mirror: Int[np.ndarray, "vertices"],
    skin: Int[np.ndarray, "skin"],
    allowed: dict[int, Int[np.ndarray, "some"]],
) -> Int[np.ndarray, "68"]:
    """Each landmark as the vertex nearest to its new place, among the `skin` or what is `allowed` for it."""
    moved = landmarks.copy()
    for point, offset in offsets.items():
        among = allowed.get(point, skin)
        moved[point] = among[cKDTree(positions[among]).query(positions[landmarks[point]] + offset)[1]]
        if MIRROR_68[point] != point:
            moved[MIRROR_68[point]] = mirror[moved[point]]
    return moved


def place_landmarks(
    base_vertices: Int[np.ndarray, "cage"],
    positions: Float[np.ndarray, "vertices 3"],
    mesh: CutMesh,
    part: Int[np.ndarray, "vertices"],
) -> Int[np.ndarray, "68"]:
    """The landmarks as vertices of the coarse mesh's skin; `positions` is any face on the full mesh."""
    place = mesh.cage_rows(len(base_vertices))
    rows = place[[[_row(base_vertices, v) for v in _pair(entry)] for entry in BASE_LANDMARKS]]
    if (rows < 0).any():
        raise SourceError("The crop must keep all 68 landmarks; it cuts some off. Widen CropConfig.")
    allowed = np.flatnonzero(part[: mesh.coarse_count] == 0)
    return allowed[cKDTree(positions[allowed]).query(positions[rows].mean(axis=1))[1]]


def _pair(entry: int | tuple[int, int]) -> tuple[int, int]:
    return entry if isinstance(entry, tuple) else (entry, entry)


def _row(base_vertices: np.ndarray, vertex: int) -> int:
    return int(np.flatnonzero(base_vertices == vertex)[0])
