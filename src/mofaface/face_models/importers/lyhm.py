"""The Liverpool-York Head Model (.mat): structures or arrays of shape and, where there is one, texture.

Its layout was not at hand to try: `shp` and `tex` hold `mu`, `eigVec` and `eigVal` (variances), `tri` numbers from 1, mm.
"""

from pathlib import Path
from typing import Any

import numpy as np

from mofaface.face_models.importers.basel import only_file
from mofaface.face_models.importers.matlab import modes, points, read_mat
from mofaface.face_models.importers.raw import ModelFileError, RawModel, outward


def read_lyhm(files: list[Path]) -> RawModel:
    """Modes of shape and texture; no expression."""
    path = only_file(files, "LYHM", (".mat",))
    shape = _part(path, "shp")
    mean = points(shape["mu"])
    triangles = read_mat(path, ("tri",))["tri"].astype(np.int64)
    try:
        texture: dict[str, np.ndarray] | None = _part(path, "tex")
    except ModelFileError:
        texture = None
    colour: dict[str, Any] = {}
    if texture is not None:
        unit = 255.0 if texture["mu"].max() > 2 else 1.0
        colour["mean_reflectance"] = points(texture["mu"]) / unit
        colour["reflectance_basis"] = modes(texture["eigVec"], np.sqrt(texture["eigVal"].ravel())) / unit
    return RawModel(
        name="lyhm",
        version=path.stem,
        licence="The Liverpool-York Head Model's own licence, which its owner accepted (University of York)",
        mean_shape=mean,
        shape_basis=modes(shape["eigVec"], np.sqrt(shape["eigVal"].ravel())),
        expression_basis=np.zeros((len(mean), 3, 0)),
        triangles=outward(mean, triangles - triangles.min()),
        notes="Liverpool-York Head Model, from its .mat file.",
        **colour,
    )


def _part(path: Path, name: str) -> dict[str, np.ndarray]:
    """mu, eigVec and eigVal of a structure; raises ModelFileError where one is missing."""
    structure = read_mat(path, (name,))[name]
    fields = structure.dtype.names or ()
    missing = [field for field in ("mu", "eigVec", "eigVal") if field not in fields]
    if missing:
        raise ModelFileError(
            f"{path} must hold {name}.{missing[0]}, and does not; import it as 'linear' (docs/importers.md)"
        )
    return {field: np.asarray(structure[field][0, 0], np.float64) for field in ("mu", "eigVec", "eigVal")}
