"""3DDFA_V2's reduced Basel model (Guo et al. 2020) in three pickles: bases, triangles, the scale of coefficients."""

from pathlib import Path
from typing import Any

import numpy as np

from mofaface.face_models.importers.basel import LICENCE
from mofaface.face_models.importers.matlab import modes, points
from mofaface.face_models.importers.pickles import load_arrays
from mofaface.face_models.importers.raw import ModelFileError, RawModel, outward

MM_PER_MICROMETRE = 1e-3
# Its networks give 12 numbers of pose, then 40 of shape and 10 of expression.
POSE, SHAPE, EXPRESSION = 12, 40, 10
FILES = "bfm_noneck_v3.pkl, tri.pkl and param_mean_std_62d_120x120.pkl"


def read_3ddfa_v2(files: list[Path]) -> RawModel:
    """The mean and the modes of shape and expression, and 68 landmarks; the files have no reflectance."""
    parts = _parts(files)
    missing = [name for name in ("u", "w_shp", "w_exp", "tri") if name not in parts]
    if missing:
        raise ModelFileError(f"3DDFA_V2's model must hold {', '.join(missing)}; give {FILES}")
    u, shape, expression, note = _scaled(parts)
    mean = points(u) * MM_PER_MICROMETRE
    return RawModel(
        name="3ddfa_v2",
        version="noneck_v3",
        licence=LICENCE,
        mean_shape=mean,
        shape_basis=modes(shape) * MM_PER_MICROMETRE,
        expression_basis=modes(expression) * MM_PER_MICROMETRE,
        triangles=outward(mean, _triangles(np.asarray(parts["tri"]), len(mean))),
        landmarks_68=_landmarks(parts),
        notes=f"3DDFA_V2's reduced Basel model; {note}.",
    )


def _parts(files: list[Path]) -> dict[str, Any]:
    """The entries of all pickles; tri.pkl is a lone array, and it replaces what the model's own file calls so."""
    parts: dict[str, Any] = {}
    for path in files:
        loaded = load_arrays(path)
        if isinstance(loaded, np.ndarray):
            loaded = {"tri": loaded}
        if not isinstance(loaded, dict):
            raise ModelFileError(f"{path} holds no arrays by name; 3DDFA_V2's model is {FILES}")
        # What the model's own file says comes first, whatever the order of the files.
        parts = loaded | parts if "u" in loaded else parts | loaded
    return parts


def _scaled(parts: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """The mean and the bases × σ in µm, and what was done.

    The network's coefficients are mean + std · z, so with both folded in, a code here is the z that it predicts.
    """
    u, shape, expression = (np.asarray(parts[name], np.float64) for name in ("u", "w_shp", "w_exp"))
    if "std" not in parts:
        # Columns of unit length move a vertex by less than a micrometre: they wait for their σ.
        if np.linalg.norm(shape, axis=0).max() < 2:
            raise ModelFileError(
                "3DDFA_V2's shape modes have unit length and need their standard deviations: "
                "give param_mean_std_62d_120x120.pkl too"
            )
        return u, shape, expression, "its bases are as they stand in the file"
    mean, std = (np.ravel(parts[name])[POSE:] for name in ("mean", "std"))
    if len(mean) != SHAPE + EXPRESSION or len(std) != len(mean):
        raise ModelFileError(
            f"3DDFA_V2's coefficients are 62 with a mean and a deviation each; the file has {len(std) + POSE}"
        )
    both = np.hstack((shape[:, :SHAPE], expression[:, :EXPRESSION]))
    scaled = both * std
    note = "a code is its network's normalised coefficients, whose means (not neutral) are in the mean face"
    return np.ravel(u) + both @ mean, scaled[:, :SHAPE], scaled[:, SHAPE:], note


def _triangles(tri: np.ndarray, vertices: int) -> np.ndarray:
    """Rows of three numbers from 0, out of (3, F) or (F, 3), from 0 or from 1."""
    if tri.ndim != 2 or 3 not in tri.shape:
        raise ModelFileError(f"3DDFA_V2's triangles are (3, F), and these are {tri.shape}; give its tri.pkl")
    rows = (tri.T if tri.shape[0] == 3 else tri).astype(np.int64)
    rows = rows - 1 if rows.min() >= 1 and rows.max() == vertices else rows
    if rows.min() < 0 or rows.max() >= vertices:
        raise ModelFileError(
            f"3DDFA_V2's triangles name vertices up to {rows.max()} of {vertices}; "
            "give the tri.pkl that belongs to the model"
        )
    return rows


def _landmarks(parts: dict[str, Any]) -> np.ndarray | None:
    """`keypoints` are 204 numbers of coordinates: each third one, over three, is a vertex."""
    keypoints = np.asarray(parts.get("keypoints", np.zeros(0))).ravel().astype(np.int64)
    return keypoints[::3] // 3 if len(keypoints) == 204 else None
