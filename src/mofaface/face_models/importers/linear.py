"""Any other linear model: an .npz or .h5 of arrays by the names of our own container (docs/importers.md).

mean_shape (N, 3) mm · shape_basis (N, 3, K) times σ · triangles (F, 3) from 0; optional: expression_basis (N, 3, K),
mean_reflectance (N, 3) and reflectance_basis (N, 3, K) in [0, 1], landmarks_68 (68), uv (N, 2).
"""

from pathlib import Path

import numpy as np

from mofaface.face_models.importers.basel import only_file
from mofaface.face_models.importers.matlab import read_h5
from mofaface.face_models.importers.raw import ModelFileError, RawModel, outward

NEEDED = ("mean_shape", "shape_basis", "triangles")


def read_linear(files: list[Path]) -> RawModel:
    """The arrays of the file as a model; `licence`, `name` and `notes` may be texts in it."""
    path = only_file(files, "a linear model", (".npz", ".h5", ".hdf5"))
    a = _read(path)
    missing = [name for name in NEEDED if name not in a]
    if missing:
        raise ModelFileError(
            f"{path} must hold {', '.join(missing)}; it holds {', '.join(sorted(a))} (docs/importers.md)"
        )
    N = len(a["mean_shape"])
    for name in ("mean_shape", "shape_basis", "expression_basis", "mean_reflectance", "reflectance_basis"):
        if name in a and a[name].shape[:2] != (N, 3):
            raise ModelFileError(
                f"{name} in {path} has one row of three for each of {N} vertices, got shape {a[name].shape}"
            )
    mean = a["mean_shape"].astype(np.float64)

    def number(name: str) -> np.ndarray | None:
        return a[name].astype(np.float64) if name in a else None

    return RawModel(
        name=_text(a, "name", path.stem),
        version=_text(a, "version", "1"),
        licence=_text(a, "licence", "not stated in its file"),
        mean_shape=mean,
        shape_basis=a["shape_basis"].astype(np.float64),
        expression_basis=a.get("expression_basis", np.zeros((N, 3, 0))).astype(np.float64),
        triangles=outward(mean, a["triangles"].astype(np.int64)),
        mean_reflectance=number("mean_reflectance"),
        reflectance_basis=number("reflectance_basis"),
        landmarks_68=a["landmarks_68"].ravel().astype(np.int64) if "landmarks_68" in a else None,
        uv=number("uv"),
        notes=_text(a, "notes", ""),
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    if path.suffix.lower() != ".npz":
        return read_h5(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} is no readable .npz of plain arrays ({error})") from error


def _text(a: dict[str, np.ndarray], name: str, default: str) -> str:
    value = np.ravel(a[name])[0] if name in a else default
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
