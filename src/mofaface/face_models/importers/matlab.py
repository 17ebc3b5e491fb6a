"""MATLAB's and HDF5's arrays from foreign files, with sentences for people."""

from pathlib import Path
from typing import Any

import numpy as np

from mofaface.face_models.importers.raw import ModelFileError

NEEDS = "reading this format needs SciPy and h5py: pip install 'mofaface[import-models]'"


def read_mat(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The named arrays of a .mat file of any version; raises ModelFileError where one is missing.

    Version 7.3 is HDF5 with every array transposed, which is undone.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ModelFileError(NEEDS) from error
    try:
        found: dict[str, Any] = loadmat(path, squeeze_me=False)
    except NotImplementedError:
        found = {name: array.T for name, array in read_h5(path).items()}
    except Exception as error:  # SciPy raises many kinds for a damaged file
        raise ModelFileError(f"{path} is no readable .mat file ({error}); copy it again") from error
    return _named(path, found, names)


def read_h5(path: Path) -> dict[str, np.ndarray]:
    """Every array of an HDF5 file by its path inside; raises ModelFileError for another file."""
    try:
        import h5py
    except ImportError as error:
        raise ModelFileError(NEEDS) from error
    arrays: dict[str, np.ndarray] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except OSError as error:
        raise ModelFileError(f"{path} is no readable HDF5 file ({error}); copy it again") from error
    return arrays


def _named(path: Path, found: dict[str, Any], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    missing = [name for name in names if name not in found]
    if missing:
        has = ", ".join(sorted(name for name in found if not name.startswith("_")))
        raise ModelFileError(f"{path} must hold {', '.join(missing)}; it holds {has}: is it of this format?")
    return {name: np.asarray(found[name]) for name in names}


def points(flat: np.ndarray) -> np.ndarray:
    """x y z x y z … as rows of three."""
    if flat.size % 3:
        raise ModelFileError(f"coordinates come in threes, got {flat.size}")
    return np.asarray(flat, np.float64).reshape(-1, 3)


def modes(columns: np.ndarray, sigma: np.ndarray | float = 1.0) -> np.ndarray:
    """Columns (3N, K) as (N, 3, K), times their standard deviations."""
    scaled = np.asarray(columns, np.float64) * np.asarray(sigma, np.float64)
    return scaled.reshape(-1, 3, columns.shape[-1])
