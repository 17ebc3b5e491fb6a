"""3DDFA_V2's reduced Basel model: bfm_noneck_v3.pkl and its triangles in a second pickle."""

from pathlib import Path

import numpy as np

from mofaface.face_models.importers.basel import LICENCE
from mofaface.face_models.importers.matlab import modes, points
from mofaface.face_models.importers.pickles import load_pickle
from mofaface.face_models.importers.raw import ModelFileError, RawModel, outward

MM_PER_MICROMETRE = 1e-3


def read_3ddfa_v2(files: list[Path]) -> RawModel:
    """Mean and modes of shape and expression; the triangles' pickle holds `tri` (F, 3) or (3, F). No reflectance."""
    parts: dict[str, np.ndarray] = {}
    for path in files:
        parts |= load_pickle(path)
    missing = [name for name in ("u", "w_shp", "w_exp", "tri") if name not in parts]
    if missing:
        raise ModelFileError(
            f"3DDFA_V2's model must hold {', '.join(missing)}; "
            "give bfm_noneck_v3.pkl and the pickle of its triangles (tri.pkl)"
        )
    mean = points(parts["u"]) * MM_PER_MICROMETRE
    triangles = np.asarray(parts["tri"]).astype(np.int64)
    triangles = triangles.T if triangles.shape[0] == 3 else triangles
    return RawModel(
        name="3ddfa_v2",
        version="noneck_v3",
        licence=LICENCE,
        mean_shape=mean,
        shape_basis=modes(parts["w_shp"]) * MM_PER_MICROMETRE,
        expression_basis=modes(parts["w_exp"]) * MM_PER_MICROMETRE,
        triangles=outward(mean, triangles - (1 if triangles.min() == 1 else 0)),
        landmarks_68=_landmarks(parts),
        notes="3DDFA_V2's reduced Basel model; its bases carry their scale as its own code uses them.",
    )


def _landmarks(parts: dict[str, np.ndarray]) -> np.ndarray | None:
    """`keypoints` are 204 numbers of coordinates: each third one, over three, is a vertex."""
    keypoints = np.asarray(parts.get("keypoints", np.zeros(0))).ravel().astype(np.int64)
    return keypoints[::3] // 3 if len(keypoints) == 204 else None
