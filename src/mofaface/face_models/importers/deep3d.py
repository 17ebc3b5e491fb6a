"""Deep3D's front of the Basel model, and the paper's own model: BFM 2009 with FaceWarehouse expressions, 80/64/80."""

from pathlib import Path

import numpy as np

from mofaface.face_models.importers.basel import LICENCE, read_bfm2009
from mofaface.face_models.importers.matlab import modes, points, read_mat
from mofaface.face_models.importers.raw import ModelFileError, RawModel, outward

MM_PER_DECIMETRE = 100.0
MM_PER_MICROMETRE = 1e-3
SHAPE, EXPRESSION, REFLECTANCE = 80, 64, 80


def read_deep3d(files: list[Path]) -> RawModel:
    """BFM_model_front.mat: 80/64/80 modes on 35,709 vertices, decimetres."""
    mats = [path for path in files if path.suffix.lower() == ".mat"]
    if len(mats) != 1:
        raise ModelFileError(f"deep3d is one file, BFM_model_front.mat; got {len(mats)} .mat files")
    names = ("meanshape", "meantex", "idBase", "exBase", "texBase", "tri", "keypoints")
    a = read_mat(mats[0], names)
    mean = points(a["meanshape"]) * MM_PER_DECIMETRE
    return RawModel(
        name="bfm-deep3d",
        version="front",
        licence=LICENCE,
        mean_shape=mean,
        shape_basis=modes(a["idBase"]) * MM_PER_DECIMETRE,
        expression_basis=modes(a["exBase"]) * MM_PER_DECIMETRE,
        mean_reflectance=points(a["meantex"]) / 255,
        reflectance_basis=modes(a["texBase"]) / 255,
        triangles=outward(mean, a["tri"].astype(np.int64) - 1),
        landmarks_68=a["keypoints"].ravel().astype(np.int64) - 1,
        notes="Basel Face Model 2009 with FaceWarehouse expressions, as Deep3D's front model.",
    )


def read_bfm2009_exp(files: list[Path]) -> RawModel:
    """The paper's model: 80 shape and 80 reflectance modes of BFM 2009 and 64 expression modes of Exp_Pca.bin.

    Files: 01_MorphableModel.mat, Exp_Pca.bin, std_exp.txt, and BFM_exp_idx.mat (`trimIndex`, from 1), which says where the
    expression's vertices lie in BFM 2009.
    """
    mat, binary = (_named(files, name) for name in ("01_morphablemodel.mat", "exp_pca.bin"))
    deviations, index = _named(files, "std_exp.txt"), _named(files, "bfm_exp_idx.mat")
    base = read_bfm2009([mat])
    kept = read_mat(index, ("trimIndex",))["trimIndex"].ravel().astype(np.int64) - 1
    if kept.min() < 0 or kept.max() >= len(base.mean_shape):
        raise ModelFileError(f"{index} must number vertices of BFM 2009 from 1; it runs to {kept.max() + 1}")
    expression_mean, basis = read_exp_pca(binary, len(kept))
    # In micrometres, as shapeEV; Deep3D divides both by 1e5, which makes them decimetres.
    sigma = read_std_exp(deviations, basis.shape[-1])
    place = np.full(len(base.mean_shape), -1)
    place[kept] = np.arange(len(kept))
    triangles = place[base.triangles]
    assert base.mean_reflectance is not None and base.reflectance_basis is not None
    # Like Deep3D, the mean of the expressions is left out: δ = 0 is the neutral face.
    del expression_mean
    return RawModel(
        name="bfm2009-exp",
        version="2009+FaceWarehouse",
        licence=LICENCE,
        mean_shape=base.mean_shape[kept],
        shape_basis=base.shape_basis[kept, :, :SHAPE],
        expression_basis=(basis * sigma)[..., :EXPRESSION] * MM_PER_MICROMETRE,
        mean_reflectance=base.mean_reflectance[kept],
        reflectance_basis=base.reflectance_basis[kept, :, :REFLECTANCE],
        triangles=triangles[(triangles >= 0).all(axis=1)],
        notes="Basel Face Model 2009 (80 shape, 80 reflectance) with 64 expressions of FaceWarehouse (Exp_Pca.bin).",
    )


def _named(files: list[Path], name: str) -> Path:
    """The file of that name, whatever its case, among files and folders."""
    everything = [p for path in files for p in (path.iterdir() if path.is_dir() else (path,))]
    for path in everything:
        if path.name.lower() == name:
            return path
    raise ModelFileError(
        f"bfm2009-exp needs a file {name} (docs/importers.md); it is not among the files given"
    )


def read_exp_pca(path: Path, vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (N, 3) and unscaled modes (N, 3, K): int32 K, then float32 mean[3N] and K times 3N, little-endian."""
    content = path.read_bytes()
    count = int(np.frombuffer(content[:4], "<i4")[0]) if len(content) >= 4 else 0
    expected = 4 + 4 * 3 * vertices * (count + 1)
    if not 0 < count < 1000 or len(content) != expected:
        raise ModelFileError(
            f"{path} must hold {count} modes on {vertices} vertices in {expected} bytes; it has {len(content)}: "
            "copy it again"
        )
    numbers = np.frombuffer(content, "<f4", offset=4).astype(np.float64).reshape(count + 1, vertices, 3)
    return numbers[0], np.moveaxis(numbers[1:], 0, 2)


def read_std_exp(path: Path, modes: int) -> np.ndarray:
    """The modes' standard deviations, µm: a line or column of numbers."""
    try:
        found = np.loadtxt(path).ravel()
    except ValueError as error:
        raise ModelFileError(f"{path} must hold numbers, one for each expression mode: {error}") from error
    if len(found) < modes:
        raise ModelFileError(
            f"{path} must hold {modes} numbers, one for each expression mode; it has {len(found)}"
        )
    return found[:modes]
