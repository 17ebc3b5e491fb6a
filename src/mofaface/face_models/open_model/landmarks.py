"""The 68 facial landmarks on the base mesh, chosen on renders from the front and from the side."""

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from mofaface.face_models.open_model.sources import SourceError
from mofaface.face_models.open_model.subdivision import CutMesh
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


def settle_landmarks(
    landmarks: Int[np.ndarray, "68"],
    positions: Float[np.ndarray, "vertices 3"],
    mirror: Int[np.ndarray, "vertices"],
    skin: Int[np.ndarray, "skin"],
    lips: tuple[Int[np.ndarray, "upper"], Int[np.ndarray, "lower"]],
) -> Int[np.ndarray, "68"]:
    """The landmarks moved to where a detector sees them, as vertices among `skin`; inner lips stay on their own lip."""
    settled = landmarks.copy()
    for point, offset in SEEN_OFFSETS.items():
        lip = {61: lips[0], 67: lips[1]}.get(point)
        allowed = skin if lip is None else np.intersect1d(lip, skin)
        target = positions[landmarks[point]] + offset
        settled[point] = allowed[cKDTree(positions[allowed]).query(target)[1]]
        if MIRROR_68[point] != point:
            settled[MIRROR_68[point]] = mirror[settled[point]]
    return settled


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
