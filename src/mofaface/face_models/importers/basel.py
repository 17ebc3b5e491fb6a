"""The Basel Face Model: 2009 (.mat) and 2017 to 2019 (.h5, also its face12 part)."""

import json
from pathlib import Path

import numpy as np

from mofaface.face_models.importers.matlab import modes, points, read_h5, read_mat
from mofaface.face_models.importers.raw import ModelFileError, RawModel, outward

LICENCE = "The Basel Face Model's own licence, which its owner accepted (University of Basel, research use)"
MM_PER_MICROMETRE = 1e-3


def only_file(files: list[Path], what: str, suffixes: tuple[str, ...]) -> Path:
    """The one file with such an ending; raises ModelFileError where there is none or several."""
    chosen = [path for path in files if path.suffix.lower() in suffixes]
    if len(chosen) != 1:
        raise ModelFileError(
            f"{what} is one file ending in {' or '.join(suffixes)}; got {len(chosen)} among "
            f"{', '.join(path.name for path in files)}"
        )
    return chosen[0]


def read_bfm2009(files: list[Path]) -> RawModel:
    """01_MorphableModel.mat: 199 modes of shape and of texture on 53,490 vertices, no expression."""
    path = only_file(files, "BFM 2009", (".mat",))
    names = ("shapeMU", "shapePC", "shapeEV", "texMU", "texPC", "texEV", "tl")
    a = read_mat(path, names)
    mean = points(a["shapeMU"]) * MM_PER_MICROMETRE
    return RawModel(
        name="bfm2009",
        version="2009",
        licence=LICENCE,
        mean_shape=mean,
        shape_basis=_times(a["shapePC"], a["shapeEV"].ravel(), path) * MM_PER_MICROMETRE,
        expression_basis=np.zeros((len(mean), 3, 0)),
        mean_reflectance=points(a["texMU"]) / 255,
        reflectance_basis=_times(a["texPC"], a["texEV"].ravel(), path) / 255,
        # One-based, and wound the other way round; `outward` checks rather than trusts.
        triangles=outward(mean, a["tl"].astype(np.int64)[:, [0, 2, 1]] - 1),
        notes="Basel Face Model 2009, from its .mat file.",
    )


def read_bfm_h5(files: list[Path]) -> RawModel:
    """model2017-1_*.h5 and model2019_*.h5: the face is shape mean + expression mean + all bases, in mm."""
    path = only_file(files, "BFM 2017 or 2019", (".h5", ".hdf5"))
    a = read_h5(path)
    for part in ("shape", "color", "expression"):
        for name in ("mean", "pcaBasis", "pcaVariance"):
            _first(a, f"{part}/model/{name}", path=path)
    mean = points(a["shape/model/mean"]) + points(a["expression/model/mean"])
    cells = _first(a, "shape/representer/cells", "expression/representer/cells", path=path).astype(np.int64)
    return RawModel(
        name="bfm",
        version=path.stem,
        licence=LICENCE,
        mean_shape=mean,
        shape_basis=_scaled(a, "shape", path),
        expression_basis=_scaled(a, "expression", path),
        mean_reflectance=points(a["color/model/mean"]),
        reflectance_basis=_scaled(a, "color", path),
        triangles=outward(mean, cells.T if cells.shape[0] == 3 else cells),
        notes=f"Basel Face Model, from {path.name}." + _landmark_note(a),
    )


def _first(a: dict[str, np.ndarray], *names: str, path: Path) -> np.ndarray:
    for name in names:
        if name in a:
            return a[name]
    raise ModelFileError(f"{path} must hold {names[0]}, and does not; is it of this format?")


def _scaled(a: dict[str, np.ndarray], part: str, path: Path) -> np.ndarray:
    """The basis times its standard deviations; version 0.8 of the format has done that already."""
    basis, variance = a[f"{part}/model/pcaBasis"], a[f"{part}/model/pcaVariance"].ravel()
    major, minor = (int(np.ravel(a.get(f"{part}/version/{name}", default))[0]) for name, default in _VERSION)
    already = (major, minor) < (0, 9)
    return _times(basis, np.ones_like(variance) if already else np.sqrt(variance), path)


def _times(basis: np.ndarray, sigma: np.ndarray, path: Path) -> np.ndarray:
    """Modes (N, 3, K) times their standard deviations, of which each must have one."""
    if basis.ndim != 2 or basis.shape[1] != len(sigma):
        raise ModelFileError(
            f"each mode has a standard deviation; {path} has {len(sigma)} for a basis of shape {basis.shape}: "
            "copy the file again"
        )
    return modes(basis, sigma)


_VERSION = (("majorVersion", np.array(0)), ("minorVersion", np.array(9)))


def _landmark_note(a: dict[str, np.ndarray]) -> str:
    """How many named points the file has; they are places and not the 68, which are found by the detector."""
    if "metadata/landmarks/json" not in a:
        return ""
    raw = np.ravel(a["metadata/landmarks/json"])[0]
    try:
        named = json.loads(raw if isinstance(raw, str) else bytes(raw).decode("utf-8"))
    except ValueError:
        return ""
    return f" Its file names {len(named)} landmarks."
